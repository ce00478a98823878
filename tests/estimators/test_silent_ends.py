"""Tests of what a fit says if its model is not what was asked for."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, make_swiss_roll
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._fitting import diagnosis, problem
from skae.networks import MLP
from tests.helpers import assert_finite, weights

IRIS = load_iris().data
FEW = r"\(few different values: flags, categories, counts or black-and-white images, .*\)"
START_KEPT = "Training did not improve on its start, which is kept"


def messages(model, X, **parameters):
    """Fit a model and return the texts of all warnings."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(X, **parameters)
    assert {w.category for w in found} <= {ConvergenceWarning}
    assert {w.filename for w in found} <= {__file__}
    return [str(w.message) for w in found]


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, VariationalAutoencoder])
@pytest.mark.parametrize("variance_mode", ["optimal", "learned", "predicted", "fixed"])
def test_a_start_that_is_kept(estimator, variance_mode):
    """Training that ends worse than it began keeps the start, and says so once."""
    model = estimator(
        variance_mode=variance_mode, learning_rate_init=100, max_iter=5, random_state=0
    )
    (found,) = messages(model, IRIS)
    assert found.startswith(START_KEPT)
    assert "Lower learning_rate_init" in found
    assert model.best_iter_ == 0
    # Gradients may overflow, on some processors more often; such epochs are taken back.
    assert 1 <= model.n_iter_ <= 5
    untrained = estimator(
        variance_mode=variance_mode, learning_rate_init=1e-30, max_iter=1, random_state=0
    ).fit(IRIS)
    assert model.score(IRIS) == untrained.score(IRIS)


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@pytest.mark.parametrize("variance_mode", ["optimal", "learned"])
def test_some_rows_compare_a_start(variance_mode, covariance_type, monkeypatch):
    """A start that is kept has the scale of all rows, though some rows are compared."""
    model = VariationalAutoencoder(
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        alpha=0,
        learning_rate_init=100,
        max_iter=2,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = clone(model).fit(IRIS)
    monkeypatch.setattr(problem, "_COMPARED_ROWS", 20)
    assert any(START_KEPT in m for m in messages(model, IRIS))
    assert model.best_iter_ == expected.best_iter_ == 0
    np.testing.assert_array_equal(model.scale_, expected.scale_)
    assert model.score(IRIS) == expected.score(IRIS)
    model.set_params(learning_rate_init=0.01, max_iter=100)
    assert messages(model, IRIS) == []
    assert model.score(IRIS) > expected.score(IRIS) + 0.1


def test_a_start_that_is_the_optimum():
    """A linear Gaussian model starts at its optimum, which is no reason for a warning."""
    model = VariationalAutoencoder(hidden_layer_sizes=(), max_iter=5, random_state=0)
    assert messages(model, IRIS) == []
    assert model.best_iter_ == 0
    model.set_params(init="random", learning_rate_init=100)
    assert START_KEPT in messages(model, IRIS)[0]


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        (GaussianAutoencoder, {"covariance_type": "diag"}),
        (GaussianAutoencoder, {"variance_mode": "predicted"}),
        (VariationalAutoencoder, {"variance_mode": "predicted"}),
        (VariationalAutoencoder, {"likelihood": "laplace"}),
    ],
)
def test_a_linear_start_that_is_not_the_optimum(estimator, parameters):
    """Where the closed form is not the optimum, a start that is kept is told."""
    model = estimator(
        hidden_layer_sizes=(), learning_rate_init=100, max_iter=5, random_state=0
    )
    found = messages(model.set_params(**parameters), IRIS)
    assert any(m.startswith(START_KEPT) for m in found)


def test_a_converged_fit_that_is_continued():
    """Continued fits have words of their own, and repeat nothing that is known."""
    model = VariationalAutoencoder(
        early_stopping=True, warm_start=True, learning_rate_init=0.5, random_state=0
    )
    X = IRIS * [1, 1, 1, 5000]
    assert any("thousandfold" in m for m in messages(model.set_params(max_iter=3), X))
    found = messages(model, X)
    assert not any("thousandfold" in m for m in found)
    assert any("validation score than the last fit's model" in m for m in found)


