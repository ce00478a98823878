"""One model to fit: its data, its training options and its result."""

import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState

from skae._data import Rows, Standardization, batch_shape
from skae._evaluation import (
    SCALE_ROWS,
    Validated,
    finalize_scale,
    training_objective,
    validation_scores,
)
from skae._fitting.checkpoint import Checkpoint
from skae._fitting.report import ProgressReport
from skae._fitting.training_state import TrainingState
from skae._module import AutoencoderModule
from skae._utils.cached import cached
from skae._utils.compat import CallbackContext
from skae._utils.random import Stream, torch_generator
from skae.networks.randomness import training_streams
from skae.objectives import Objective

# Largest factor of the penalty. A larger one has the same result, weights of 0, but the
# squares of its gradients overflow float32.
_LARGEST_L2 = 1e12
# Rows that are enough to compare a model with its start: the objective of all rows differs
# by a 256th of the standard deviation of a row's, and the difference of both by less.
_COMPARED_ROWS = 2**16


# The value of ``init`` of a fit that begins with the model of the last one.
CONTINUED = "last"


@dataclass(frozen=True)
class TrainingOptions:
    """The parameters of an estimator that its training depends on."""

    init: str
    min_scale: float | str
    learning_rate: str
    batch_size: int | str
    max_iter: int
    learning_rate_init: float
    alpha: float
    early_stopping: bool
    n_iter_no_change: int
    tol: float
    shuffle: bool
    precision: str
    verbose: int
    gradient_balance: bool

    @property
    def dtype(self) -> torch.dtype:
        """Precision of parameters and batches."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def autocast(self) -> torch.dtype | None:
        """Lower precision of the products, or None."""
        return torch.bfloat16 if self.precision == "bf16" else None

    def rows_per_batch(self, epoch_size: int) -> int:
        """Return the largest size of a batch.

        "auto" is an eighth of an epoch as a power of 2 between 64 and 1,024.
        """
        if isinstance(self.batch_size, str):
            return int(np.clip(2 ** round(np.log2(epoch_size / 8)), 64, 1024))
        return int(self.batch_size)

    def multiply_adds_per_step(self, epoch_size: int, module: AutoencoderModule) -> int:
        """Return about how many multiply-adds one step of training takes."""
        # The products use the weights three times: forwards once, and backwards twice.
        return 3 * self.rows_per_batch(epoch_size) * module.n_weights


@dataclass(frozen=True)
class CallbackSource:
    """What scikit-learn's callbacks are called with in each epoch of a fit.

    Attributes
    ----------
    context : CallbackContext
        Context of the fit.
    kwargs : dict
        Arguments of the callbacks: estimator, X, y and metadata.
    fitted_attributes : callable
        Returns the attributes of an estimator that is fitted up to now.
    """

    context: CallbackContext
    kwargs: dict[str, Any]
    fitted_attributes: Callable[[], dict[str, Any]]


@dataclass
class FitProblem:
    """A model with its first weights, and all that its training needs.

    Attributes
    ----------
    module : AutoencoderModule
        The model; trained in place.
    objective : Objective
        The objective of the training.
    rows : Rows
        Training data.
    validation : Rows or None
        Validation data.
    standardization : Standardization
        Statistics of the training data.
    options : TrainingOptions
        Parameters of the training.
    callbacks : CallbackSource or None
        Arguments of the callbacks; None if no callback follows this model.
    random_state : RandomState
        Source of the randomness.
    first_objective : float
        Value of :meth:`start_objective` before the training.
    first_score : float
        Value of :meth:`validation_score` before the training; NaN without validation data.
    feature_names : sequence of str or None
        Names of the columns, if X had names.
    callback_lock : context manager
        Held while callbacks run, if several threads train.
    generators : list of Generator
        Sources of the order of the rows, on the CPU, and of the noise.
    streams : list of Stream
        Sources of what the networks draw from the global generators; empty if they draw
        nothing.
    checkpoint : Checkpoint or None
        The file of the fit.
    start : int
        Number of this start among those of the fit.
    resumed : TrainingState or None
        The state from which the training goes on, if it does.
    keeps_state : bool
        Whether the result has the state after the last epoch.
    report : ProgressReport
        What prints the progress.
    capabilities : Capabilities
        Capabilities of model and objective together.
    """

    module: AutoencoderModule
    objective: Objective
    rows: Rows
    validation: Rows | None
    standardization: Standardization
    options: TrainingOptions
    callbacks: CallbackSource | None
    random_state: RandomState
    first_objective: float = math.nan
    first_score: float = math.nan
    feature_names: Sequence[str] | None = None
    callback_lock: AbstractContextManager[Any] = field(default_factory=nullcontext)
    generators: list[torch.Generator] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    start: int = 0
    resumed: TrainingState | None = None
    keeps_state: bool = False
    report: ProgressReport = field(default_factory=ProgressReport)

    def __post_init__(self) -> None:
        # Here, in the fit that the problem belongs to: a user's part may raise.
        self.capabilities = self.module.capabilities & self.objective.capabilities
        hash(self.capabilities.batch_key)

    @property
    def l2(self) -> float:
        """Factor of half the squared weights in the objective: alpha over sample size."""
        return self.l2_of(self.rows.n_samples)

    def l2_of(self, n_samples: float) -> float:
        """Return the same factor for the sample size of a stream."""
        return min(self.options.alpha / n_samples, _LARGEST_L2)

    @cached
    def log_det_units(self) -> float:
        """Mean log-determinant of the map from the likelihood's units to those of X."""
        return self.standardization.mean_log_det(self.rows)

    def make_generators(self) -> None:
        """Make the sources of random numbers."""
        module, cpu = self.module, torch.device("cpu")
        self.generators = [
            torch_generator(self.random_state, device) for device in (cpu, module.device)
        ]
        # A module that may run at the same time as others cannot draw from the global
        # generators.
        if module.network_capabilities.is_thread_safe:
            return
        devices = sorted({cpu, module.device}, key=str)
        own = [torch_generator(self.random_state, device) for device in devices]
        self.streams = training_streams([module.encoder, module.decoder], own)

    @property
    def first_epoch(self) -> int:
        """Number of epochs that are done before the training."""
        return 0 if self.resumed is None else self.resumed.epoch

    @property
    def n_batches(self) -> int:
        """Number of steps of an epoch."""
        size = self.rows.epoch_size
        return batch_shape(size, self.options.rows_per_batch(size))[0]

    def batch_key(self) -> Hashable:
        """Return what problems must have in common to be trained side by side.

        The key of a problem that is trained alone equals no other key.
        """
        capabilities, options = self.capabilities, self.options
        if (
            not capabilities.has_analytic_gradient
            or capabilities.batch_key is None
            or options.autocast is not None
            or not self.rows.peers.is_alone
        ):
            return id(self)
        n_rows = options.rows_per_batch(self.rows.epoch_size)
        shape = batch_shape(self.rows.epoch_size, n_rows)
        # The rows of models side by side would lie in memory as no model alone has them.
        if shape[1] == 1:
            return id(self)
        # Adam counts the steps of all models together.
        training = options.precision, options.shuffle, n_rows, shape, self.first_epoch
        return capabilities.batch_key, training, str(self.module.device)

    @cached
    def compared_rows(self) -> Rows:
        """The training rows with which the model is compared with its start."""
        rows = self.rows
        # Rows of other processes would have to be sent.
        return rows.subsample(_COMPARED_ROWS) if rows.peers.is_alone else rows

    def start_objective(self) -> float:
        """Set a closed-form scale from the compared rows; return the objective with it.

        The objective is in nats, in the likelihood's units.
        """
        return finalize_scale(
            self.module, self.objective, self.compared_rows, self.standardization
        )

    def compared_objective(self, final: float) -> float:
        """Return what `start_objective` is compared with, after `final_objective`."""
        if self.compared_rows is self.rows:
            return final
        return training_objective(
            self.module, self.objective, self.compared_rows, self.standardization
        )

    def final_objective(self) -> float:
        """Set a closed-form scale from all training rows; return the objective with it.

        The objective is in nats, in the likelihood's units.
        """
        return finalize_scale(self.module, self.objective, self.rows, self.standardization)

    @cached
    def validated(self) -> Validated:
        """The model with its validation data, and rows that set a closed-form scale."""
        assert self.validation is not None
        capabilities, rows = self.capabilities, self.rows
        return Validated(
            self.module,
            self.objective,
            rows.subsample(SCALE_ROWS),
            self.validation,
            self.standardization,
            is_alone=not rows.peers.is_alone
            or not capabilities.has_analytic_gradient
            or capabilities.batch_key is None,
        )

    def validation_score(self) -> float:
        """Return the score of the validation data with the scale of the training data.

        It is in nats, in the units of X.
        """
        return validation_scores([self.validated])[0]


@dataclass
class FitResult:
    """The result of a fit problem.

    Attributes
    ----------
    epochs : list of dict
        The history of each epoch.
    loss : float
        The number that compares several starts: the training objective, or with early
        stopping minus the validation score.
    best_iter : int
        The epoch whose model is kept; 0 is the start.
    error : Exception or None
        The exception that ended the training.
    is_interrupted : bool
        Whether the user ended the training.
    state : TrainingState or None
        The state after the last epoch, if the problem keeps it.
    warnings : list of (str, category)
        Warnings for the user, to be issued by the call of ``fit``.
    """

    epochs: list[dict[str, float]]
    loss: float = math.inf
    best_iter: int = 0
    error: Exception | None = None
    is_interrupted: bool = False
    state: TrainingState | None = None
    warnings: list[tuple[str, type[Warning]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._traceback = None if self.error is None else self.error.__traceback__

    def history(self) -> list[dict[str, float]]:
        """Return the history of each epoch, or raise the exception that ended the fit."""
        if self.error is not None:
            # One exception may end several fits: each adds its own frames only.
            raise self.error.with_traceback(self._traceback)
        return self.epochs
