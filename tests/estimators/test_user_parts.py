"""Parts of a user are tried once, before the training, and errors name them."""

import math
import os
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import KernelDensity
from torch import nn

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.likelihoods import GaussianLikelihood, LocationScale
from skae.model_selection import BatchedGridSearchCV
from skae.networks import MLP, Conv
from skae.objectives import CyclicalSchedule
from tests.callbacks import Callback
from tests.helpers import answers, every_estimator, weights

DATA = np.random.default_rng(0).normal(size=(40, 5))
QUICK = {"max_iter": 2, "random_state": 0}


def refuses(call, error, *words):
    """Assert that a call raises an error with these words, and return it."""
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    return caught.value


@pytest.fixture
def no_training(monkeypatch):
    """Make `train` fail the test."""

    def train(*args, **kwargs):
        pytest.fail("the bad part was not refused before training")

    monkeypatch.setattr("skae.estimators.base.train", train)


# Priors.


class Prior(BaseEstimator):
    """A standard normal density, with functions that replace its results."""

    def __init__(self, scores=None, draws=None):
        self.scores = scores
        self.draws = draws

    def fit(self, X, y=None):
        self.width_ = X.shape[1]
        self.generator_ = np.random.default_rng(0)
        return self

    def score_samples(self, X):
        right = -0.5 * (X**2 + math.log(2 * math.pi)).sum(axis=1)
        return right if self.scores is None else self.scores(right)

    def sample(self, n_samples, random_state=None):
        right = self.generator_.normal(size=(n_samples, self.width_))
        return right if self.draws is None else self.draws(right)


def broken(right):
    raise ArithmeticError("no density here")


@pytest.mark.parametrize(
    ("parameters", "method", "came"),
    [
        ({"scores": broken}, "scored", "ArithmeticError('no density here')"),
        ({"scores": lambda s: s * np.nan}, "score_samples of 5 codes", "returned NaN"),
        ({"scores": lambda s: s + np.inf}, "score_samples of 5 codes", "NaN or infinity"),
        ({"scores": lambda s: s[:-1]}, "(5,)", "returned shape (4,)"),
        ({"scores": lambda s: s[:, None]}, "(5,)", "returned shape (5, 1)"),
        ({"scores": lambda s: s.mean()}, "(5,)", "returned shape ()"),
        ({"scores": lambda s: None}, "score_samples", "returned NaN or infinity|shape ()"),
        ({"scores": lambda s: ["a"] * 5}, "score_samples", "returned list"),
        ({"draws": lambda z: z[:, 0]}, "sample(5)", "returned shape (5,)"),
        ({"draws": lambda z: z.T}, "(5, 2)", "returned shape (2, 5)"),
        ({"draws": lambda z: z[:1]}, "(5, 2)", "returned shape (1, 2)"),
        ({"draws": lambda z: z[:, :1]}, "(5, 2)", "returned shape (5, 1)"),
        ({"draws": lambda z: z * np.nan}, "sample(5)", "returned NaN"),
        ({"draws": lambda z: (z.T, None)}, "(5, 2)", "returned shape (2, 5)"),
        ({"draws": lambda z: None}, "sample(5)", "returned"),
    ],
)
def test_bad_priors(parameters, method, came):
    """The fit is kept with N(0, I), and a warning names the class and the method."""
    model = VariationalAutoencoder(prior=Prior(**parameters), **QUICK)
    with pytest.warns(ConvergenceWarning, match="standard normal prior is used") as caught:
        model.fit(DATA)
    text = "".join(str(w.message) for w in caught)
    assert "Prior" in text
    assert method in text
    assert any(word in text for word in came.split("|"))
    assert model.prior_ is None
    expected = VariationalAutoencoder(**QUICK).fit(DATA)
    for name, value in answers(model, DATA).items():
        np.testing.assert_array_equal(value, answers(expected, DATA)[name], err_msg=name)


def test_the_trial_moves_nothing_of_the_prior():
    """A prior that keeps a random state has it where its fit left it."""
    model = VariationalAutoencoder(prior=Prior(), **QUICK).fit(DATA)
    expected = np.random.default_rng(0).normal(size=3)
    np.testing.assert_array_equal(model.prior_.generator_.normal(size=3), expected)