class SecondIsBroken(MLP):
    """A network that is NaN in the second of several starts."""

    n_built = 0

    def encoder(self, n_features, n_outputs):
        network = super().encoder(n_features, n_outputs)
        SecondIsBroken.n_built += 1
        if SecondIsBroken.n_built == 2:
            network.register_forward_hook(lambda module, args, result: result * np.nan)
        return network


def test_one_start_of_several_that_is_not_finite():
    """A start that is not finite is left out, if there are others."""
    model = VariationalAutoencoder(
        network=SecondIsBroken(), n_init=3, max_iter=3, random_state=0
    )
    messages(model, IRIS)
    assert SecondIsBroken.n_built == 3
    assert_finite(model, IRIS)


def test_an_old_pickle_is_continued():
    """A fit from before `best_iter_` existed is continued."""
    model = VariationalAutoencoder(max_iter=3, warm_start=True, random_state=0).fit(IRIS)
    del model.best_iter_
    messages(model.set_params(learning_rate_init=100), IRIS)
    assert (model.best_iter_, model.n_iter_) == (3, 6)


def test_weights_that_add_up_to_one_do_not_change_the_cause():
    """What counts as few values depends on the rows, not on their weights."""
    X = np.eye(6)[np.random.RandomState(0).randint(6, size=200)]
    model = GaussianAutoencoder(5, random_state=0, max_iter=50)
    with pytest.warns(ConvergenceWarning, match=FEW):
        model.fit(X, sample_weight=np.full(200, 1 / 200))


def test_a_random_start_that_is_kept():
    """A random start that is kept is named too."""
    model = VariationalAutoencoder(
        init="random", learning_rate_init=100, max_iter=5, random_state=0
    )
    assert START_KEPT in messages(model, IRIS)[0]


def test_a_warm_start_that_is_kept():
    """A continued fit without improvement keeps the earlier model and its epoch."""
    model = VariationalAutoencoder(random_state=0, warm_start=True, max_iter=30)
    assert messages(model, IRIS) == []
    assert model.best_iter_ == model.n_iter_ == 30
    before, score = weights(model), model.score(IRIS)
    model.set_params(max_iter=4, learning_rate_init=10)
    (found,) = messages(model, IRIS)
    assert found.startswith("Training did not improve on its start, the model of the last")
    assert (model.best_iter_, model.n_iter_) == (30, 34)
    assert model.score(IRIS) == score
    assert weights(model) == before
    # From there on, a fit that improves counts all epochs.
    model.set_params(max_iter=20, learning_rate_init=1e-3)
    assert messages(model, IRIS) == []
    assert model.best_iter_ == model.n_iter_ == 54


def test_the_epoch_of_the_best_validation_score():
    """With early stopping the model is that of the epoch with the best score."""
    model = VariationalAutoencoder(early_stopping=True, max_iter=40, random_state=0)
    model.fit(IRIS)
    scores = model.history_["validation_score"]
    assert 0 < model.best_iter_ == np.argmax(scores) + 1 < model.n_iter_


def test_early_stopping_at_the_start():
    """If no epoch validates better than the start, the fit says so."""
    model = VariationalAutoencoder(
        early_stopping=True, learning_rate_init=1, max_iter=5, random_state=0
    )
    (found,) = messages(model, IRIS)
    assert found.startswith("No epoch had a better validation score than the start")
    assert model.best_iter_ == 0


def test_divergence_is_one_message():
    """Divergence from the first epoch on is one message, and the start is kept."""
    model = VariationalAutoencoder(learning_rate_init=1e30, max_iter=5, random_state=0)
    (found,) = messages(model, IRIS)
    assert found.startswith("Training diverged")
    assert "the start, which is kept" in found
    assert model.best_iter_ == 0


