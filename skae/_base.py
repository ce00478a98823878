"""What the three estimators have in common."""

import copy
import warnings
from abc import ABCMeta, abstractmethod
from dataclasses import fields, replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, validate_data

from skae._device import resolve_device
from skae._evaluate import settle
from skae._fit import train_jobs
from skae._fitted import FLOATS, FittedAutoencoder, fitted_attributes
from skae._fitting.lockstep import offload, shared_result
from skae._job import Job, Settings, is_built_in
from skae._module import AutoencoderModule, Spec
from skae._random import local_random_state
from skae._recorder import EpochCallbacks
from skae._rows import Rows, select_rows, split_validation
from skae._start import build_module, start
from skae._threads import suitable_threads
from skae._units import Units, measure
from skae.likelihoods import Likelihood
from skae.networks import ACTIVATIONS, NETWORKS, Network
from skae.scales import SCALES, check_scale
from skae.scales.fixed import check_fixed_scale

_SEEDS = np.iinfo(np.int32).max
# What scikit-learn's validation remembers of the data.
_SEEN = ("n_features_in_", "feature_names_in_")


def _attributes_now(
    module: AutoencoderModule, units: Units, further: dict[str, Any]
) -> dict[str, Any]:
    """Fitted attributes of a model in training."""
    module = copy.deepcopy(module).eval()
    module.leave_shared_memory()
    return {**fitted_attributes(module, units), **further}


def _of_starts(random_state: RandomState, n: int) -> list[RandomState]:
    """A source of randomness for each start; the first is the one of a fit with one."""
    if n == 1:
        return [random_state]
    seed = copy.deepcopy(random_state).randint(_SEEDS)
    return [random_state, *(RandomState([seed, i]) for i in range(1, n))]