@pytest.mark.parametrize(
    "prior", [GaussianMixture(3), KernelDensity(kernel="tophat", bandwidth=0.5)]
)
def test_good_priors(prior):
    """A tuple of draws is right, and so is a density of 0 at some codes."""
    model = VariationalAutoencoder(1, prior=prior, **QUICK).fit(DATA)
    assert type(model.prior_) is type(prior)
    assert model.sample(4).shape == (4, 5)


# Networks.


class Made(BaseEstimator):
    """A specification whose networks have their output changed by a function."""

    def __init__(self, encoder_change=None, decoder_change=None):
        self.encoder_change = encoder_change
        self.decoder_change = decoder_change

    def encoder(self, n_features, n_outputs):
        return Changed(n_features, n_outputs, self.encoder_change)

    def decoder(self, n_components, n_outputs):
        return Changed(n_components, n_outputs, self.decoder_change)


class Changed(nn.Module):
    """An affine map and a function of its output; counts its calls."""

    def __init__(self, n_in, n_out, change):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)
        self.change = change
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        y = self.layer(x)
        return y if self.change is None else self.change(y)


CHANGES = [
    (lambda y: y[:, :1], ValueError, "but returned one of shape (4, 1)"),
    (lambda y: y[:1], ValueError, "but returned one of shape (1, "),
    (lambda y: y[:, 0], ValueError, "but returned one of shape (4,)"),
    (lambda y: y.sum(), ValueError, "but returned one of shape ()"),
    (lambda y: torch.cat([y, y], dim=1), ValueError, "but returned one of shape (4, "),
    (lambda y: y.double(), ValueError, "but returned torch.float64"),
    (lambda y: y.detach().numpy(), TypeError, "but returned ndarray"),
    (lambda y: (y, y), TypeError, "but returned tuple"),
    (lambda y: None, TypeError, "but returned NoneType"),
]


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize(("change", "error", "came"), CHANGES)
@every_estimator
def test_bad_networks(estimator, change, error, came, part):
    """The error names the method, the class, and the shape that is needed."""
    network = Made(**{f"{part}_change": change})
    model = estimator(variance_mode="predicted", network=network, **QUICK)
    heads = 2 if estimator is VariationalAutoencoder else 1
    width = 2 * heads if part == "encoder" else 6
    need = f"must return a tensor of shape (4, {width})"
    refuses(lambda: model.fit(DATA), error, f"Made.{part}", "Changed", need, came)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_an_error_of_a_network_has_a_note(part):
    """The exception is the user's own, with the shapes that it was called with."""

    def fails(y):
        raise LookupError("mine")

    model = GaussianAutoencoder(network=Made(**{f"{part}_change": fails}), **QUICK)
    error = refuses(lambda: model.fit(DATA), LookupError, "mine")
    assert f"Made.{part}" in error.__notes__[0]
    assert f"shape (4, {5 if part == 'encoder' else 2})" in error.__notes__[0]


@pytest.mark.usefixtures("no_training")
def test_a_specification_without_modules():
    """What `encoder` returns must be a module."""

    class NoModule(Made):
        def decoder(self, n_components, n_outputs):
            return lambda z: z

    model = GaussianAutoencoder(network=NoModule(), **QUICK)
    refuses(lambda: model.fit(DATA), TypeError, "NoModule.decoder must return a torch.nn.")


class OfFunction(BaseEstimator):
    """A specification whose networks a function makes."""

    def __init__(self, make):
        self.make = make

    def encoder(self, n_features, n_outputs):
        return self.make(n_features, n_outputs)

    def decoder(self, n_components, n_outputs):
        return self.make(n_components, n_outputs)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("make", "came"),
    [
        (lambda n_in, n_out: nn.Linear(10, n_out), "mat1 and mat2 shapes"),
        (lambda n_in, n_out: nn.Sequential(nn.LayerNorm(7)), "normalized_shape=[7]"),
        (lambda n_in, n_out: nn.Unflatten(1, (3, 4)), "Unflatten|unflatten"),
    ],
)
def test_networks_of_a_wrong_input_size(make, came):
    """torch's error is the cause of one that names the method and the sizes."""
    model = VariationalAutoencoder(3, network=OfFunction(make), **QUICK)
    error = refuses(
        lambda: model.fit(DATA),
        ValueError,
        "The network that OfFunction.encoder returns",
        "was called with a tensor of shape (4, 5), and must return one of shape (4, 6)",
        "the two arguments of OfFunction.encoder, which were 5 and 6",
    )
    assert isinstance(error.__cause__, RuntimeError)
    assert any(word in str(error) for word in came.split("|"))


