"""A model that is to be trained, and what became of it."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor, nn

from skae._evaluate import mean_over_rows, settle, shared_scale, validation_score
from skae._module import AutoencoderModule
from skae._probe import GradientProbe
from skae._recorder import EpochCallbacks
from skae._rows import Rows
from skae._units import Units
from skae.engine import is_compilable, is_known
from skae.likelihoods import LIKELIHOODS
from skae.objectives import Objective

# Rows that are enough to see a scale while training, and whether it lies at its floor.
_SCALE_ROWS = 1024
_FLOOR = (
    "the model reproduces the training data to within their resolution, as happens with "
    "constant features, few samples or many components. The log-likelihood is finite, but "
    "says how small min_scale is. Set min_scale to the precision of the measurement, drop "
    "constant features, lower n_components, or use variance_mode='fixed'."
)


@dataclass(frozen=True)
class Settings:
    """The parameters of an estimator that rule its training."""

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
        """Lower precision of the products, if one is asked for."""
        return torch.bfloat16 if self.precision == "bf16" else None

    def rows_per_batch(self, n_samples: int) -> int:
        """Largest size of a batch.

        Parameters
        ----------
        n_samples : int
            Rows to train on.

        Returns
        -------
        int
            ``batch_size``, or for "auto" a sixteenth of the rows as a power of 2 between
            32 and 512.
        """
        if isinstance(self.batch_size, str):
            return int(np.clip(2 ** round(np.log2(n_samples / 16)), 32, 512))
        return int(self.batch_size)


def is_built_in(module: AutoencoderModule, objective: Objective) -> bool:
    """Whether nothing that a user wrote takes part in the arithmetic of a model.

    What users wrote may not like company, in another thread.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        What it minimises, or is scored by.

    Returns
    -------
    bool
        Whether its arithmetic may be done together with that of others.
    """
    return (
        objective.is_built_in
        and is_known(module.encoder)
        and is_known(module.decoder)
        and type(module.spec.likelihood) in LIKELIHOODS.values()
        and not vars(module.spec.likelihood)
    )


@dataclass
class Job:
    """A model that has been started, and all that its training needs.

    Attributes
    ----------
    module : AutoencoderModule
        The model; trained in place.
    objective : Objective
        What to minimise.
    rows : Rows
        Training data.
    validation : Rows or None
        Validation data.
    units : Units
        Statistics of the training data.
    settings : Settings
        How to train.
    callbacks : EpochCallbacks
        Who wants to know of the epochs.
    random_state : RandomState
        Source of the randomness.
    first_objective : float
        What :meth:`final_objective` is before the training.
    """

    module: AutoencoderModule
    objective: Objective
    rows: Rows
    validation: Rows | None
    units: Units
    settings: Settings
    callbacks: EpochCallbacks
    random_state: RandomState
    first_objective: float

    def program(self) -> object:
        """What jobs must have in common to be trained side by side.

        Returns
        -------
        object
            Equal for two such jobs; of a job that trains alone equal to itself only.
        """
        module, objective, settings = self.module, self.objective, self.settings
        spec, likelihood = module.spec, module.spec.likelihood
        # What users wrote may fail, and should then fail alone.
        is_theirs = not objective.is_built_in or bool(vars(likelihood))
        if not is_compilable(module, objective) or settings.autocast or is_theirs:
            return id(self)
        rows = settings.rows_per_batch(len(self.rows))
        return (
            (spec.n_features, spec.n_components, spec.variance_mode, spec.covariance_type),
            (_layers(module.encoder), _layers(module.decoder), type(likelihood)),
            (type(objective), objective.n_mc_samples, settings.precision),
            (str(module.ratio.device), rows, -(-len(self.rows) // rows), settings.shuffle),
        )

    def probe(self) -> GradientProbe | None:
        """What looks at the gradients, where they are asked for.

        Returns
        -------
        GradientProbe or None
            The probe.
        """
        if not self.settings.gradient_balance:
            return None
        return GradientProbe(self.module, self.objective, self.rows, self.units)

    def validate(self) -> float:
        """Score of the validation data as the model stands.

        Returns
        -------
        float
            The score, in nats, in the units of X.
        """
        assert self.validation is not None
        # A closed-form scale is only a running mean between the steps.
        some = self.rows.thin(_SCALE_ROWS)
        settle(self.module, self.objective, some, self.units)
        return validation_score(self.module, self.objective, self.validation, self.units)

    def final_objective(self) -> float:
        """Training objective with the scale that the whole training set wants.

        Returns
        -------
        float
            The objective, in nats, in the likelihood's units.
        """
        return settle(self.module, self.objective, self.rows, self.units)

    def scale(self) -> float | np.ndarray | None:
        """The model's scale as it stands.

        Returns
        -------
        float, ndarray of shape (n_features,) or None
            The scale in the units of X; None if it is a function of the code.
        """
        return shared_scale(self.module.scale, self.units)

    def floor_message(self) -> str | None:
        """What there is to say if a scale, or its mean over the data, is at its floor.

        Returns
        -------
        str or None
            A warning that says which scales, why, and what to change.
        """
        at_floor = self._is_at_floor()
        if not at_floor.any():
            return None
        if len(at_floor) == 1:
            where = "The scale of the likelihood is at its floor min_scale"
        else:
            features = np.flatnonzero(at_floor)
            shown = ", ".join(map(str, features[:10])) + (
                ", ..." if len(features) > 10 else ""
            )
            where = (
                f"The scale of {len(features)} of {len(at_floor)} features (columns "
                f"{shown}) is at its floor min_scale"
            )
        return f"{where}: {_FLOOR}"

    def _is_at_floor(self) -> np.ndarray:
        module, objective = self.module, self.objective

        def log_scale(y: Tensor, draws: Tensor) -> Tensor:
            return objective.expectation(
                module,
                y,
                draws,
                lambda x, _, outputs: module.scale.log_scale(outputs),
            )[0]

        if module.scale.is_shared:
            mean = module.scale.log_scale(module.ratio.new_empty(1, 0)).detach()
        else:
            some = self.rows.thin(_SCALE_ROWS)
            mean = mean_over_rows(module, objective, some, self.units, log_scale)
        return (mean.exp() <= 1.05 * module.scale.floor).cpu().numpy()[0]


def _layers(network: nn.Module) -> object:
    """What a network is made of, if the engine knows it."""
    shapes = [(name, p.shape) for name, p in network.named_parameters()]
    modules = network.named_modules(remove_duplicate=False)
    return tuple(type(module) for _, module in modules), tuple(shapes)


@dataclass
class Outcome:
    """What became of a job.

    Attributes
    ----------
    epochs : list of dict
        What is known of each epoch.
    loss : float
        What the fit is judged by: the training objective, or with early stopping minus the
        validation score.
    error : Exception or None
        What ended the training, if a callback or the validation raised something.
    warnings : list of (str, category)
        What the user has to be told, by the call of fit that it is about.
    """

    epochs: list[dict[str, float]]
    loss: float = math.inf
    error: Exception | None = None
    warnings: list[tuple[str, type[Warning]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._traceback = None if self.error is None else self.error.__traceback__

    def result(self) -> list[dict[str, float]]:
        """What is known of each epoch.

        Returns
        -------
        list of dict
            The epochs.

        Raises
        ------
        Exception
            What ended the training.
        """
        if self.error is not None:
            # One error may end several fits: each tells its own part of the way alone.
            raise self.error.with_traceback(self._traceback)
        return self.epochs