class BaseAutoencoder(CallbackSupportMixin, FittedAutoencoder, metaclass=ABCMeta):
    """Parameters, their validation, and the fit.

    A subclass says which likelihood and which objective it stands for.
    See `GaussianAutoencoder`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "variance_mode": [StrOptions(set(SCALES))],
        "covariance_type": [StrOptions({"spherical", "diag"})],
        "scale": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "min_scale": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "network": [StrOptions(set(NETWORKS)), HasMethods(["encoder", "decoder"])],
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "init": [StrOptions({"pca", "random"})],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "shuffle": ["boolean"],
        "warm_start": ["boolean"],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "float64", "tf32", "bf16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # Of those that have a second term to look at it is a parameter.
    gradient_balance: bool | np.bool_ = False

    def __init__(
        self,
        n_components: int = 2,
        *,
        variance_mode: str = "optimal",
        covariance_type: str = "spherical",
        scale: float | ArrayLike = 1.0,
        min_scale: float | str = "auto",
        network: str | Network = "mlp",
        hidden_layer_sizes: int | ArrayLike = (64,),
        activation: str = "relu",
        init: str = "pca",
        n_init: int = 1,
        batch_size: int | str = "auto",
        max_iter: int = 100,
        learning_rate_init: float = 5e-3,
        alpha: float = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        shuffle: bool = True,
        warm_start: bool = False,
        device: str = "auto",
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
        self.learning_rate_init = learning_rate_init
        self.alpha = alpha
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.shuffle = shuffle
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def _make_likelihood(self) -> Likelihood:
        """The density of a feature given the decoder's output."""

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
        X : array-like of shape (n_samples, n_features)
            Training data, float32 or float64 (anything else is converted to float64).

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, none of them negative; only their ratios matter. With
            ``shuffle=True`` an integer weight is the same as that many copies of the
            sample, and an epoch is a pass over the different samples.

        X_val : array-like of shape (n_samples_val, n_features), default=None
            Validation data. With ``early_stopping=True`` they take the place of a part of
            X; else they are only scored after each epoch.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, if parameters contradict each other, or if X
            has NaN, infinities, strings or no samples; before any training.
        """
        self._validate_params()
        seen = {name: self.__dict__[name] for name in _SEEN if name in self.__dict__}
        try:
            # Gradients are wanted wherever in the user's torch code this call stands.
            with torch.inference_mode(False), torch.enable_grad():
                return self._fit(X, y, sample_weight, X_val)
        except BaseException:
            # An earlier fit, if there is one, stays usable.
            for name in _SEEN:
                self.__dict__.pop(name, None)
            self.__dict__.update(seen)
            raise

    def _fit(
        self,
        X: ArrayLike,
        y: Any,
        sample_weight: ArrayLike | None,
        X_val: ArrayLike | None,
    ) -> Self:
        objective, likelihood = self._make_objective(), self._make_likelihood()
        check_scale(self.variance_mode, self.covariance_type, likelihood)
        device = resolve_device(self.device)
        continued = self.warm_start and hasattr(self, "module_")
        data: np.ndarray = validate_data(self, X, dtype=FLOATS, reset=not continued)
        weight = _check_sample_weight(
            sample_weight,
            data,
            dtype=np.float64,
            ensure_non_negative=True,
            allow_all_zero_weights=False,
        )
        spec = Spec(
            n_features=data.shape[1],
            n_components=int(self.n_components),
            n_heads=objective.n_heads,
            network=self._make_network(),
            likelihood=copy.deepcopy(likelihood),
            variance_mode=self.variance_mode,
            covariance_type=self.covariance_type,
        )
        fixed_scale = None
        if self.variance_mode == "fixed":
            fixed_scale = check_fixed_scale(self.scale, self.covariance_type, data.shape[1])
        random_state = local_random_state(self.random_state)
        rows, validation = self._divide(data, weight, X_val, random_state)
        units = (
            self._units if continued else shared_result(measure, rows, self.covariance_type)
        )
        # What is shared with other calls is what is known of the rows, not their array.
        rows = replace(rows, X=data)
        if fixed_scale is not None:
            units.check_proportion("scale", self.scale)
            fixed_scale = units.per_scale(fixed_scale, self.covariance_type)
        elif not isinstance(self.min_scale, str):
            units.check_proportion("min_scale", self.min_scale, smallest=0.0)
        settings = Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})
        context = self._init_callback_context(max_subtasks=self.max_iter)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        told = {"estimator": self, "X": data, "y": y, "metadata": metadata}
        context.call_on_fit_task_begin(**told)
        random_states = _of_starts(random_state, 1 if continued else self.n_init)
        jobs = []
        for i, random_state in enumerate(random_states):
            module = build_module(
                spec,
                units,
                self.min_scale,
                settings.dtype,
                device,
                seed=random_state.randint(_SEEDS),
            )
            # A step goes over the weights three times: forwards, and backwards for two.
            step = 3 * settings.rows_per_batch(len(rows)) * module.n_weights
            with suitable_threads(step):
                if continued:
                    self._continue_from(module, fixed_scale)
                    first_objective = settle(module, objective, rows, units)
                else:
                    # A second start in closed form would be the first one again.
                    init = self.init if i == 0 else "random"
                    task = module, objective, rows, units
                    begin = partial(start, *task, init=init, fixed_scale=fixed_scale)
                    is_ours = is_built_in(module, objective)
                    first_objective = offload(begin) if is_ours else begin()
            callbacks = EpochCallbacks(
                context,
                told,
                partial(_attributes_now, module, units, self._further_attributes(None)),
                is_silent=i > 0,
            )
            jobs.append(
                Job(
                    module,
                    objective,
                    rows,
                    validation,
                    units,
                    settings if i == 0 else replace(settings, verbose=0),
                    callbacks,
                    random_state,
                    first_objective,
                )
            )
        outcomes = train_jobs(jobs)
        for message, category in dict.fromkeys(w for o in outcomes for w in o.warnings):
            # Above are fit, scikit-learn's callback wrapper, and who called.
            warnings.warn(message, category, stacklevel=4)
        results = [outcome.result() for outcome in outcomes]
        best = min(range(len(jobs)), key=lambda i: outcomes[i].loss)
        module, epochs = jobs[best].module, results[best]
        further = self._further_attributes(jobs[best])
        # Nothing of an earlier fit is touched before this one has succeeded.
        self._store(module, units, epochs, continued)
        for name, value in further.items():
            setattr(self, name, value)
        context.call_on_fit_task_end(**told, reconstruction_attributes={})
        return self

    def _further_attributes(self, job: Job | None) -> dict[str, Any]:
        """What a fit leaves beside the model; without a job, while that is in training."""
        return {}

    def _divide(
        self,
        data: np.ndarray,
        weight: np.ndarray,
        X_val: ArrayLike | None,
        random_state: RandomState,
    ) -> tuple[Rows, Rows | None]:
        """Rows to train on, and those to validate with, if there are any."""
        rows = shared_result(select_rows, data, weight, bool(self.shuffle))
        if X_val is not None:
            try:
                held_out = validate_data(self, X_val, dtype=FLOATS, reset=False)
            except (TypeError, ValueError) as error:
                raise type(error)(f"X_val cannot be used: {error}") from error
            return rows, select_rows(held_out, np.ones(len(held_out)), shuffle=False)
        if self.early_stopping:
            rows = replace(rows, X=data)
            return split_validation(rows, self.validation_fraction, random_state)
        return rows, None

    def _store(
        self,
        module: AutoencoderModule,
        units: Units,
        epochs: list[dict[str, float]],
        continued: bool,
    ) -> None:
        """Set the fitted attributes."""
        # Without a whole epoch there is nothing to tell.
        names = list(epochs[0]) if epochs else ["objective", "log_likelihood"]
        history = {name: np.array([e[name] for e in epochs]) for name in names}
        if continued and epochs:
            history = {
                name: np.concatenate([self.history_[name], values])
                for name, values in history.items()
                if name in self.history_
            }
        elif continued:
            history = self.history_
        for name, value in fitted_attributes(module, units).items():
            setattr(self, name, value)
        self.history_ = history
        self.loss_curve_ = history["objective"].tolist()
        self.n_iter_ = len(self.loss_curve_)

    def _make_network(self) -> Network:
        if isinstance(self.network, str):
            return NETWORKS[self.network](
                hidden_layer_sizes=self.hidden_layer_sizes, activation=self.activation
            )
        return clone(self.network, safe=False)

    def _continue_from(
        self, module: AutoencoderModule, fixed_scale: np.ndarray | None
    ) -> None:
        """Take over the weights of the last fit, if it was one of the same model."""
        before, now = self.module_.spec, module.spec
        for name in ("n_components", "variance_mode", "covariance_type", "network"):
            old, new = getattr(before, name), getattr(now, name)
            if repr(old) != repr(new):
                raise ValueError(
                    f"warm_start=True continues from the last fit, which had "
                    f"{name}={old!r} and not {new!r}. Set warm_start=False."
                )
        if type(before.likelihood) is not type(now.likelihood):
            raise ValueError(
                "warm_start=True continues from the last fit, which had another "
                "likelihood. Set warm_start=False."
            )
        floor = module.scale.floor.clone()
        module.load_state_dict(self.module_.state_dict())
        module.scale.floor.copy_(floor)
        if fixed_scale is not None:
            module.scale.start(torch.tensor(fixed_scale).to(module.ratio))
