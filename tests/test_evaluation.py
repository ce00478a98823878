"""Validation scores of several models at once, and means over many rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae._evaluation import blocks, means, validation
from skae.estimators import base
from tests.families import table


class BuiltError(Exception):
    """The end of a fit before the training."""


def problems_of(model, X, monkeypatch):
    """Return the fit problems of a model with three starts."""
    found = []

    def keep(problems):
        found.extend(problems)
        raise BuiltError

    monkeypatch.setattr(base, "train", keep)
    model.set_params(n_init=3, early_stopping=True, random_state=0, device="cpu")
    with pytest.raises(BuiltError):
        model.fit(X)
    return found


MODELS = [
    *(VariationalAutoencoder(2, likelihood=name) for name in ("gaussian", "poisson")),
    *(VariationalAutoencoder(2, likelihood=name) for name in ("mixed", "mixture")),
    GaussianAutoencoder(2, variance_mode="predicted", covariance_type="diag"),
    LaplaceAutoencoder(2, covariance_type="diag"),
    VariationalAutoencoder(2, likelihood="student_t", variance_mode="learned"),
]


@pytest.mark.parametrize("is_hard", [False, True], ids=["", "holes, chunks"])
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_scores_of_several_models(model, is_hard, monkeypatch):
    """They are those of each model by itself, and no model changes."""
    X = np.array(table(getattr(model, "likelihood", "gaussian"), n=80), dtype=float)
    if is_hard:
        X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    problems = problems_of(model, X, monkeypatch)
    before = [problem.module.state_dict() for problem in problems]
    before = [{k: v.clone() for k, v in state.items()} for state in before]
    # Without the rows that were kept from the score of the start.
    models = [replace(problem.validated) for problem in problems]
    if is_hard:
        n_numbers = 5 * len(models[0].draws()) * problems[0].module.width
        monkeypatch.setattr(blocks, "_CHUNK_NUMBERS", n_numbers)
    assert len(models[0].blocks()) == (2 if is_hard else 1)
    assert len({model._make_key() for model in models}) == 1
    expected = [model.score_alone() for model in models]
    found = validation._score_together(models)
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    assert len(set(expected)) == 3
    for problem, state in zip(problems, before, strict=True):
        for name, value in problem.module.state_dict().items():
            torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_models_with_unequal_rows_are_not_scored_together(monkeypatch):
    X = table("gaussian", n=120)
    keys = [
        problems_of(VariationalAutoencoder(2), X[:n], monkeypatch)[0].validated._make_key()
        for n in (120, 120, 110)
    ]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("first", [0, 1, 7])
def test_each_of_many_rows_takes_one_draw(first, monkeypatch):
    """Neighbours share a pair, so that what is odd in the draws cancels."""
    draws = torch.arange(1.0, 5.0)[:, None] * torch.tensor([[1.0, 2.0]])
    draws = torch.cat([draws, -draws])
    taken = means.draws_of_rows(draws, 0, first, 9)
    assert taken.shape == (1, 9, 2)
    whole = means.draws_of_rows(draws, 0, 0, 16)[0]
    np.testing.assert_array_equal(whole[:8:2], draws[:4])
    np.testing.assert_array_equal(whole[1:8:2], draws[4:])
    np.testing.assert_array_equal(whole[:8], whole[8:])
    np.testing.assert_array_equal(taken[0], torch.cat([whole, whole])[first : first + 9])


def test_scale_of_many_rows(monkeypatch):
    """With one draw for each row, it is that of probabilistic PCA."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2)) @ rng.normal(size=(2, 6)) + rng.normal(size=(4000, 6))
    model = VariationalAutoencoder(2, hidden_layer_sizes=(), max_iter=1, random_state=0)
    of_pairs = model.fit(X).scale_
    monkeypatch.setattr(means, "_MANY_ROWS", 3000)
    found = model.fit(X).scale_
    assert found != of_pairs
    expected = np.sqrt(PCA(2).fit(X).noise_variance_)
    np.testing.assert_allclose([of_pairs, found], expected, rtol=3e-3)
