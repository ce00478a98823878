"""Tests of text and HTML representations."""

from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


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
