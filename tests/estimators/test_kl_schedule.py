"""Tests of schedules of the weight of the KL divergence in training."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from skae.objectives import KL_SCHEDULES, CyclicalSchedule, LinearSchedule
from tests.helpers import weights


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_linear_schedule(beta, X):
    """The weight grows linearly from 0 to beta over the first quarter of the steps."""
    model = VariationalAutoencoder(
        beta=beta, kl_schedule="linear", max_iter=12, random_state=0
    ).fit(X)
    expected = beta * np.minimum(np.arange(1, 13) / 3, 1)
    np.testing.assert_allclose(model.history_["beta"], expected, rtol=1e-12)
    short = VariationalAutoencoder(
        beta=beta, kl_schedule="linear", max_iter=1, random_state=0
    ).fit(X)
    assert short.history_["beta"][-1] == beta


def test_no_plateau_during_the_warm_up(X):
    """While the weight grows, an objective without improvement does not end training."""
    model = VariationalAutoencoder(
        kl_schedule="linear", max_iter=80, n_iter_no_change=3, tol=1e3, random_state=0
    ).fit(X)
    # 20 epochs of warm-up, 3 epochs without improvement, and a cooldown of 3 epochs.
    assert model.n_iter_ == 20 + 3 + 3
    assert model.history_["beta"][-1] == 1.0


@pytest.mark.parametrize(
    "schedule", [*KL_SCHEDULES, CyclicalSchedule(3, rise=0.9), lambda p: 0.5 + p / 2]
)
@pytest.mark.parametrize("max_iter", [1, 2, 13])
def test_schedules_end_at_beta(schedule, max_iter, X):
    """In the last epoch of every schedule the weight is beta."""
    model = VariationalAutoencoder(
        beta=2.5, kl_schedule=schedule, max_iter=max_iter, n_iter_no_change=99
    ).fit(X)
    assert model.n_iter_ == max_iter
    assert model.history_["beta"][-1] == 2.5


def test_schedule_by_name_equals_schedule_by_object(X):
    """A name and its schedule object give the same fit."""
    common = {"max_iter": 8, "random_state": 0}
    names = {"cyclical": CyclicalSchedule(4, rise=0.5), "linear": LinearSchedule(0.25)}
    found = set()
    for name, schedule in names.items():
        by_name = VariationalAutoencoder(kl_schedule=name, **common).fit(X)
        by_object = VariationalAutoencoder(kl_schedule=schedule, **common).fit(X)
        assert weights(by_name) == weights(by_object)
        found.add(by_name.score(X))
    assert len(found) == 2


def test_no_plateau_between_cycles(X):
    """A plateau ends training only in the last cycle, in which the weight stays at beta."""
    model = VariationalAutoencoder(
        kl_schedule="cyclical", max_iter=80, n_iter_no_change=3, tol=1e3, random_state=0
    ).fit(X)
    # Epoch 70 is the first epoch that ends with the final weight of the last cycle.
    assert model.n_iter_ == 70 + 3 + 3
    assert model.history_["beta"][-1] == 1.0


def test_score_does_not_depend_on_the_schedule(X):
    """A change of the schedule after a fit changes no score, and the schedule is unused."""
    model = VariationalAutoencoder(max_iter=3, random_state=0).fit(X)
    score, bound = model.score(X), model.log_marginal(X)
    for schedule in (*KL_SCHEDULES, lambda p: 1 / 0):
        model.set_params(kl_schedule=schedule)
        assert model.score(X) == score
        np.testing.assert_array_equal(model.log_marginal(X), bound)


def test_schedules_can_be_searched(X):
    """Searches over schedules and their parameters agree one by one and side by side."""
    model = VariationalAutoencoder(
        kl_schedule=LinearSchedule(),
        init="random",
        max_iter=8,
        precision="float64",
        random_state=0,
    )
    grid = [
        {"kl_schedule__share": [0.25, 0.9]},
        {"kl_schedule": ["decreasing", CyclicalSchedule(2)]},
    ]
    single = GridSearchCV(model, grid, cv=2).fit(X)
    batched = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    scores = single.cv_results_["mean_test_score"]
    np.testing.assert_allclose(batched.cv_results_["mean_test_score"], scores, rtol=1e-6)
    assert len(set(scores)) == 4
