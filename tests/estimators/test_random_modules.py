"""Fits own the random numbers of a user's modules, whatever generator they come from."""

import copy
import pickle
import random
from functools import partial

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.nn import functional as F

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from tests.callbacks import Callback
from tests.helpers import answers, assert_same_answers, every_estimator, weights
from tests.surroundings import nothing_global_changes

N_HIDDEN = 8


class Drawing(nn.Module):
    """A layer that applies a function of its input and of its mode."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x, self.training)


def in_training(function):
    """Return a layer that applies a random function while it is trained only."""
    return lambda: Drawing(lambda x, training: function(x) if training else x)


def always(function):
    """Return a layer that applies a random function in both modes."""
    return lambda: Drawing(lambda x, training: function(x))


class Images(nn.Module):
    """A layer of images for rows of hidden units."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.view(-1, 4, 2, 1)).flatten(1)


def shuffled(x):
    return x[:, torch.randperm(x.shape[1])]


def scaled_by_numpy(x):
    return x * float(np.random.uniform(0.5, 1.5))  # noqa: NPY002  (the global state)


def normal_of_numpy(x):
    return x + 0.1 * float(np.random.standard_normal())  # noqa: NPY002


def scaled_by_python(x):
    return x * random.uniform(0.5, 1.5)


DRAWS = {
    "randn_like": lambda x: x + 0.1 * torch.randn_like(x),
    "bernoulli": lambda x: x * torch.bernoulli(torch.full_like(x, 0.7)),
    "randperm": shuffled,
    "functional dropout": lambda x: F.dropout(x, 0.3, training=True),
    "multinomial": lambda x: x[:, torch.multinomial(torch.ones(N_HIDDEN), N_HIDDEN)],
    "numpy": scaled_by_numpy,
    "normal of numpy": normal_of_numpy,
    "python": scaled_by_python,
}
LAYERS = {
    "dropout": partial(nn.Dropout, 0.3),
    "alpha dropout": partial(nn.AlphaDropout, 0.3),
    "feature alpha dropout": lambda: Images(nn.FeatureAlphaDropout(0.3)),
    "dropout1d": partial(nn.Dropout1d, 0.3),
    "dropout2d": lambda: Images(nn.Dropout2d(0.3)),
    "rrelu": nn.RReLU,
    **{name: in_training(draw) for name, draw in DRAWS.items()},
}
EVER = {f"{name}, always": always(draw) for name, draw in DRAWS.items()}
SETTINGS = {
    "one start": {},
    "starts": {"n_init": 2, "init": "random"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "tol": 10.0},
    "balance": {"gradient_balance": True, "precision": "float64"},
}


class Random(BaseEstimator):
    """A specification whose networks have a layer that draws."""

    def __init__(self, layer="dropout", width=N_HIDDEN):
        self.layer = layer
        self.width = width

    def encoder(self, n_features, n_outputs):
        layer = (LAYERS | EVER)[self.layer]()
        first = nn.Linear(n_features, self.width)
        return nn.Sequential(first, nn.Tanh(), layer, nn.Linear(self.width, n_outputs))

    decoder = encoder


def model_with(layer, **parameters):
    """Make a model whose networks have this layer."""
    parameters = {"max_iter": 3, "random_state": 0} | parameters
    return VariationalAutoencoder(network=Random(layer), **parameters)


def move_global_generators(seed):
    """Set the global generators to another state."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    np.random.standard_normal()  # noqa: NPY002  (numpy keeps the second of two draws)


# Two of the settings for each layer, in turns.
@pytest.mark.parametrize(
    ("layer", "settings"),
    [
        pytest.param(layer, settings, id=f"{layer}-{settings}")
        for i, layer in enumerate(LAYERS | EVER)
        for j, settings in enumerate(SETTINGS)
        if (i + j) % 2 == 0
    ],
)
def test_fits_are_reproducible(layer, settings, X):
    """Two fits of one seed are equal to the bit, and nothing global moves."""
    found = []
    for seed in (1, 2):
        move_global_generators(seed)
        with nothing_global_changes():
            found.append(model_with(layer, **SETTINGS[settings]).fit(X))
    one, other = found
    assert weights(one) == weights(other)
    for name, values in one.history_.items():
        np.testing.assert_array_equal(values, other.history_[name], err_msg=name)
    another = model_with(layer, random_state=1, **SETTINGS[settings]).fit(X)
    assert weights(one) != weights(another)


@pytest.mark.parametrize("layer", EVER)
def test_methods_are_functions_of_the_data(layer, X):
    """A module that draws in evaluation mode too has the same draws at each call."""
    model = model_with(layer).fit(X)
    with nothing_global_changes():
        assert_same_answers(model, model, X)
        assert_same_answers(model, copy.deepcopy(model), X)
        assert_same_answers(model, pickle.loads(pickle.dumps(model)), X)
        model.impute(np.where(X > 3, np.nan, X), random_state=0)
    # The draws are there: without them the results are others.
    for network in (model.module_.encoder, model.module_.decoder):
        network[2].function = lambda x, training: x
    changed, values = answers(model, X), answers(model_with(layer).fit(X), X)
    assert not any(np.array_equal(changed[name], values[name]) for name in values)


@pytest.mark.parametrize("layer", ["dropout", "numpy", "python, always"])
@every_estimator
def test_warm_starts_are_reproducible(layer, estimator, X):
    """A fit that continues another one owns its random numbers, too."""
    found = []
    for seed in (1, 2):
        move_global_generators(seed)
        model = estimator(network=Random(layer), max_iter=2, random_state=0)
        with nothing_global_changes():
            found.append(model.fit(X).set_params(warm_start=True).fit(X))
    assert weights(found[0]) == weights(found[1])


@pytest.mark.parametrize("layer", ["rrelu", "normal of numpy", "python, always"])
def test_searches_are_reproducible(layer, X):
    """The fits of a search are those of fits alone, side by side or not."""
    grid = {"beta": [0.5, 1.0], "network__width": [N_HIDDEN]}
    move_global_generators(1)
    expected = GridSearchCV(model_with(layer), grid, cv=2).fit(X)
    move_global_generators(2)
    with nothing_global_changes():
        batched = BatchedGridSearchCV(model_with(layer), grid, cv=2).fit(X)
    with nothing_global_changes(), parallel_config("skae"):
        side_by_side = GridSearchCV(model_with(layer), grid, cv=2).fit(X)
    for search in (batched, side_by_side):
        name = "mean_test_score"
        np.testing.assert_array_equal(search.cv_results_[name], expected.cv_results_[name])
        assert weights(search.best_estimator_) == weights(expected.best_estimator_)


class OwnDraws(Callback):
    """A callback that draws from the global generators at the end of each epoch."""

    def __init__(self):
        self.draws = []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            fitted_estimator.score(np.zeros((3, 6)))
            self.draws.append(self.draw())
        return False

    @staticmethod
    def draw():
        numbers = np.random.standard_normal()  # noqa: NPY002
        return torch.rand(()).item(), numbers, random.random()


@pytest.mark.parametrize("layer", ["dropout", "normal of numpy", "python, always"])
def test_callbacks_have_the_global_generators(layer, X):
    """The draws of a callback are those of the user's seeds, and do not change a fit."""
    move_global_generators(5)
    expected = [OwnDraws.draw() for _ in range(3)]
    move_global_generators(5)
    callback = OwnDraws()
    followed = model_with(layer).set_callbacks(callback).fit(X)
    assert callback.draws == expected
    assert weights(followed) == weights(model_with(layer).fit(X))