class Usual(nn.Module):
    """The autoencoder of a user: both networks are modules, and not functions."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 2))
        self.decoder = nn.Linear(2, 5)


class OneSize:
    """A specification whose decoder takes one size."""

    def encoder(self, n_features, n_outputs):
        return nn.Linear(n_features, n_outputs)

    def decoder(self, n_components):
        return nn.Linear(n_components, 5)


BAD_SPECIFICATIONS = [
    (Usual(), "encoder(n_features, n_outputs)", "Usual.encoder is itself a module, Seq"),
    (OneSize(), "decoder(n_components, n_outputs)", "OneSize.decoder takes (n_components"),
    (MLP((4, 0)), "must be positive integers", "(4, 0)"),
    (MLP(dropout=1.5), "dropout must be", "1.5"),
    (Conv((1, 1, 5), channels=()), "channels must have", "()"),
    (Conv((1, 1, 5), hidden_layer_sizes=[0]), "must be positive integers", "[0]"),
]


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(("network", "need", "came"), BAD_SPECIFICATIONS)
@every_estimator
def test_specifications_are_checked_before_the_data(estimator, network, need, came):
    """The error comes before warnings about the data, which are errors here."""
    bad_data = DATA * [1, 1, 1, 1, 1e6]
    model = estimator(network=network, **QUICK)
    refuses(lambda: model.fit(bad_data), ValueError, need, came)
    refuses(lambda: model.partial_fit(bad_data), ValueError, need, came)
    widths = estimator(hidden_layer_sizes=[64, 0], **QUICK)
    refuses(lambda: widths.fit(bad_data), ValueError, "must be positive integers", "64, 0")


MIXING = {
    "softmax": lambda y: y.softmax(dim=0),
    "mean of the rows": lambda y: y - y.mean(dim=0),
    "batch statistics": lambda y: nn.functional.batch_norm(y, None, None, training=True),
    "attention": lambda y: torch.softmax(y @ y.T, dim=1) @ y,
}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("change", MIXING.values(), ids=MIXING)
def test_networks_that_mix_rows(change, part):
    """What a row gets would depend on the rows beside it."""
    model = VariationalAutoencoder(3, network=Made(**{f"{part}_change": change}), **QUICK)
    refuses(
        lambda: model.fit(DATA),
        ValueError,
        f"The network that Made.{part} returns, Changed, must return the same for a row",
        "2 rows",
    )


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("change", [lambda y: y[:, :-1], lambda y: y.softmax(dim=0)])
def test_bad_networks_are_refused_before_warnings_of_the_data(change, method):
    """With a good network, the same data are warned of."""
    X = DATA.copy()
    X[::4, 0] = -999
    bad, good = Made(decoder_change=change), Made()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = VariationalAutoencoder(3, network=bad, activation="tanh", **QUICK)
        refuses(lambda: getattr(model, method)(X), ValueError, "Made.decoder")
    assert caught == []
    model = VariationalAutoencoder(3, network=good, activation="tanh", **QUICK)
    with (
        pytest.raises(pytest.fail.Exception) if method == "fit" else nullcontext(),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        getattr(model, method)(X)
    texts = [str(w.message) for w in caught if w.category is UserWarning]
    # In the order of the checks, at the line of the user.
    assert texts[0].startswith("activation='tanh' is ignored")
    assert "one number far beside" in texts[1]
    assert caught[0].filename == caught[1].filename == __file__


@pytest.mark.usefixtures("no_training")
def test_other_errors_come_after_warnings_of_the_data():
    """The warning may say why, as of a column of categories that does not fit in memory."""
    X = DATA.copy()
    X[::4, 0] = -999
    model = VariationalAutoencoder(3, hidden_layer_sizes=(30_000_000,) * 2, **QUICK)
    with (
        pytest.warns(UserWarning, match="one number far beside"),
        pytest.raises(MemoryError, match="Lower hidden_layer_sizes"),
    ):
        model.fit(X)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("Prior", [GaussianMixture, BayesianGaussianMixture])
@pytest.mark.parametrize("shares", [None, np.full(40, 1e-3)])
def test_priors_of_more_components_than_rows(Prior, shares):
    """The mixture sees 8,192 draws, and so cannot tell."""
    X = DATA.copy()
    X[::4, 0] = -999
    model = VariationalAutoencoder(2, prior=Prior(n_components=41), **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refuses(
            lambda: model.fit(X, sample_weight=shares),
            ValueError,
            "Expected n_samples >= n_components of the prior",
            "got n_components = 41, n_samples = 40",
        )


def test_priors_of_as_many_components_as_rows():
    """A weight stands for rows, and so does a row that is repeated."""
    for n, repeats in ((40, None), (80, np.full(40, 2.0))):
        prior = GaussianMixture(n, max_iter=1)
        model = VariationalAutoencoder(2, prior=prior, **QUICK)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            assert model.fit(DATA, sample_weight=repeats).prior_.n_components == n


def batch_normed(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.BatchNorm1d(8), nn.Linear(8, n_out))


@pytest.mark.parametrize(
    "make",
    [
        batch_normed,
        lambda n_in, n_out: Changed(n_in, n_out, lambda y: y + torch.randn_like(y)),
        lambda n_in, n_out: Changed(n_in, n_out, lambda y: y.softmax(dim=1)),
        lambda n_in, n_out: Changed(n_in, n_out, lambda y: 0 * y),
    ],
    ids=["batch norm", "random", "softmax of columns", "zero"],
)
@pytest.mark.parametrize("precision", ["float32", "float64", "bf16"])
def test_networks_that_do_not_mix_rows_in_evaluation(make, precision):
    """A batch norm has its means then, and of what is random nothing is known."""
    model = VariationalAutoencoder(network=OfFunction(make), precision=precision, **QUICK)
    assert np.isfinite(model.fit(DATA).score(DATA))


@pytest.mark.parametrize("precision", ["float32", "float64", "bf16"])
def test_good_networks(precision):
    """A right network is fitted, and the trial call leaves no trace in it."""
    model = GaussianAutoencoder(network=Made(), precision=precision, **QUICK).fit(DATA)
    assert 4 not in model.module_.encoder.calls
    dropout = VariationalAutoencoder(network=Made(nn.Dropout(0.5)), **QUICK)
    assert weights(dropout.fit(DATA)) == weights(dropout.fit(DATA))


# Likelihoods and schedules.


class Own(LocationScale):
    """A Gaussian density with functions that replace its results."""

    unit_stddev = 1.0

    def __init__(self, **changes):
        self.changes = changes
        self.has_optimal_scale = "deviation" in changes or "optimal_scale" in changes
        if "unit" in changes:
            self.unit_stddev = changes["unit"]

    def _change(self, name, value):
        return self.changes[name](value) if name in self.changes else value

    def standard_log_prob(self, t, *, out=None):
        right = -0.5 * t.square() - 0.5 * math.log(2 * math.pi)
        return self._change("log_prob", right)

    def sample(self, loc, log_scale, generator):
        noise = torch.empty_like(loc).normal_(generator=generator)
        return self._change("sample", loc + log_scale.exp() * noise)

    def start_outputs(self, n_features):
        return self._change("start_outputs", super().start_outputs(n_features))

    def given(self, outputs):
        return self._change("given", super().given(outputs))

    def mean(self, loc, log_scale):
        return self._change("mean", super().mean(loc, log_scale))

    def deviation(self, residual, *, out=None):
        return self._change("deviation", residual.square())

    def optimal_scale(self, mean_deviation):
        return self._change("optimal_scale", mean_deviation.sqrt())


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"log_prob": lambda p: p.sum(dim=1)}, ValueError, "Own.log_prob"),
        ({"log_prob": lambda p: p[:, :1]}, ValueError, "Own.log_prob must return"),
        ({"log_prob": lambda p: p * math.nan}, ValueError, "Own.log_prob returned NaN"),
        ({"log_prob": lambda p: p.double()}, ValueError, "torch.float64"),
        ({"deviation": lambda r: r.mean()}, ValueError, "Own.deviation must return"),
        ({"deviation": lambda r: r.numpy()}, TypeError, "Own.deviation must return"),
        ({"optimal_scale": lambda s: s[0]}, ValueError, "Own.optimal_scale must return"),
        ({"unit": 0.0}, ValueError, "Own.unit_stddev must be a number above 0"),
        ({"unit": "1"}, ValueError, "Own.unit_stddev must be a number above 0"),
        ({"start_outputs": lambda o: 3}, TypeError, "Own.start_outputs must return"),
        ({"start_outputs": lambda o: o[None]}, TypeError, "a tensor of one axis"),
        ({"given": lambda s: None}, TypeError, "Own.given must return a Likelihood"),
        ({"mean": lambda m: m[:, :1]}, ValueError, "Own.mean must return"),
    ],
)
def test_bad_likelihoods(changes, error, words):
    """The error names class and method."""
    model = VariationalAutoencoder(
        likelihood=Own(**changes), variance_mode="learned", **QUICK
    )
    refuses(lambda: model.fit(DATA), error, words)


def test_a_likelihood_whose_draws_have_another_shape():
    """`sample` says so; the rest of the model works."""
    model = VariationalAutoencoder(
        likelihood=Own(sample=lambda x: x[:, 0]), variance_mode="learned", **QUICK
    ).fit(DATA)
    assert np.isfinite(model.score(DATA))
    refuses(lambda: model.sample(3), ValueError, "Own.sample", "(3, 5)", "(3,)")
    assert model.sample(3, noise=False).shape == (3, 5)


def test_a_good_likelihood_is_that_of_the_registry():
    """A density written again gives the fit of the built-in one."""
    own, built_in = (
        VariationalAutoencoder(likelihood=p, variance_mode="learned", **QUICK).fit(DATA)
        for p in (Own(), GaussianLikelihood())
    )
    assert own.score(DATA) == pytest.approx(built_in.score(DATA), rel=1e-4)


@pytest.mark.parametrize("late", [None, "0.5", math.nan, -1.0, [1.0]])
def test_a_schedule_that_gives_no_number_later(late):
    """Between the times that are tried first, too."""
    times = {round(i / 100, 12) for i in range(101)}

    def schedule(progress):
        return 1.0 if round(progress, 12) in times else late

    model = VariationalAutoencoder(
        kl_schedule=schedule, batch_size=7, max_iter=3, random_state=0
    )
    refuses(lambda: model.fit(DATA), ValueError, "must give a finite number", repr(late))


# Bools and absurd sizes.

COUNTS = [
    *("n_components", "n_init", "batch_size", "max_iter", "n_iter_no_change"),
    *("n_mc_samples", "hidden_layer_sizes"),
]


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("value", [True, False, np.True_])
@pytest.mark.parametrize("name", COUNTS)
def test_bools_are_no_integers(name, value):
    """`fit` refuses them where integers are meant."""
    model = VariationalAutoencoder(**{name: value})
    refuses(lambda: model.fit(DATA), ValueError, name, f"Got {value!r} instead")
    sizes = VariationalAutoencoder(hidden_layer_sizes=[4, value])
    refuses(lambda: sizes.fit(DATA), ValueError, "hidden_layer_sizes must be positive")
    schedule = VariationalAutoencoder(kl_schedule=CyclicalSchedule(n_cycles=value))
    refuses(lambda: schedule.fit(DATA), ValueError, "'n_cycles'", repr(value))


def test_bools_are_no_numbers_of_draws():
    """`sample` and `log_marginal` refuse them with scikit-learn's words."""
    model = VariationalAutoencoder(**QUICK).fit(DATA)
    words = "n_samples must be an instance of int, not bool"
    refuses(lambda: model.sample(True), TypeError, words)
    refuses(lambda: model.log_marginal(DATA, True), TypeError, words)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("value", [2**62, np.int64(2**62)])