@pytest.mark.parametrize("parameters", [{"beta": 8}, {"likelihood": "laplace", "beta": 50}])
def test_no_active_component(parameters):
    """If no component carries information, the fit says so and names beta."""
    model = VariationalAutoencoder(random_state=0, **parameters)
    found = [m for m in messages(model, IRIS) if "component" in m]
    assert len(found) == 1
    assert f"Lower beta ({parameters['beta']} " in found[0]
    assert model.transform(IRIS).std() < 0.01


def test_no_active_component_because_of_the_scale():
    """A fixed scale far above the data has the same effect, and is named."""
    model = VariationalAutoencoder(variance_mode="fixed", scale=1e3, random_state=0)
    (found,) = [m for m in messages(model, IRIS) if "component" in m]
    assert "a large scale or min_scale" in found


def test_one_active_component_is_enough():
    """Idle components beside an active one are no reason for a warning."""
    X = IRIS[:, :1] * [1, 2, 3] + np.random.RandomState(0).normal(size=(150, 3))
    model = VariationalAutoencoder(3, random_state=0, max_iter=20)
    assert not any("component" in m for m in messages(model, X))
    mean, std = model.posterior(X)
    kl = (0.5 * (std**2 + mean**2 - 1) - np.log(std)).mean(axis=0)
    assert 0 < (kl > 0.01).sum() < 3


class Broken(MLP):
    """A network whose first result is not finite."""

    def encoder(self, n_features, n_outputs):
        network = super().encoder(n_features, n_outputs)
        network.register_forward_hook(lambda module, args, result: result * float("nan"))
        return network


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ({"network": Broken()}, {}),
        ({"network": Broken(), "n_init": 2}, {}),
        ({"network": Broken(), "early_stopping": True}, {}),
        ({}, {"X_val": np.where(np.eye(150, 4), 1e19, IRIS).astype(np.float32)}),
    ],
)
def test_a_start_that_is_not_finite_is_refused(parameters, arguments):
    """A first model without a finite objective is an error before anything is stored."""
    model = VariationalAutoencoder(random_state=0, max_iter=3).fit(IRIS)
    before, history = weights(model), model.history_
    model.set_params(**parameters)
    with pytest.raises(ValueError, match="Training cannot start"):
        model.fit(IRIS, **arguments)
    assert weights(model) == before
    assert model.history_ is history
    with pytest.raises(ValueError, match="Training cannot start"):
        VariationalAutoencoder(random_state=0, max_iter=3, **parameters).fit(
            IRIS, **arguments
        )


def test_a_weight_of_the_kl_that_overflows_is_refused():
    """Beta times its schedule must be finite."""
    model = VariationalAutoencoder(beta=1e308, kl_schedule=lambda progress: 10 * progress)
    with pytest.raises(ValueError, match=r"overflows: beta=1e\+308 times .* kl_schedule"):
        model.fit(IRIS)


def test_weights_of_any_ratio():
    """Weights of 1 and 1e-300 are those of one sample and 149 that do not count."""
    model = VariationalAutoencoder(1, random_state=0, max_iter=3, min_scale=0.1)
    messages(model, IRIS, sample_weight=np.r_[1, np.full(149, 1e-300)])
    assert_finite(model, IRIS)
    np.testing.assert_allclose(model.inverse_transform([[0]])[0], IRIS[0], atol=0.01)


