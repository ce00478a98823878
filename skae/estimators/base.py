"""Parameters, validation and fit of the three estimators."""

from __future__ import annotations

import copy
import os
from abc import ABCMeta, abstractmethod
from dataclasses import replace
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

from skae._data import Rows, Standardization, measure
from skae._evaluation import SCALE_ROWS, update_scale
from skae._fitting.diagnosis import start_error
from skae._fitting.initialization import build_module, initialize, move, release
from skae._fitting.link_start import add_links, statistics_type
from skae._fitting.lockstep import offload, shared_result
from skae._fitting.problem import (
    CONTINUED,
    CallbackSource,
    FitProblem,
    FitResult,
    TrainingOptions,
)
from skae._fitting.report import ProgressReport
from skae._fitting.size import check_memory
from skae._fitting.trainer import train
from skae._module import AutoencoderModule, Spec
from skae._optim import SCHEDULES
from skae._utils.choices import (
    choices,
    positive_integer,
    validate_parameters,
)
from skae._utils.column_errors import columns_named
from skae._utils.compat import CallbackSupportMixin, check_sample_weight, with_callbacks
from skae._utils.device import resolve_device
from skae._utils.errors import NoStopIteration
from skae._utils.messages import raise_deferred, warn_user, warnings_deferred
from skae._utils.names import ParametersMixin, missing_if, suggest_keywords
from skae._utils.namespaces import Home, device_name, home_of, on_host
from skae._utils.numbers import as_numbers
from skae._utils.random import draw_seed, local_random_state
from skae._utils.settings import training_mode
from skae._utils.threads import suitable_threads
from skae.estimators.automatic import make_options, make_spec
from skae.estimators.binding import bind_table, check_same_likelihood
from skae.estimators.fitted import fitted_attributes
from skae.estimators.imputation import ImputationMixin
from skae.estimators.parameters import advice, advice_on_part, check_network
from skae.estimators.resume import check_epochs, make_continuation
from skae.estimators.stream import partial_fit
from skae.estimators.stream_input import reason_against
from skae.estimators.table import Table
from skae.estimators.training_data import (
    HELD_OUT,
    TrainingData,
    attributes_at,
    check_min_scale,
    check_observed,
    check_precision,
    divide,
    warn_of_far_values,
    warn_of_network,
    warn_of_other_units,
    warn_of_spread,
    warn_of_tables_as_y,
)
from skae.estimators.warm_start import (
    WARM_START,
    concatenate_histories,
    continue_from,
)
from skae.likelihoods import Likelihood
from skae.networks import ACTIVATIONS, NETWORKS, Network
from skae.objectives import Objective
from skae.scales import SCALES, check_scale
from skae.scales.fixed import check_fixed_scale, warn_of_ignored_scale

# Attributes that scikit-learn's validation of X sets.
_ATTRIBUTES_OF_X = {"n_features_in_", "feature_names_in_"}