@pytest.mark.parametrize("name", ["hidden_layer_sizes", "n_components", "n_mc_samples"])
def test_sizes_beyond_memory(name, value):
    """They are refused before training, with the parameters to lower."""
    model = VariationalAutoencoder(**{name: value})
    refuses(lambda: model.fit(DATA), MemoryError, name, "this machine has", "Lower")
    deep = VariationalAutoencoder(hidden_layer_sizes=(10, 2**31, 2**31))
    refuses(lambda: deep.fit(DATA), MemoryError, "hidden_layer_sizes")
    many = GaussianAutoencoder(n_init=2**62)
    refuses(lambda: many.fit(DATA), MemoryError, "n_init")


def test_memory_is_counted_in_bytes(monkeypatch):
    """A model is refused if its parameters alone exceed the memory, and not before."""
    # 5 x 3 for the linear path, 5 x 100 and 100 x 1, each twice; four numbers for each.
    n_bytes = 4 * 4 * (10 + 2 * (500 + 100))
    model = GaussianAutoencoder(1, hidden_layer_sizes=100, batch_size=1, **QUICK)
    for pages, is_enough in ((n_bytes, True), (n_bytes - 1, False)):
        known = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": pages}
        monkeypatch.setattr(os, "sysconf", known.__getitem__)
        if is_enough:
            model.fit(DATA)
        else:
            refuses(lambda: model.fit(DATA), MemoryError, "A model of 1.21e+03 parameters")


