"""Parameters, validation and fit of the three estimators."""

from __future__ import annotations

import os
from abc import ABCMeta, abstractmethod
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
)

from skae._data import Rows
from skae._fitting.problem import (
    CallbackSource,
    FitProblem,
    FitResult,
    TrainingOptions,
)
from skae._fitting.trainer import train
from skae._module import Spec
from skae._optim import SCHEDULES
from skae._utils.choices import (
    choices,
    positive_integer,
    validate_parameters,
)
from skae._utils.compat import CallbackSupportMixin, with_callbacks
from skae._utils.errors import NoStopIteration
from skae._utils.messages import warn_user, warnings_deferred
from skae._utils.names import ParametersMixin, missing_if, suggest_keywords
from skae._utils.namespaces import Home, home_of, on_host
from skae._utils.settings import training_mode
from skae.estimators.automatic import make_options, make_spec
from skae.estimators.binding import bind_table
from skae.estimators.fit_input import validate_fit
from skae.estimators.fitted import attributes_in_training, fitted_attributes
from skae.estimators.imputation import ImputationMixin
from skae.estimators.parameters import advice, advice_on_part, check_network
from skae.estimators.problems import build_problems, earlier_epochs
from skae.estimators.stream import partial_fit
from skae.estimators.stream_input import reason_against
from skae.estimators.table import Table
from skae.estimators.training_data import (
    TrainingData,
    attributes_at,
    divide,
    warn_of_tables_as_y,
)
from skae.estimators.warm_start import (
    concatenate_histories,
)
from skae.likelihoods import Likelihood
from skae.networks import ACTIVATIONS, NETWORKS, Network
from skae.objectives import Objective
from skae.scales import SCALES

# Attributes that scikit-learn's validation of X sets.
_ATTRIBUTES_OF_X = {"n_features_in_", "feature_names_in_"}