def _attributes_in_training(
    module: AutoencoderModule,
    objective: Objective,
    validated_rows: Rows | None,
    standardization: Standardization,
    table: Table,
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Return the fitted attributes of a model that is still in training.

    If there are validation data, the scale is the one of the validation score.
    """
    module = copy.deepcopy(module).eval()
    module.leave_shared_memory()
    if validated_rows is not None:
        some = validated_rows.subsample(SCALE_ROWS)
        update_scale(module, objective, some, standardization)
    return {**fitted_attributes(module, standardization, table), **extra}


def _set_start(
    problem: FitProblem,
    fixed_scale: np.ndarray | None,
    last: AutoencoderModule | None,
    device: torch.device,
) -> None:
    """Set the first weights of a problem, or take those of the last fit, on the device.

    A fixed scale, ``(1, 1)`` or ``(1, n_features)``, is in the likelihood's units.
    """
    module = problem.module
    if last is not None:
        move(module, device)
        continue_from(last, module, fixed_scale)
        release(module, problem.rows, problem.standardization)
    else:
        model = module, problem.objective, problem.rows, problem.standardization
        initialize(
            *model, init=problem.options.init, fixed_scale=fixed_scale, device=device
        )
    problem.first_objective = problem.start_objective()
    problem.report.start(problem.first_objective + problem.log_det_units)
    if problem.validation is not None:
        problem.first_score = problem.validation_score()


def _init_random_states(random_state: RandomState, n: int) -> list[RandomState]:
    """Return a generator for each start; the first one is that of a fit with one start."""
    if n == 1:
        return [random_state]
    seed = draw_seed(copy.deepcopy(random_state))
    return [random_state, *(RandomState([seed, i]) for i in range(1, n))]


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
            the best epoch, with early stopping (`best_iter_`).
        """
        self._validate_params()
        earlier = {k: v for k, v in self.__dict__.items() if k in _ATTRIBUTES_OF_X}
        last = self.__dict__.get("module_")
        try:
            with training_mode(), NoStopIteration():
                return self._fit(X, y, sample_weight, X_val)
        except BaseException:
            if self.__dict__.get("module_") is last:
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
        # Errors of a user's network and of the prior come before warnings of the data.
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
                _attributes_in_training,
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
        """Validate the input of a fit, which was at home; see `fit`."""
        is_continued = self.warm_start and self.__sklearn_is_fitted__()
        likelihood = self._make_likelihood()
        check_scale(self.variance_mode, self.covariance_type, likelihood)
        device = resolve_device(device_name(self.device, home))
        check_precision(self.precision, device)
        if is_continued:
            check_same_likelihood(self, X, likelihood, WARM_START)
        if is_continued and self._table.columns is not None:
            table = self._table
        else:
            given = self.__dict__.pop("_given_table", None)
            table = given or bind_table(self, X, likelihood, sample_weight)
        covariance_type = table.covariance_type(self.covariance_type)
        check_scale(self.variance_mode, covariance_type, table.likelihood)
        new = not is_continued
        features = table.encode(self, X, reset=new, takes_unknown=new)
        data = table.to_input(features)
        weight = check_sample_weight(
            as_numbers(sample_weight, "sample_weight"),
            data,
            dtype=np.float64,
            # Beside other processes, this one may have no samples.
            ensure_non_negative=data.shape[0] > 0,
            allow_all_zero_weights=self._fewest_samples == 0,
        )
        fixed_scale = None
        if self.variance_mode == "fixed":
            fixed_scale = check_fixed_scale(
                self.scale, covariance_type, self.n_features_in_
            )
            fixed_scale = table.per_feature(fixed_scale)
        elif not is_continued:
            warn_of_ignored_scale(self.scale, self.variance_mode)
        if not is_continued:
            warn_of_network(self)
        held_out = None
        if X_val is not None:
            try:
                held_out = table.to_input(table.encode(self, X_val))
            except (TypeError, ValueError) as error:
                raise type(error)(f"X_val cannot be used: {error}") from error
        continuation = make_continuation(
            self,
            objective,
            local_random_state(self.random_state),
            device,
            {
                "X": data,
                "sample_weight": None if sample_weight is None else weight,
                "X_val": held_out,
                "columns": table.columns,
            },
            self.module_ if is_continued else None,
        )
        random_state = continuation.random_state
        rows, validation, are_shared = self._divide(data, weight, held_out, random_state)
        names = table.feature_names(getattr(self, "feature_names_in_", None))
        kind = statistics_type(table.likelihood, covariance_type)
        has_part = self.early_stopping and held_out is None
        check_observed(rows, names, HELD_OUT if has_part else "")
        if is_continued:
            standardization = self._standardization
            standardization.check_range(data)
            warn_of_other_units(standardization, data, names)
        else:
            with columns_named(names):
                standardization = (
                    shared_result(measure, rows, kind)
                    if are_shared
                    else measure(rows, kind)
                )
        if are_shared:
            rows = replace(rows, X=data)
        if not is_continued:
            warn_of_far_values(rows, standardization, names)
            standardization = add_links(standardization, rows, table.likelihood)
            if covariance_type == "spherical":
                warn_of_spread(standardization, table, names)
        if fixed_scale is not None:
            if table.columns is None:
                standardization.check_proportion("scale", self.scale)
            fixed_scale = standardization.per_scale(fixed_scale, covariance_type)
        elif not isinstance(self.min_scale, str):
            check_min_scale(standardization, self.min_scale, self.precision)
        return TrainingData(
            data,
            features if table.columns is None else X,
            table,
            rows,
            validation,
            standardization,
            fixed_scale,
            device,
            is_continued,
            continuation,
            home,
        )

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
        """Build a model for each start, with its first weights."""
        size = data.rows.epoch_size, self.n_init
        peers = data.rows.peers
        with peers.together():
            check_memory(spec, objective, options, *size, data.device, peers.size)
        build = partial(self._build_problem, spec, objective, data)
        random_state = data.continuation.random_state
        if data.is_continued:
            n_epochs = data.continuation.n_before + options.max_iter
            continued = replace(options, init=CONTINUED, max_iter=n_epochs)
            problems = [build(continued, random_state, 0)]
        else:
            first, *others = _init_random_states(random_state, self.n_init)
            random = replace(options, init="random", verbose=0)
            # A second start in closed form would equal the first one.
            problems = [
                build(options, first, 0),
                *(build(random, other, i) for i, other in enumerate(others, 1)),
            ]
        errors = [start_error(problem) for problem in problems]
        if None not in errors:
            raise ValueError(errors[0])
        # Of several starts, those that are not finite are left out.
        return [p for p, error in zip(problems, errors, strict=True) if error is None]

    def _build_problem(
        self,
        spec: Spec,
        objective: Objective,
        data: TrainingData,
        options: TrainingOptions,
        random_state: RandomState,
        start: int,
    ) -> FitProblem:
        """Build a model with its first weights; a warm start takes the last fit's."""
        module = build_module(
            spec,
            data.standardization,
            self.min_scale,
            options.dtype,
            data.device,
            seed=draw_seed(random_state),
        )
        raise_deferred()
        continuation = data.continuation
        n_earlier, _ = self._earlier_epochs(data)
        report = ProgressReport(options.verbose, options.max_iter, n_earlier)
        name, precision = type(self).__name__, options.precision
        rows = data.rows, data.validation
        report.begin(name, module, *rows, precision, data.device)
        problem = FitProblem(
            module,
            objective,
            data.rows,
            data.validation,
            data.standardization,
            options,
            callbacks=None,
            random_state=random_state,
            feature_names=data.table.feature_names(
                getattr(self, "feature_names_in_", None)
            ),
            report=report,
            checkpoint=continuation.checkpoint,
            start=start,
            keeps_state=continuation.keeps_state,
        )
        last = self.module_ if data.is_continued else None
        set_start = partial(_set_start, problem, data.fixed_scale, last, data.device)
        multiply_adds = options.multiply_adds_per_step(data.rows.epoch_size, module)
        with suitable_threads(multiply_adds):
            if problem.capabilities.is_thread_safe:
                offload(set_start)
            else:
                set_start()
        problem.resumed = continuation.state_of(start, data.device)
        if problem.resumed is not None:
            check_epochs(problem.resumed, options.max_iter)
            report.resume(problem.resumed.epoch)
        return problem

    def _earlier_epochs(self, data: TrainingData) -> tuple[int, int]:
        """Return how many epochs of a warm start are of earlier trainings, and the best."""
        if not data.is_continued:
            return 0, 0
        if data.continuation.last is not None:
            return data.continuation.earlier
        # Fits of old pickles have no `best_iter_`.
        return self.n_iter_, getattr(self, "best_iter_", self.n_iter_)

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
        n_earlier, last_best = self._earlier_epochs(data)
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
