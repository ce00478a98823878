"""Faults in what a user passes and in the machine: what a fit does about each of them.

A *fault* changes an estimator, or what it calls, so that something goes wrong at the k-th
call. A fit then ends in a finite model or in an error that the fault allows. The user's own
exception must come out as it is, and an earlier fit of the estimator must survive.
"""

import pickle
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
from sklearn.base import clone
from sklearn.mixture import GaussianMixture
from torch import nn

from benchmarks.campaign.checks import Report, check_methods, check_state, same
from benchmarks.campaign.models import pick, support_of
from benchmarks.campaign.tables import mapped, normal
from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae._engine import analytic_step, step
from skae._fitting import trainer
from skae.estimators import base, fit_input, problems
from skae.likelihoods import LIKELIHOODS, LogisticLikelihood
from skae.networks import MLP
from tests.surroundings import changes, process_state

# Errors of parameters and of parts that do not fit.
_CLEAR = (ValueError, TypeError, RuntimeError)


class UserError(Exception):
    """The exception of a user's code."""


@dataclass
class Fault:
    """What goes wrong in a fit.

    Attributes
    ----------
    name : str
        What it is.
    parameters : dict
        Parameters of the estimator.
    callbacks : list
        Callbacks of the estimator.
    patches : list
        Context managers for the time of the fit.
    raised : Exception or None
        The exception that has to come out, as it is, if it is raised at all.
    allowed : tuple of type
        Other exceptions that the fit may end in.
    is_variational : bool
        Whether the fault needs a variational autoencoder.
    arguments : dict
        Other arguments of the fit.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    callbacks: list[Any] = field(default_factory=list)
    patches: list[Any] = field(default_factory=list)
    raised: BaseException | None = None
    allowed: tuple[type[BaseException], ...] = ()
    is_variational: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


FAULTS: dict[str, Callable[[np.random.Generator], Fault]] = {}


def fault(make):
    """Add a function to the faults, by its name in words."""
    FAULTS[make.__name__.replace("_", " ")] = make
    return make


class Counter:
    """A counter of calls, which does something at the k-th one and later.

    Parameters
    ----------
    k : int
        Number of the first call, counted from 1.
    action : callable
        Called with the arguments of each call from there on.
    """

    # Faults end with the fit: its model is used without them.
    are_active = True

    def __init__(self, k, action):
        self.k, self.action, self.n = k, action, 0

    def __call__(self, *args):
        self.n += 1
        return self.action(*args) if self.n >= self.k and Counter.are_active else None

    def __deepcopy__(self, memo):
        # The copy of a part has to count the same calls.
        return self


def throw(error):
    """Return a function that raises an exception."""

    def action(*args):
        raise error

    return action


class Hooks:
    """A callback that calls functions at the begin and the end of each epoch.

    Parameters
    ----------
    begin, end : callable, default=None
        They take the estimator; what ``end`` returns is the answer of the callback.
    """

    def __init__(self, begin=None, end=None):
        self.begin, self.end = begin, end

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if self.begin is not None and context.parent is not None:
            self.begin(estimator)

    def on_fit_task_end(self, estimator, context):
        if self.end is not None and context.parent is not None:
            return self.end(estimator)
        return False


@fault
def callback_raises(rng):
    error = pick(rng, UserError("of a callback"), KeyError("k"), MemoryError(), OSError(5))
    counter = Counter(int(rng.integers(1, 4)), throw(error))
    hooks = pick(rng, Hooks(begin=counter), Hooks(end=counter))
    return Fault("", callbacks=[hooks], raised=error)


@fault
def callback_returns_junk(rng):
    junk = pick(rng, None, 0, "", "stop", object(), np.nan, [], np.zeros(2), -1, np.True_)
    counter = Counter(int(rng.integers(1, 4)), lambda _: junk)
    return Fault("", callbacks=[Hooks(end=counter)], allowed=_CLEAR)


@fault
def callback_changes_the_estimator(rng):
    def change(estimator):
        pick(
            rng,
            lambda: estimator.set_params(n_components=7, max_iter=1),
            lambda: estimator.set_params(learning_rate_init=-1.0, network="none"),
            lambda: setattr(estimator, "likelihood", None),
            lambda: setattr(estimator, "beta", "much"),
            lambda: estimator.set_callbacks(),
            lambda: vars(estimator).pop("n_features_in_", None),
        )()

    counter = Counter(int(rng.integers(1, 4)), change)
    return Fault("", callbacks=[pick(rng, Hooks(counter), Hooks(end=counter))], allowed=())


@fault
def callback_stops(rng):
    counter = Counter(int(rng.integers(1, 4)), lambda _: True)
    return Fault("", callbacks=[Hooks(end=counter)])


@fault
def callback_fits_another(rng):
    X = rng.normal(size=(12, 3))

    def fit(estimator):
        pick(rng, GaussianAutoencoder, VariationalAutoencoder)(max_iter=1).fit(X).score(X)

    return Fault("", callbacks=[Hooks(Counter(int(rng.integers(1, 4)), fit))])


class Mixture(GaussianMixture):
    """A prior whose methods do something else at some calls.

    Parameters
    ----------
    where : str
        Name of the method.
    counter : Counter
        Called in place of the method; None stands for the usual result.
    """

    def __init__(self, where="fit", counter=None):
        super().__init__(2, random_state=0)
        self.where, self.counter = where, counter

    def _result(self, name, usual):
        found = self.counter(usual) if name == self.where else None
        return usual if found is None else found

    def fit(self, X, y=None):
        return self._result("fit", super().fit(X))

    def score_samples(self, X):
        return self._result("score_samples", super().score_samples(X))

    def sample(self, n_samples=1):
        return self._result("sample", super().sample(n_samples))


@fault
def prior_fails(rng):
    where = pick(rng, "fit", "score_samples", "sample")
    error = pick(rng, UserError("of a prior"), ValueError(), MemoryError(), StopIteration())
    prior = Mixture(where, Counter(1, throw(error)))
    return Fault("", {"prior": prior}, is_variational=True)


@fault
def prior_returns_junk(rng):
    where = pick(rng, "score_samples", "sample")
    junk = pick(
        rng, np.nan, "text", np.zeros((2, 2, 2)), np.full(5, np.nan), np.full((5, 9), 1.0),
        (np.zeros((5, 1)), None, None), [], {}, np.full(5, np.inf),
    )  # fmt: skip
    prior = Mixture(where, Counter(1, lambda _: junk))
    return Fault("", {"prior": prior}, is_variational=True)


class Network(MLP):
    """A network whose layers, or their results, are changed.

    Parameters
    ----------
    built : callable
        Takes the layers, and returns what the methods return.
    """

    def __init__(self, built=None):
        super().__init__((4,))
        self.built = built

    def encoder(self, n_features, n_outputs):
        return self.built(nn.Sequential(nn.Linear(n_features, 4), nn.Linear(4, n_outputs)))

    decoder = encoder


@fault
def network_cannot_be_built(rng):
    error = pick(rng, UserError("of a network"), MemoryError(), RuntimeError("no"))
    return Fault("", {"network": Network(throw(error))}, raised=error)


@fault
def network_is_none(rng):
    junk = pick(rng, None, (nn.Identity(), 1), "layers", nn.Linear, torch.zeros(2))
    return Fault("", {"network": Network(lambda _: junk)}, allowed=(TypeError,))


def hooked(rng, change):
    """Return a network whose results a function changes from a random call on."""
    counter = Counter(int(rng.integers(1, 12)), change)

    def built(layers):
        layers.register_forward_hook(lambda module, args, out: counter(out))
        return layers

    return Network(built)


@fault
def network_raises(rng):
    error = pick(
        rng, UserError("in a layer"), MemoryError(), RuntimeError("CUDA out of memory")
    )
    return Fault("", {"network": hooked(rng, throw(error))}, raised=error)


@fault
def network_returns_nan(rng):
    value = pick(rng, np.nan, np.inf, -np.inf, 1e30)
    part = pick(rng, slice(None), slice(0, 1))

    def change(out):
        out = out.clone()
        out[part] = value
        return out

    return Fault("", {"network": hooked(rng, change)}, allowed=(ValueError,))


@fault
def network_returns_junk(rng):
    change = pick(
        rng,
        lambda out: out[:, :0],
        lambda out: out[:1],
        lambda out: out.double(),
        lambda out: out.half(),
        lambda out: (out, out),
        lambda out: "layers",
        lambda out: out.detach(),
        lambda out: out[None],
        lambda out: out.to("meta"),
    )
    network = hooked(rng, change)
    return Fault("", {"network": network}, allowed=(*_CLEAR, AttributeError, IndexError))


@fault
def schedule_fails(rng):
    error = UserError("of a schedule")
    action = pick(
        rng, throw(error), lambda _: np.nan, lambda _: np.inf, lambda _: -1.0,
        lambda _: "half", lambda _: None, lambda _: np.ones(2), lambda _: 1e300,
    )  # fmt: skip
    counter = Counter(int(rng.integers(1, 9)), action)

    def schedule(progress):
        found = counter(progress)
        return progress if counter.n < counter.k else found

    return Fault(
        "", {"kl_schedule": schedule}, raised=error, allowed=_CLEAR, is_variational=True
    )


class Density(LogisticLikelihood):
    """A likelihood whose log-density is something else from some call on.

    Parameters
    ----------
    counter : Counter
        Called with the values.
    """

    def __init__(self, counter):
        self.counter = counter

    def log_prob(self, x, loc, log_scale):
        values = super().log_prob(x, loc, log_scale)
        found = self.counter(values)
        return values if found is None else found


@fault
def likelihood_fails(rng):
    error = UserError("of a likelihood")
    action = pick(
        rng, throw(error), lambda v: v * np.nan, lambda v: v[:, :1], lambda v: v.double(),
        lambda v: "values", lambda v: v - np.inf, lambda v: v.detach(),
    )  # fmt: skip
    likelihood = Density(Counter(int(rng.integers(1, 9)), action))
    allowed = (*_CLEAR, AttributeError)
    return Fault(
        "", {"likelihood": likelihood}, raised=error, allowed=allowed, is_variational=True
    )


def out_of_memory(rng):
    """Return an error of a machine without memory."""
    return pick(
        rng,
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"),
        torch.OutOfMemoryError("CUDA out of memory"),
    )


def failing(owner, name, error, k):
    """Return a patch by which the k-th call of a function raises an exception."""
    original, counter = getattr(owner, name), Counter(k, throw(error))

    def function(*args, **kwargs):
        counter()
        return original(*args, **kwargs)

    return mock.patch.object(owner, name, function)


@fault
def memory_ends_in_a_step(rng):
    error, k = out_of_memory(rng), int(rng.integers(1, 9))
    steps = (analytic_step.AnalyticStep, step.AutogradStep)
    patches = [failing(owner, "__call__", error, k) for owner in steps]
    return Fault("", patches=patches, raised=error)


@fault
def memory_ends_in_preparation(rng):
    error = out_of_memory(rng)
    owner, name = pick(
        rng,
        (fit_input, "measure"),
        *[(base, n) for n in ("divide", "make_spec")],
        *[(problems, n) for n in ("build_module", "initialize")],
        *[
            (trainer, n)
            for n in ("flatten", "Batches", "TrainingMonitor", "Adam", "make_step")
        ],
        (base, "fitted_attributes"),
    )
    return Fault("", patches=[failing(owner, name, error, 1)], raised=error)


@fault
def parameter_is_extreme(rng):
    name, values = pick(
        rng,
        ("learning_rate_init", (1e300, 1e-300, 1e8, np.nextafter(0, 1), np.float32(3))),
        ("alpha", (1e300, 1e-300, 0, 10**400, np.float64(1))),
        ("beta", (1e300, 1e-300, 0, 1e38, 1e10)),
        ("min_scale", (1e300, 1e-300, 1e-12, 1e6)),
        ("scale", (1e300, 1e-300, 1e150, np.ones(4))),
        ("tol", (1e300, 0, np.inf, 1e-300)),
        ("n_components", (1, 4, 64, 10**9, 0.5, 0.999999, 2**63, np.int8(3))),
        ("hidden_layer_sizes", ((), [], (1,), np.array([2, 3]), 1, (10**9,), (64,) * 30)),
        ("batch_size", (1, 7, 10**9, 2**70, np.uint8(3))),
        ("max_iter", (1, np.int64(2), "auto")),
        ("n_init", (1, 2, 9)),
        ("validation_fraction", (1e-300, 1 - 1e-16, 0.5)),
        ("n_iter_no_change", (1, 10**9, 2**70)),
        ("n_mc_samples", (1, 3, 64, 10**9)),
    )
    parameters = {name: pick(rng, *values)}
    if name == "scale":
        parameters["variance_mode"] = "fixed"
    if name in ("tol", "validation_fraction", "n_iter_no_change"):
        parameters["early_stopping"] = True
    needs = name in ("beta", "n_mc_samples")
    allowed = (ValueError, TypeError, MemoryError, OverflowError)
    return Fault("", parameters, allowed=allowed, is_variational=needs)


@fault
def parameter_is_invalid(rng):
    name = pick(
        rng, "learning_rate_init", "alpha", "min_scale", "n_components", "batch_size",
        "max_iter", "n_init", "n_iter_no_change", "hidden_layer_sizes", "activation",
        "init", "variance_mode", "covariance_type", "network", "precision", "device",
        "random_state", "validation_fraction", "tol",
    )  # fmt: skip
    value = pick(rng, -1, np.nan, "much", (0,), (-2, 3), object, 1j, b"pca", [[1]], {})
    return Fault("", {name: value}, allowed=(ValueError, TypeError))


@fault
def weights_are_hostile(rng):
    n = _N_ROWS
    weight = pick(
        rng,
        np.where(np.arange(n) == 0, 1e15, 1.0),
        10 ** rng.uniform(-300, 300, size=n),
        np.where(np.arange(n) < n - 1, 0.0, 1.0),
        np.zeros(n), np.full(n, np.nan), -np.ones(n), np.ones(n - 1), np.full(n, np.inf),
        np.full(n, 1e-320), np.full((n, 2), 1.0), ["heavy"] * n, rng.random(n) < 0.5,
    )  # fmt: skip
    # Weights that add up to much are long epochs.
    small = {"max_iter": 1, "batch_size": "auto"}
    return Fault(
        "", small, allowed=(ValueError, TypeError), arguments={"sample_weight": weight}
    )


# Rows of the tables.
_N_ROWS = 30


def draw(seed, index):
    """Return a fault, an estimator without and with it, and a table."""
    rng = np.random.default_rng([seed, index, 1])
    name = list(FAULTS)[index % len(FAULTS)]
    found = FAULTS[name](rng)
    found.name = name
    parameters = {
        "n_components": int(rng.integers(1, 4)),
        "hidden_layer_sizes": pick(rng, (), (4,), (3, 3)),
        "batch_size": pick(rng, "auto", 8),
        "init": pick(rng, "pca", "random"),
        "n_init": pick(rng, 1, 1, 1, 2),
        "early_stopping": bool(rng.random() < 0.2),
        "precision": pick(rng, "auto", "auto", "float64"),
        "max_iter": 4,
        "random_state": index,
    }
    kinds = [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]
    kind = VariationalAutoencoder if found.is_variational else pick(rng, *kinds)
    if kind is VariationalAutoencoder:
        # A mixed table is a frame, whose answers are no arrays.
        parameters["likelihood"] = pick(rng, *(set(LIKELIHOODS) - {"mixed", "categorical"}))
    estimator = kind(**parameters)
    # Before the fit of the fault changes the likelihood.
    support = support_of(estimator)
    if "likelihood" in found.parameters:
        support = "real"
        estimator.set_params(likelihood="logistic")
    X = mapped(normal(rng, n=_N_ROWS, d=4), support, rng)
    if rng.random() < 0.2:
        X[rng.random(X.shape) < 0.1] = np.nan
    return found, estimator, X


def check(seed, index):
    """Fit an estimator, then again with a fault, and return what happened."""
    found, estimator, X = draw(seed, index)
    report = Report()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = process_state()
        try:
            _check(found, estimator, X, report)
        # The campaign goes on after any error, and reports it.
        except Exception as error:
            report.violate("error", "".join(traceback.format_exception(error)))
        if moved := changes(before, process_state()):
            report.violate("global state", moved)
    return found, report


def _check(found, estimator, X, report):
    """Fit twice, the second time with the fault."""
    model = clone(estimator).fit(X)
    before, state = check_methods(model, X, report), _state(model)
    attributes = {k: v for k, v in vars(model).items() if k.endswith("_")}
    model.set_params(**found.parameters).set_callbacks(*found.callbacks)
    Counter.are_active = True
    with ExitStack() as stack:
        for patch in found.patches:
            stack.enter_context(patch)
        try:
            model.fit(X, **found.arguments)
        # Any error may follow a fault; the fault says which ones are allowed.
        except Exception as error:
            report.outcome = "refused"
            report.refusal = f"{type(error).__name__}: {error}"
            _check_error(error, found, report)
        finally:
            Counter.are_active = False
    model.set_callbacks()
    if report.outcome == "fitted":
        check_state(model, report)
        if hasattr(model, "n_features_in_"):
            check_methods(model, X, report)
        return
    now = {k: v for k, v in vars(model).items() if k.endswith("_")}
    if {k: id(v) for k, v in now.items()} != {k: id(v) for k, v in attributes.items()}:
        report.violate("earlier fit lost", sorted(now.keys() ^ attributes.keys()))
    model.set_params(**estimator.get_params(deep=False))
    if _state(model) != state:
        report.violate("earlier fit lost", "another state")
    after = check_methods(model, X, report)
    if differing := [name for name in before if not same(before[name], after[name])]:
        report.violate("earlier fit lost", differing)


def _state(model):
    """Return the arrays of a model as bytes."""
    return pickle.dumps(model.module_.get_arrays())


def _check_error(error, found, report):
    """Check an exception of the fit with the fault."""
    if error is found.raised:
        return
    # A user's StopIteration becomes a RuntimeError, so that no loop takes it for its end.
    if not isinstance(error, found.allowed) or not str(error):
        report.violate("wrong exception", "".join(traceback.format_exception(error)))
