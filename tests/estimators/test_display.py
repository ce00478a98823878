"""Tests of text and HTML representations, and of the output of `verbose`."""

import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder


def test_representations(fitted, X):
    """Text and HTML name the class, before and after a fit, alone and in a Pipeline."""
    fresh = clone(fitted)
    assert repr(fresh).startswith(f"{type(fitted).__name__}(")
    assert "max_iter=3" in repr(fresh)
    assert "Not fitted" in fresh._repr_html_()
    html = fitted._repr_html_()
    assert type(fitted).__name__ in html
    assert "Not fitted" not in html
    assert type(fitted).__name__ in make_pipeline(StandardScaler(), fitted)._repr_html_()


def test_verbose_prints_each_epoch(X, capsys):
    """`verbose=True` prints the objective of each epoch, and False prints nothing."""
    model = VariationalAutoencoder(max_iter=3, verbose=True, random_state=0).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line, loss in zip(lines, model.loss_curve_, strict=True):
        assert float(line.split("loss = ")[1]) == pytest.approx(loss, abs=1e-6)
    model.set_params(verbose=False).fit(X)
    assert capsys.readouterr().out == ""
