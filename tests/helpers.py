"""Parametrisations, comparisons and a callback for several test files."""

import numpy as np
import pytest
import torch

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from tests.families import combinations_in_turns, location_scale_combinations

ESTIMATORS = [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
every_model = pytest.mark.parametrize(
    ("likelihood", "variance_mode", "covariance_type"), location_scale_combinations()
)
models_in_turns = pytest.mark.parametrize(
    ("likelihood", "variance_mode", "covariance_type"), combinations_in_turns()
)
ignore_floor = pytest.mark.filterwarnings(
    "ignore:The scales? of .* floor min_scale:sklearn.exceptions.ConvergenceWarning"
)
ignore_divergence = pytest.mark.filterwarnings(
    "ignore:Training diverged:sklearn.exceptions.ConvergenceWarning"
)
ignore_spread = pytest.mark.filterwarnings(
    "ignore:The standard deviations of the features differ:"
    "sklearn.exceptions.ConvergenceWarning"
)
FLOOR = "floor min_scale.*(Set min_scale to the precision|Lower min_scale)"


def weights(model):
    """Return all parameters and buffers of a fitted model as bytes."""
    state = model.module_.state_dict()
    return {name: tensor.cpu().numpy().tobytes() for name, tensor in state.items()}


def answers(model, X):
    """Return the results of all methods of a fitted model for X, by name."""
    said = {
        "transform": model.transform(X),
        "reconstruct": model.reconstruct(X),
        "score_samples": model.score_samples(X),
    }
    said["inverse_transform"] = model.inverse_transform(said["transform"])
    if isinstance(model, VariationalAutoencoder):
        said["mean"], said["std"] = model.posterior(X)
        said["log_marginal"] = model.log_marginal(X, n_samples=8)
        said["sample"] = model.sample(20, random_state=0)
    return said


def assert_same_answers(one, other, X):
    """Assert that two models give equal results for X."""
    mine, theirs = answers(one, X), answers(other, X)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def walk(value, path="state"):
    """Yield all objects inside a state, with their paths."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, f"{path}[{key!r}]")
    elif isinstance(value, (list, tuple, set)):
        for i, inner in enumerate(value):
            yield from walk(inner, f"{path}[{i}]")
    elif type(value).__module__.startswith(("skae.", "sklearn.")):
        yield from walk(value.__getstate__(), f"{path}.{type(value).__name__}")


def assert_plain_state(model):
    """Assert that the state of a model has arrays of numpy and plain values only.

    A parameter of the user may be a random state.
    """
    plain = (bool, int, float, str, type(None), np.generic, dict, list, tuple, slice)
    for path, value in walk(model.__getstate__()):
        is_ours = type(value).__module__.startswith(("skae.", "sklearn."))
        is_given = isinstance(value, np.random.RandomState) and path.endswith(
            "random_state']"
        )
        assert is_ours or is_given or isinstance(value, (np.ndarray, *plain)), path
        assert not isinstance(value, torch.nn.Module), path


def assert_finite(model, X):
    """Assert that the parameters of a model and its results for X are finite."""
    for name, tensor in model.module_.state_dict().items():
        assert torch.isfinite(tensor).all(), name
    for name, value in answers(model, X).items():
        assert np.isfinite(value).all(), name
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.score(X))


def models_of(likelihood, **parameters):
    """Make the variational and, if it exists, the deterministic model of a likelihood."""
    models = [VariationalAutoencoder(likelihood=likelihood, **parameters)]
    deterministic = {"gaussian": GaussianAutoencoder, "laplace": LaplaceAutoencoder}
    if likelihood in deterministic:
        models.append(deterministic[likelihood](**parameters))
    return models


class Recording:
    """A callback that records its arguments, and stops or raises at chosen epochs.

    Parameters
    ----------
    stop_after : int, default=None
        Epoch, counted from 1, after which the training is stopped.
    raise_at_end, raise_at_begin : (int, Exception), default=None
        Epoch at whose end or beginning the exception is raised.
    """

    def __init__(self, stop_after=None, raise_at_end=None, raise_at_begin=None):
        self.stop_after = stop_after
        self.raise_at_end = raise_at_end
        self.raise_at_begin = raise_at_begin
        self.begun, self.fitted, self.tasks, self.metadata = [], [], [], []
        self.n_setups = self.n_teardowns = 0

    def setup(self, estimator, context):
        self.n_setups += 1
        assert context.parent is None
        assert context.max_subtasks == estimator.max_iter

    def teardown(self, estimator, context):
        self.n_teardowns += 1

    def on_fit_task_begin(self, estimator, context, *, X=None):
        if context.parent is None:
            return
        self.begun.append(context.task_id)
        if self.raise_at_begin and len(self.begun) == self.raise_at_begin[0]:
            raise self.raise_at_begin[1]

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.tasks.append((context.task_name, context.task_id))
        self.fitted.append(fitted_estimator)
        self.metadata.append(metadata)
        if context.parent is None:
            return False
        if self.raise_at_end and context.task_id + 1 == self.raise_at_end[0]:
            raise self.raise_at_end[1]
        return context.task_id + 1 == self.stop_after
