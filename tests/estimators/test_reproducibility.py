"""Tests of equal fits from equal random states, and of the order of rows."""

import gc
import weakref

import numpy as np
import pytest
from sklearn.base import clone

from skae import VariationalAutoencoder
from skae._fitting.trainer import train
from tests.helpers import assert_same_answers, every_estimator, weights


@every_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
def test_same_random_state_same_fit(estimator, early_stopping, X):
    """Fits are bit-identical for equal integers and for instances in equal states."""

    def fit(random_state):
        return estimator(
            max_iter=5,
            batch_size=32,
            early_stopping=early_stopping,
            random_state=random_state,
        ).fit(X)

    fits = [fit(0), fit(0), fit(np.random.RandomState(0)), fit(np.random.RandomState(0))]
    for other in fits[1:]:
        assert weights(fits[0]) == weights(other)
        assert fits[0].loss_curve_ == other.loss_curve_
        assert_same_answers(fits[0], other, X)
    state = np.random.RandomState(0)
    for other in (fit(1), fit(None), (fit(state), fit(state))[1]):
        assert fits[0].loss_curve_ != other.loss_curve_
    again = fits[0]
    before = weights(again)
    assert weights(again.fit(X)) == before


@every_estimator
def test_order_of_rows(estimator, X):
    """The order of rows changes a fit only with `shuffle=False`."""
    order = np.random.default_rng(0).permutation(len(X))
    for shuffle in (True, False):
        model = estimator(max_iter=5, batch_size=16, shuffle=shuffle, random_state=0)
        same = weights(clone(model).fit(X)) == weights(clone(model).fit(X[order]))
        assert same == shuffle
        # The order in memory never changes a fit.
        assert weights(clone(model).fit(X)) == weights(
            clone(model).fit(np.asfortranarray(X))
        )


def test_a_fit_leaves_no_reference_to_the_data(monkeypatch):
    """The converted data are freed at the end of a fit, without the garbage collector."""
    kept = []

    def noted(problems):
        kept.extend(weakref.ref(problem.rows.X) for problem in problems)
        return train(problems)

    monkeypatch.setattr("skae.estimators.base.train", noted)
    data = np.random.default_rng(0).integers(0, 9, size=(40, 4))
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        VariationalAutoencoder(max_iter=2, random_state=0).fit(data, X_val=data[:9])
        assert [reference() for reference in kept] == [None]
    finally:
        if was_enabled:
            gc.enable()