def test_draws_beyond_memory():
    """`sample` and `log_marginal` say what to lower."""
    model = VariationalAutoencoder(**QUICK).fit(DATA)
    refuses(lambda: model.sample(2**62), MemoryError, "n_samples=")
    refuses(lambda: model.log_marginal(DATA, 2**62), MemoryError, "n_samples=")


@every_estimator
def test_a_batch_larger_than_the_data_is_all_of_them(estimator):
    """Any size above the number of rows is one batch."""
    exact = estimator(batch_size=40, **QUICK).fit(DATA)
    assert weights(estimator(batch_size=2**62, **QUICK).fit(DATA)) == weights(exact)


# StopIteration.


class Stopper(Callback):
    """A callback whose method raises StopIteration."""

    def __init__(self, method, task):
        self.method = method
        self.task = task

    def _raise(self, method, context):
        if method == self.method and context.task_name == self.task:
            next(iter([]))

    def on_fit_task_begin(self, estimator, context):
        self._raise("on_fit_task_begin", context)

    def on_fit_task_end(self, estimator, context, **kwargs):
        self._raise("on_fit_task_end", context)
        return False


def chained(call, name):
    """Assert that a call raises RuntimeError from StopIteration with this name."""
    error = refuses(call, RuntimeError, name, "raised StopIteration")
    assert isinstance(error.__cause__, StopIteration)


