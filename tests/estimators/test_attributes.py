"""Attributes, tags, documentation and data frames of fitted estimators."""

import inspect
import re

import numpy as np
import pandas as pd
import torch
from sklearn.utils import get_tags

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._utils.compat import array_api
from tests.helpers import assert_same_answers, every_estimator, every_model


@every_estimator
def test_fitted_attributes(estimator, X):
    """Fitted attributes have the right types and lengths, with and without names."""
    model = estimator(3, max_iter=4, device="cpu", random_state=0)
    assert model.fit(X) is model
    assert (model.n_components_, model.n_features_in_, model.n_iter_) == (3, 6, 4)
    assert type(model.n_components_) is int
    assert not hasattr(model, "feature_names_in_")
    assert model.device_ == "cpu"
    assert isinstance(model.module_, torch.nn.Module)
    assert not model.module_.training
    assert not any(p.requires_grad for p in model.module_.parameters())
    assert isinstance(model.loss_curve_, list)
    np.testing.assert_array_equal(model.loss_curve_, model.history_["objective"])
    assert list(model.get_feature_names_out()) == [
        f"{estimator.__name__.lower()}{i}" for i in range(3)
    ]
    names = [f"column {i}" for i in range(6)]
    model.fit(pd.DataFrame(X, columns=names))
    assert model.feature_names_in_.tolist() == names
    model.fit(X)
    assert not hasattr(model, "feature_names_in_")


@every_model
def test_shape_of_the_scale(likelihood, variance_mode, covariance_type, X):
    """`scale_` is a number, an array, or None if the scale depends on the code."""
    given = 0.7 if covariance_type == "spherical" else np.linspace(0.5, 1, 6)
    model = VariationalAutoencoder(
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        scale=given if variance_mode == "fixed" else 1.0,
        max_iter=2,
    ).fit(X)
    if variance_mode == "predicted":
        assert model.scale_ is None
    elif covariance_type == "spherical":
        assert isinstance(model.scale_, float)
        assert model.scale_ > 0
    else:
        assert model.scale_.shape == (6,)
        assert model.scale_.dtype == np.float64
        assert (model.scale_ > 0).all()
    if variance_mode == "fixed":
        np.testing.assert_allclose(model.scale_, given, rtol=1e-6)


def test_fixed_scale_is_one_number_or_one_per_feature(X):
    """With "diag", a number holds for all features, and a list works like an array."""
    parameters = {"variance_mode": "fixed", "covariance_type": "diag", "max_iter": 2}
    one = GaussianAutoencoder(scale=2, random_state=0, **parameters).fit(X)
    six = GaussianAutoencoder(scale=[2.0] * 6, random_state=0, **parameters).fit(X)
    np.testing.assert_allclose(one.scale_, np.full(6, 2.0), rtol=1e-6)
    assert_same_answers(one, six, X)


@every_estimator
def test_tags(estimator):
    """The tags are those of a transformer of 2-D data, dense or sparse, without target."""
    tags = get_tags(estimator())
    assert tags.estimator_type is None
    assert not tags.target_tags.required
    assert tags.input_tags.sparse
    assert tags.array_api_support is (array_api is not None)
    assert tags.input_tags.allow_nan
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]


@every_estimator
def test_documented_defaults_equal_the_signature(estimator):
    """Each default in the docstring equals the default in the signature."""
    # Python 3.13 takes the indentation of docstrings away.
    section = inspect.getdoc(estimator).split("Attributes\n")[0]
    # The line of a parameter may continue after a backslash.
    section = section.replace("\\\n", " ")
    documented = dict(re.findall(r"^(\w+) : .*default=(.*?)\s*$", section, re.MULTILINE))
    real = inspect.signature(estimator).parameters
    assert list(documented) == list(real)
    for name, parameter in real.items():
        value = eval(documented[name])
        assert value == parameter.default, name
        assert type(value) is type(parameter.default), name


@every_estimator
def test_documented_attributes_equal_the_fitted_ones(estimator, X):
    """A fit on a data frame sets exactly the documented attributes."""
    text = inspect.getdoc(estimator)
    section = re.split(r"\n(?:See Also|References|Examples)\n", text)[0]
    section = section.split("Attributes\n")[1]
    documented = set(re.findall(r"^(\w+_) : ", section, re.MULTILINE))
    model = estimator(max_iter=1).fit(pd.DataFrame(X, columns=list("abcdef")))
    real = {n for n in vars(model) if n.endswith("_") and not n.startswith("_")}
    assert documented == real