class BaseAutoencoder(
    ParametersMixin, CallbackSupportMixin, ImputationMixin, metaclass=ABCMeta
):
    """Parameters, their validation, and the fit.

    A subclass defines the likelihood and the objective. See `GaussianAutoencoder`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [
            positive_integer(),
            Interval(RealNotInt, 0, 1, closed="neither"),
            choices("auto"),
        ],
        "variance_mode": [StrOptions({"auto", *SCALES})],
        "covariance_type": [choices("spherical", "diag")],
        "scale": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "min_scale": [Interval(Real, 0, None, closed="neither"), choices("auto")],
        "network": [StrOptions(NETWORKS.keys()), HasMethods(["encoder", "decoder"])],
        "hidden_layer_sizes": ["array-like", positive_integer(), choices("auto")],
        "activation": [StrOptions(ACTIVATIONS.keys())],
        "init": [choices("pca", "random")],
        "n_init": [positive_integer()],
        "batch_size": [positive_integer(), choices("auto")],
        "max_iter": [positive_integer(), choices("auto")],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left"), choices("auto")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [positive_integer()],
        "tol": [Interval(Real, 0, None, closed="left")],
        "shuffle": ["boolean"],
        "warm_start": ["boolean"],
        "checkpoint": [str, os.PathLike, None],
        "checkpoint_interval": [
            positive_integer(),
            Interval(RealNotInt, 0, None, closed="neither"),
        ],
        "device": [str, torch.device],
        "precision": [choices("auto", "float32", "float64", "tf32", "bf16")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # What takes a table with strings.
    _advice_on_strings: ClassVar[str] = (
        "A table with categories takes VariationalAutoencoder(likelihood='mixed')."
    )

    n_iter_: int
    best_iter_: int

    # A parameter of the estimators whose objective has two terms.
    gradient_balance: bool | np.bool_ = False

    # What the next fit is to know of the columns, if its rows are a part of a table.
    _given_table: Table | None = None

    def __init__(
        self,
        n_components: int | float | str = 2,
        *,
        variance_mode: str = "auto",
        covariance_type: str = "spherical",
        scale: float | ArrayLike = 1.0,
        min_scale: float | str = "auto",
        network: str | Network = "mlp",
        hidden_layer_sizes: int | ArrayLike | str = (64,),
        activation: str = "relu",
        init: str = "pca",
        n_init: int = 1,
        batch_size: int | str = "auto",
        max_iter: int | str = 100,
        learning_rate: str = "cosine",
        learning_rate_init: float = 2e-2,
        alpha: float | str = 10.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        shuffle: bool = True,
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_interval: float = 30.0,
        device: str | torch.device = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = 0,
    ) -> None:
        self.n_components = n_components
        self.variance_mode = variance_mode
        self.covariance_type = covariance_type
        self.scale = scale
        self.min_scale = min_scale
        self.network = network
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.init = init
        self.n_init = n_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.alpha = alpha
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.shuffle = shuffle
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def _make_likelihood(self) -> Likelihood:
        """Make the density of a feature given the decoder's output."""

    def _validate_params(self) -> None:
        parameters = self.get_params(deep=False)
        name = type(self).__name__
        validate_parameters(self._parameter_constraints, parameters, name, advice)
        check_network(self.network, self.hidden_layer_sizes, name)

    @staticmethod
    def _advice_on_part(owner: str, value: Any, part: str) -> str:
        return advice_on_part(owner, value, part)

    @with_callbacks
    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
    ) -> Self:
        """Fit the model to data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data, float32 or float64 (anything else is converted to float64). NaN
            is missing: the likelihood is that of the observed entries. Rows without any
            observed entry are left out. Sparse data are made dense block by block.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, none of them negative. A weight is a number of copies of the
            sample, which need not be whole. Their sum is the sample size, which `alpha`
            refers to. An epoch takes each sample as many times as its weight, rounded up,
            each time with an equal part of the weight. If the weights add up to more than
            100,000, and to more than the number of different samples, all are reduced by
            one factor for the length of an epoch. With ``shuffle=True``, an integer
            weight equals that many copies, to the bit.

        X_val : array-like or sparse of shape (n_samples_val, n_features), default=None
            Validation data. With ``early_stopping=True`` they are used in place of a part
            of X; else they are only scored after each epoch.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            Before any training: if a parameter is out of range, if parameters contradict
            each other, if X has infinities, strings, no samples, or a column without any
            observed entry, or if the checkpoint is of another fit.

        KeyboardInterrupt
            After an interrupt (Ctrl-C) while the model is trained. The estimator is then
            fitted: with the model of the last whole epoch, which the message names, or as
            at any end of a training with the start, if that has the better objective, or
            the best epoch, with early stopping (`best_iter_`). Before the first step,
            the estimator stays as it was.
        """
        self._validate_params()
        earlier = {k: v for k, v in self.__dict__.items() if k in _ATTRIBUTES_OF_X}
        last = self.__dict__.get("module_")
        try:
            with training_mode(), NoStopIteration():
                return self._fit(X, y, sample_weight, X_val)
        except BaseException as error:
            if self.__dict__.get("module_") is last:
                if isinstance(error, KeyboardInterrupt) and not error.args:
                    error.args = ("interrupted before there is a model of this fit",)
                # An earlier fit stays usable. One assignment, so that a further interrupt
                # comes before or after it.
                names = self.__dict__.keys() - _ATTRIBUTES_OF_X
                self.__dict__ = {name: self.__dict__[name] for name in names} | earlier
            raise

    @missing_if(reason_against)
    @suggest_keywords
    def partial_fit(
        self, X: ArrayLike, y: Any = None, *, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train the model by one pass over a block of a stream.

        The first blocks start the model, later ones train it further; after `fit`, the
        model of the fit is trained further. Memory does not grow with the blocks. The
        learning rate falls by a rule of its own, and the model is a weighted average of the
        iterates. So it is of use after each block, and close to that of a `fit` with as
        many steps. For a small table, pass its blocks several times. The page on streams of
        the user guide has the rules, and what they lose.

        The parameters `max_iter`, `learning_rate`, `tol`, `n_iter_no_change`,
        `validation_fraction` and `warm_start` are not used.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A block of training data, as for `fit`: one sample or more. The first block
            defines columns and categories. It needs an observed entry in each column. A
            sparse block is made dense as a whole.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, none of them negative; numbers of copies, as for `fit`. A later
            block whose weights are all 0 changes nothing.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            Before any training: for what `fit` refuses, if the columns are not those of the
            first block, if parameters that define the model have changed since its first
            rows, and for parameters that make no sense in a stream: `early_stopping`,
            `checkpoint`, `n_init` above 1, a `kl_schedule` that changes, a `prior` and
            `gradient_balance`. With these, the method is missing for `hasattr`.

        KeyboardInterrupt
            After an interrupt (Ctrl-C). The estimator is then as it was before the call, as
            after any error.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skae import GaussianAutoencoder
        >>> X = load_digits().data
        >>> model = GaussianAutoencoder(4, random_state=0)
        >>> for start in range(0, len(X), 500):
        ...     model = model.partial_fit(X[start : start + 500])
        >>> model.n_iter_
        4
        """
        self._validate_params()
        before = self.__dict__.copy()
        try:
            with training_mode(), NoStopIteration():
                attributes = partial_fit(self, X, sample_weight)
            if attributes is not None:
                self.__dict__.update(attributes)
        except BaseException:
            self.__dict__ = before
            raise
        return self

    def _fit(
        self,
        X: ArrayLike,
        y: Any,
        sample_weight: ArrayLike | None,
        X_val: ArrayLike | None,
    ) -> Self:
        """Validate, build the problems, train them and store the best model."""
        objective = self._make_objective()
        home = home_of(X)
        X, sample_weight, X_val = map(on_host, (X, sample_weight, X_val))
        # Errors of a user's network and of the prior come without warnings of the data.
        with warnings_deferred():
            warn_of_tables_as_y(X, y)
            data = self._validate_fit(X, sample_weight, X_val, objective, home)
            spec, options = make_spec(self, objective, data), make_options(self, data)
            peers = data.rows.peers
            metadata = None if sample_weight is None else {"sample_weight": sample_weight}
            kwargs = {"estimator": self, "X": data.given, "y": y, "metadata": metadata}
            with peers.together():
                context = self._init_callback_context(max_subtasks=options.max_iter)
                context.call_on_fit_task_begin(**kwargs)
            problems = self._build_problems(spec, objective, options, data)
        # Epochs of a checkpoint are tasks that are over.
        for _ in range(problems[0].first_epoch - data.continuation.n_before):
            context.subcontext(task_name="epoch")
        # Of several starts, callbacks follow the first.
        problems[0].callbacks = CallbackSource(
            context,
            kwargs,
            # Not the problem itself: a reference cycle would keep X in memory.
            partial(
                attributes_in_training,
                problems[0].module,
                problems[0].objective,
                data.rows if data.validation is not None else None,
                data.standardization,
                data.table,
                self._extra_fitted_attributes(None),
            ),
        )
        results = train(problems)
        histories = [result.history() for result in results]
        best = min(range(len(results)), key=lambda i: results[i].loss)
        for message, category in results[best].warnings:
            warn_user(message, category)
        self._store(problems[best], results[best], histories[best], data)
        with peers.together():
            context.call_on_fit_task_end(**kwargs, reconstruction_attributes={})
        if any(result.is_interrupted for result in results):
            # The model is there, and whatever called this fit ends too.
            kept = problems[best]
            n_epochs, best_iter = len(histories[best]), results[best].best_iter
            message = kept.report.interruption(
                n_epochs, has_checkpoint=kept.checkpoint is not None
            )
            if best_iter != n_epochs:
                message += f" (kept: {kept.report.kept(best_iter)})"
            raise KeyboardInterrupt(message)
        return self

    def _validate_fit(
        self,
        X: ArrayLike,
        sample_weight: ArrayLike | None,
        X_val: ArrayLike | None,
        objective: Objective,
        home: Home | None,
    ) -> TrainingData:
        """Validate the input of a fit; see `skae.estimators.fit_input.validate_fit`."""
        return validate_fit(self, X, sample_weight, X_val, objective, home)

    def _bind(self, X: ArrayLike) -> Table:
        """Find out how the columns of a table are modelled, for fits to parts of it.

        Raises ValueError for what `fit` refuses.
        """
        self._validate_params()
        return bind_table(self, X, self._make_likelihood())

    @property
    def _fewest_samples(self) -> int:
        """Smallest number of samples of a table."""
        return 1

    def _divide(
        self,
        X: np.ndarray,
        weight: np.ndarray,
        held_out: np.ndarray | None,
        random_state: RandomState,
    ) -> tuple[Rows, Rows | None, bool]:
        """Divide the data; see `skae.estimators.training_data.divide`."""
        fraction = self.validation_fraction if self.early_stopping else None
        shuffle = bool(self.shuffle)
        return divide(X, weight, held_out, fraction, random_state, shuffle=shuffle)

    def _build_problems(
        self,
        spec: Spec,
        objective: Objective,
        options: TrainingOptions,
        data: TrainingData,
    ) -> list[FitProblem]:
        """Build a model for each start; see `skae.estimators.problems.build_problems`."""
        return build_problems(self, spec, objective, options, data)

    def _extra_fitted_attributes(self, problem: FitProblem | None) -> dict[str, Any]:
        """Return fitted attributes beside the model; None stands for a fit in progress."""
        return {}

    def _store(
        self,
        problem: FitProblem,
        result: FitResult,
        epochs: list[dict[str, float]],
        data: TrainingData,
    ) -> None:
        """Set the fitted attributes to those of the best start."""
        names = list(epochs[0]) if epochs else ["objective", "log_likelihood"]
        history = {name: np.array([epoch[name] for epoch in epochs]) for name in names}
        best_iter = result.best_iter
        n_earlier, last_best = earlier_epochs(self, data)
        if data.is_continued:
            # A start that is kept is the model of the last fit.
            best_iter = n_earlier + best_iter if best_iter else last_best
            earlier = {name: values[:n_earlier] for name, values in self.history_.items()}
            history = concatenate_histories(earlier, history)
        # A start that is kept is better than the model after all of the steps.
        n_steps = problem.n_batches * (best_iter or len(epochs))
        loss_curve = history["objective"].tolist()
        fitted = fitted_attributes(problem.module, data.standardization, data.table)
        # No attribute of an earlier fit is replaced before this fit has succeeded, and then
        # all at once, because an interrupt may come at any time.
        self.__dict__.update(
            {
                **fitted,
                **attributes_at(data.home, fitted["scale_"]),
                **self._extra_fitted_attributes(problem),
                "history_": history,
                "loss_curve_": loss_curve,
                # More than in the history, of which a stream keeps the newest part.
                "n_iter_": n_earlier + len(epochs),
                "best_iter_": best_iter,
                # What `partial_fit` goes on from.
                "_stream": None,
                "_fit_size": (problem.rows.n_samples, n_steps),
                "_training_state": data.continuation.keep(
                    result.state, n_earlier, last_best
                ),
            }
        )