class Exploding(nn.Module):
    """A layer whose result overflows for rows far away, from its second step on."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.n_steps = layer, 0

    def forward(self, x):
        """Add infinity to rows far away after the first step."""
        self.n_steps += self.training
        far = (x.abs().amax(dim=1, keepdim=True) > 50) & (self.n_steps > 5)
        return self.layer(x).masked_fill(far, float("inf"))


class ExplodingFarAway(MLP):
    """A network that overflows for validation rows, but not for training rows."""

    def encoder(self, n_features, n_outputs):
        return Exploding(super().encoder(n_features, n_outputs))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_validation_that_overflows_is_divergence(early_stopping):
    """A validation score that is not finite ends the training as divergence."""
    model = VariationalAutoencoder(
        network=ExplodingFarAway(),
        early_stopping=early_stopping,
        max_iter=10,
        batch_size=50,
        random_state=0,
    )
    (found,) = messages(model, IRIS, X_val=np.r_[IRIS, 1e3 * IRIS[:1]])
    assert found.startswith("Training diverged")
    assert model.n_iter_ < 10
    assert np.isfinite(model.history_["validation_score"]).all()
    assert_finite(model, IRIS)


def test_a_thousandfold_spread():
    """One spherical scale for units a thousandfold apart warns with both remedies."""
    random = np.random.RandomState(0)
    X = pd.DataFrame(
        {
            "year": 2000 + 10 * random.randn(200),
            "euros": 1e5 * random.randn(200),
            "share": random.rand(200),
        }
    )
    model = VariationalAutoencoder(1, max_iter=3, random_state=0)
    (found,) = [m for m in messages(model, X) if "thousandfold" in m]
    assert "(smallest: 'share', largest: 'euros')" in found
    assert "covariance_type='diag'" in found
    assert "StandardScaler" in found
    # Columns without names are named by number.
    (found,) = [m for m in messages(model, X.to_numpy()) if "thousandfold" in m]
    assert "(smallest: column 2, largest: column 1)" in found
    assert not any("thousandfold" in m for m in messages(model, X / [1, 1e3, 1]))
    # A constant column has no spread, and a scale per feature no such limit.
    constant = (X / [1, 1e3, 1]).assign(share=0.0)
    assert not any("thousandfold" in m for m in messages(model, constant))
    assert not any(
        "thousandfold" in m for m in messages(model.set_params(covariance_type="diag"), X)
    )


def test_floor_names_columns():
    """The message of the floor names the columns and why they are there."""
    random = np.random.RandomState(0)
    z = random.randn(300)
    X = pd.DataFrame({"a": z, "b": random.randn(300), "c": random.randn(300)})
    X["flag"], X["always"] = (z > 0).astype(float), 3.0
    model = GaussianAutoencoder(1, covariance_type="diag", max_iter=100, random_state=0)
    with pytest.warns(
        ConvergenceWarning,
        match=rf"of 5 features are at their floor min_scale: 'flag' {FEW}; "
        r"'always' \(constant\)\. .* says how small min_scale is",
    ):
        model.fit(X)
    with pytest.warns(ConvergenceWarning, match=rf"min_scale: column 3 {FEW}; column 4 \("):
        model.fit(X.to_numpy())


def test_floor_of_a_spherical_scale():
    """A spherical scale at its floor names the features with few values, or the cause."""
    X = np.eye(6)[np.random.RandomState(0).randint(6, size=200)]
    model = GaussianAutoencoder(5, random_state=0, max_iter=50)
    with pytest.warns(
        ConvergenceWarning,
        match=rf"at its floor min_scale: columns 0, 1, 2, 3, 4 and 1 more {FEW}",
    ):
        model.fit(X)
    with pytest.warns(ConvergenceWarning, match="min_scale: few different samples"):
        GaussianAutoencoder(3, random_state=0, max_iter=50).fit(IRIS[::40])


def floor_text(model, X):
    """Return the message about the floor."""
    (found,) = [m for m in messages(model, X) if "floor" in m]
    return found


def test_columns_of_few_values_have_another_likelihood():
    """The remedy is one of tables where the model is one of a table."""
    rng = np.random.default_rng(0)
    rooms = rng.integers(1, 9, size=200).astype(float)
    frame = pd.DataFrame({"rooms": rooms, "size": 20 * rooms + rng.normal(size=200)})
    frame["rent"] = 9 * frame["size"] + rng.normal(size=200)
    model = VariationalAutoencoder(
        2, likelihood="mixed", covariance_type="diag", max_iter=40, random_state=0
    )
    assert "values an integer dtype, or another part of Mixed, or use" in floor_text(
        model.set_params(min_scale=0.05), frame
    )
    flags = np.eye(6)[rng.integers(6, size=200)]
    assert "VariationalAutoencoder, such as 'mixed' or 'bernoulli', or use" in floor_text(
        GaussianAutoencoder(5, random_state=0, max_iter=50), flags
    )


def test_floor_says_why():
    """The cause and the remedy are those of these data and this model."""
    random = np.random.RandomState(0)
    X = random.normal(size=(1000, 6))
    parameters = {"covariance_type": "diag", "random_state": 0}
    small_beta = VariationalAutoencoder(2, beta=0.3, **parameters)
    found = floor_text(small_beta, X)
    assert "as happens with beta below 1" in found
    assert "raise beta" in found
    equal = np.c_[X[:, :1], X]
    equal[::7, :2] = np.nan
    equal[:, 0] = 3 - 60 * equal[:, 0]
    found = floor_text(VariationalAutoencoder(1, **parameters), equal)
    assert "columns 0, 1 (equal but for unit and offset)" in found
    assert "keep one of equal features" in found
    total = np.c_[X[:, :2], 1e3 * X[:, 0] + X[:, 1]]
    found = floor_text(VariationalAutoencoder(1, min_scale=0.01, **parameters), total)
    assert "(the code copies them, as happens with features that others" in found
    assert "drop such features, lower n_components" in found
    found = floor_text(GaussianAutoencoder(6, random_state=0, max_iter=5), X)
    assert "min_scale: as many components as features" in found
    assert "lower n_components" in found
    # A floor above the spread reproduces nothing; it is too high.
    for covariance_type in ("spherical", "diag"):
        model = VariationalAutoencoder(min_scale=10.0, random_state=0)
        found = floor_text(model.set_params(covariance_type=covariance_type), X)
        assert "(min_scale=10.0 is above the scale that fits best)" in found
        assert "Lower min_scale, or use variance_mode='fixed'." in found


def test_floor_of_a_rare_flag():
    """Of a rare flag, whose spread is below the floor, nothing is claimed."""
    random = np.random.RandomState(0)
    X = random.normal(size=(800, 4)) @ random.normal(size=(4, 4))
    X = np.c_[X, random.rand(800) < 0.05]
    model = VariationalAutoencoder(covariance_type="diag", random_state=0)
    found = floor_text(model, X)
    assert "reproduces" not in found
    assert re.search(rf"column 4 {FEW}", found)
    assert model.scale_[4] > X[:, 4].std()


def test_why_a_start_is_kept():
    """The advice depends on what the training did."""
    model = VariationalAutoencoder(random_state=0, learning_rate_init=100, max_iter=5)
    (found,) = messages(model, IRIS)
    assert found.endswith("epochs. Lower learning_rate_init.")
    first, last = map(float, re.findall(r"(\S+) (?:nats per|after)", found))
    start = VariationalAutoencoder(random_state=0, learning_rate_init=1e-30, max_iter=1)
    assert first == pytest.approx(-start.fit(IRIS).score(IRIS), abs=1e-2)
    assert last > first + 1
    model.set_params(learning_rate_init=5e-3, max_iter=100)
    (found,) = messages(model, IRIS, sample_weight=np.full(150, 1 / 150))
    assert "The sample weights add up to 1, which is the sample size" in found


@pytest.mark.parametrize("max_iter", [3, 21])
def test_a_start_that_validation_keeps(max_iter):
    """A short training that max_iter ended is to be longer."""
    model = VariationalAutoencoder(
        random_state=0, early_stopping=True, learning_rate_init=1.0, max_iter=max_iter
    ).set_params(n_iter_no_change=max_iter)
    found = messages(model, IRIS)[0]
    assert "No epoch had a better validation score than the start" in found
    assert ("(best_iter_). Raise max_iter first" in found) == (max_iter == 3)


@pytest.mark.parametrize(
    ("gap", "advice"),
    [
        (0.0, "Training changed almost nothing. If the start is not"),
        (0.1, "Raise max_iter first"),
        (2.0, "Raise max_iter first"),
        (5.0, "Lower learning_rate_init."),
    ],
)
def test_advice_for_a_start_that_is_kept(gap, advice, monkeypatch):
    """Too slow, too short, or too fast, for four features."""
    problems = []

    def final_messages(problem, end):
        problems.append(problem)
        return []

    monkeypatch.setattr(diagnosis, "final_messages", final_messages)
    VariationalAutoencoder(random_state=0, max_iter=1).fit(IRIS)
    (problem,) = problems
    last = problem.first_objective + gap
    arguments = {"diverged": False, "best_iter": 0, "n_iter": 1, "last": last}
    arguments |= {"n_divergences": 0, "learning_rate": 0.01}
    assert f"after 1 epoch. {advice}" in diagnosis.end_message(problem, **arguments)
    arguments["n_iter"] = 21
    long = "Training changed" if not gap else "The start may" if gap < 1 else "Lower"
    assert f"after 21 epochs. {long}" in diagnosis.end_message(problem, **arguments)


def test_a_surface_that_stays_flat():
    """The fit ended by itself, so more epochs are no advice; another model is."""
    X, _ = make_swiss_roll(500, noise=0.3, random_state=0)
    X = StandardScaler().fit_transform(X)
    model = VariationalAutoencoder(2, random_state=0)
    (message,) = messages(model, X)
    assert model.n_iter_ < 100
    assert "raise n_iter_no_change. For a curved surface" in message
    flat, bent = model.reconstruct(X), GaussianAutoencoder(2, random_state=0).fit(X)
    assert np.square(bent.reconstruct(X) - X).mean() < np.square(flat - X).mean() / 2


@pytest.mark.parametrize("X", [IRIS[:1], np.ones((20, 3))])
def test_equal_rows_are_no_matter_of_beta(X):
    """Equal rows have one code, for any beta."""
    model = VariationalAutoencoder(1, random_state=0, max_iter=3)
    assert not any("component of the code" in m for m in messages(model, X))


def test_one_feature_has_no_code():
    """A single feature has advice of its own."""
    model = VariationalAutoencoder(1, random_state=0, max_iter=3)
    found = [m for m in messages(model, IRIS[:, :1]) if "component of the code" in m]
    assert found[0].endswith("Use more features.")


@pytest.mark.parametrize(
    "change", [lambda X: 1000 * X + 5, lambda X: X + 1e3, lambda X: X / 50]
)
def test_a_warm_start_in_other_units(change):
    """A continued fit on data in another unit says so, and names a column."""
    model = VariationalAutoencoder(random_state=0, max_iter=3, warm_start=True)
    frame = pd.DataFrame(IRIS, columns=list("abcd"))
    model.fit(frame)
    with pytest.warns(UserWarning, match=r"seems to be in other units: .* of '[abcd]'\."):
        model.fit(change(frame))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(frame.iloc[:50])
        model.fit(frame.iloc[:1])


def test_many_columns_are_cut_off():
    """A message lists at most five columns."""
    X = np.eye(30)[np.random.RandomState(0).randint(30, size=400)]
    model = GaussianAutoencoder(29, random_state=0, max_iter=50)
    with pytest.warns(ConvergenceWarning, match=r"columns 0, 1, 2, 3, 4 and 25 more \(few"):
        model.fit(X)


def test_only_the_kept_start_is_described():
    """Of several starts only the one that is kept is described."""
    model = VariationalAutoencoder(n_init=3, learning_rate_init=100, max_iter=5)
    found = messages(model.set_params(random_state=0), IRIS)
    assert [m for m in found if m.startswith(START_KEPT)] == found
    assert len(found) == 1


@pytest.mark.filterwarnings("ignore:The scales? of .* floor min_scale")
@pytest.mark.filterwarnings("ignore:The standard deviations of the features differ")
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_a_wrong_value_is_named_once(covariance_type):
    """Column and row, although the model has other warnings."""
    X = np.random.default_rng(0).normal(size=(200, 3))
    X[17, 1] = 1e12
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = GaussianAutoencoder(1, covariance_type=covariance_type, max_iter=2)
    with pytest.warns(UserWarning, match=r"'b' \(1e\+12 in row 17; .*NaN") as caught:
        model.fit(frame)
    assert sum("middle half" in str(w.message) for w in caught) == 1