@pytest.mark.parametrize("method", ["on_fit_task_begin", "on_fit_task_end"])
@pytest.mark.parametrize("task", ["epoch", "fit"])
def test_stop_iteration_of_a_callback(method, task):
    """It comes out as a RuntimeError that names the callback, also from a generator."""
    model = GaussianAutoencoder(**QUICK).set_callbacks(Stopper(method, task))
    chained(lambda: model.fit(DATA), f"Stopper.{method}")
    chained(lambda: list(map(model.fit, [DATA])), f"Stopper.{method}")
    search = BatchedGridSearchCV(model, {"batch_size": [8, 9]}, error_score="raise", cv=2)
    chained(lambda: search.fit(DATA), f"Stopper.{method}")


@pytest.mark.parametrize("late", [False, True])
def test_stop_iteration_of_a_schedule(late):
    """From the first check on, and in the middle of the training."""

    def my_schedule(progress):
        if not late or 0 < progress % 0.01 < 0.0099:
            raise StopIteration
        return 1.0

    model = VariationalAutoencoder(
        kl_schedule=my_schedule, batch_size=7, max_iter=3, random_state=0
    )
    chained(lambda: model.fit(DATA), "my_schedule")


def test_stop_iteration_of_other_parts():
    """Of a network and of a likelihood."""

    def stop(value):
        raise StopIteration

    network = GaussianAutoencoder(network=Made(stop), **QUICK)
    chained(lambda: network.fit(DATA), "Changed.forward")
    likelihood = VariationalAutoencoder(
        likelihood=Own(log_prob=stop), variance_mode="learned", **QUICK
    )
    chained(lambda: likelihood.fit(DATA), "Own.standard_log_prob")


def test_other_runtime_errors_are_the_users_own():
    """A RuntimeError without StopIteration comes out as it is."""
    raised = RuntimeError("mine")

    def fails(value):
        raise raised

    model = GaussianAutoencoder(network=Made(fails), **QUICK)
    assert refuses(lambda: model.fit(DATA), RuntimeError, "mine") is raised
