"""Messages of the estimators about input: what is wrong, where, and what works."""

import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.impute import AutoencoderImputer
from skae.likelihoods import Mixed, StudentTLikelihood
from skae.networks import MLP, Conv
from skae.outlier import LikelihoodOutlierDetector
from skae.recipes import make_density_estimator, make_outlier_estimator  # noqa: F401  (advice names it)
from tests.helpers import every_estimator

QUICK = {"max_iter": 1, "random_state": 0}
DATA = np.random.default_rng(0).normal(size=(30, 4))
FRAME = pd.DataFrame(DATA, columns=list("abcd"))
MASKED = np.ma.masked_array(DATA, mask=DATA > 1)


@pytest.mark.parametrize(
    ("parameters", "hint"),
    [
        ({"likelihood": "laplce"}, "laplace"),
        ({"likelihood": "normal"}, "gaussian"),
        ({"likelihood": "mse"}, "gaussian"),
        ({"likelihood": "mae"}, "laplace"),
        ({"likelihood": "binary"}, "bernoulli"),
        ({"likelihood": "BCE"}, "bernoulli"),
        ({"variance_mode": "Optimal"}, "optimal"),
        ({"covariance_type": "diagonal"}, "diag"),
        ({"activation": "ReLU"}, "relu"),
        ({"kl_schedule": "cyclic"}, "cyclical"),
        ({"precision": "float16"}, "float64"),
        ({"init": "PCA"}, "pca"),
    ],
)
def test_near_misses(parameters, hint):
    """A misspelt choice has a hint."""
    with pytest.raises(InvalidParameterError, match=r"Did you mean") as caught:
        VariationalAutoencoder(**parameters).fit(DATA)
    if "precision" not in parameters:
        assert str(caught.value).endswith(f"instead. Did you mean {hint!r}?")
    message = r"got 'rellu'\. Did you mean 'relu'\?"
    with pytest.raises(ValueError, match=message):
        VariationalAutoencoder(network=MLP(activation="rellu")).fit(DATA)


@every_estimator
def test_a_rate_as_the_schedule(estimator):
    """The message has the parameter that is the rate; other bad values do not."""
    message = r"must be a str among .*instead\. The rate itself is learning_rate_init\.$"
    with pytest.raises(InvalidParameterError, match=message):
        estimator(learning_rate=0.001).fit(DATA)
    with pytest.raises(InvalidParameterError, match=r"Got 'slow' instead\.$"):
        estimator(learning_rate="slow").fit(DATA)


def test_near_misses_in_mixed():
    """The hint follows the list of names as a sentence of its own."""
    mixed = Mixed([([0, 1, 2, 3], "normal")])
    with pytest.raises(ValueError, match=r"got 'normal'\. Did you mean 'gaussian'\?$"):
        VariationalAutoencoder(likelihood=mixed).fit(DATA)


def test_choices_have_one_order():
    """The lists of choices do not depend on the process: another has those of this one."""
    code = (
        "from skae import VariationalAutoencoder as V\n"
        "print(*(V._parameter_constraints[p][0] for p in ('precision', 'covariance_type')))"
    )
    message = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    constraints = VariationalAutoencoder._parameter_constraints
    here = (str(constraints[p][0]) for p in ("precision", "covariance_type"))
    assert message == " ".join(here)
    assert "{'auto', 'float32', 'float64', 'tf32', 'bf16'}" in message
    assert "{'spherical', 'diag'}" in message


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_known_devices_that_are_not_here(name):
    """torch's reason is followed by the devices that can be used."""
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    with pytest.raises(ValueError, match=r"cannot be used here: .*'auto', 'cpu'\.$"):
        VariationalAutoencoder(device=name).fit(DATA)


@pytest.mark.parametrize("name", ["gpu", "GPU:0", "cudaa", "cud"])
def test_unknown_devices(name):
    """The message has the devices that can be used here, and no others."""
    with pytest.raises(ValueError, match="cannot be used here") as caught:
        VariationalAutoencoder(device=name).fit(DATA)
    message = str(caught.value)
    assert f"device={name!r}" in message
    hint = "such as 'cuda'" if "gpu" in name.lower() else "Did you mean 'cuda'?"
    assert hint in message
    assert ("Did you mean" in message) == ("gpu" not in name.lower())
    assert "These can be used: 'auto', 'cpu'" in message
    usable = message.split("These can be used")[1]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    assert (usable.count("'") > 4) == (accelerator is not None)
    assert accelerator is None or repr(accelerator.type) in usable
    assert "vulkan" not in message


# Strings, dates and masks, wherever data go in.


def refuses(call, *words):
    """Assert that a call raises ValueError with these words."""
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@every_estimator
def test_columns_that_are_no_numbers(estimator):
    """`fit`, `X_val` and the methods name the columns and what to do."""
    bad = FRAME.assign(c="red")
    dated = FRAME.assign(b=pd.Timestamp("2020-01-01"))
    model = estimator(**QUICK)
    strings = "X holds strings in column 'c'", "'red'", "OneHotEncoder"
    dates = "X holds dates in column 'b'", "reference date"
    refuses(lambda: model.fit(bad), *strings)
    refuses(lambda: model.fit(dated), *dates)
    refuses(lambda: model.fit(FRAME, X_val=bad), "X_val cannot be used", *strings)
    model.fit(FRAME)
    for method in (model.transform, model.score, model.score_samples, model.reconstruct):
        refuses(lambda method=method: method(bad), *strings)
        refuses(lambda method=method: method(dated), *dates)
    refuses(lambda: model.inverse_transform([["a", 1]]), "X holds strings in column 0")
    weight = ["1"] * 30
    refuses(lambda: model.fit(FRAME, sample_weight=weight), "sample_weight holds strings")
    refuses(lambda: model.score(FRAME, sample_weight=weight), "sample_weight holds strings")


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        (GaussianAutoencoder(), "VariationalAutoencoder(likelihood='mixed')"),
        (LaplaceAutoencoder(), "VariationalAutoencoder(likelihood='mixed')"),
        (VariationalAutoencoder(), "likelihood='mixed'"),
        (make_density_estimator(), "likelihood='mixed'"),
        (
            LikelihoodOutlierDetector(),
            "LikelihoodOutlierDetector(make_outlier_estimator(likelihood='mixed'))",
        ),
    ],
)
def test_strings_lead_to_the_mixed_likelihood(model, advice):
    """The advice takes a table with strings, and comes before encoders."""
    bad = FRAME.assign(c=["red", "green", "blue"] * 10)
    words = f"A table with categories takes {advice}. Otherwise, encode categories"
    refuses(lambda: model.fit(bad), words, "OneHotEncoder")
    made = eval(advice if "(" in advice else f"VariationalAutoencoder({advice})")
    if isinstance(made, LikelihoodOutlierDetector):
        made.set_params(estimator__max_iter=2, estimator__random_state=0)
    else:
        made.set_params(**QUICK)
    assert made.fit(bad).score_samples(bad).shape == (30,)


def test_strings_in_the_imputer():
    """The error has the call that imputes strings, which works."""
    bad = FRAME.assign(c=["red", None, "blue"] * 10)
    call = "VariationalAutoencoder(likelihood='mixed').fit(X).impute(X)"
    refuses(
        lambda: AutoencoderImputer().fit(bad), f"takes numbers; for strings use {call}."
    )
    model = VariationalAutoencoder(likelihood="mixed", **QUICK)
    assert model.fit(bad).impute(bad).notna().all(axis=None)


# Tables that are none.


@every_estimator
def test_none_and_lazy_frames(estimator):
    """They are refused before training, by methods too."""
    lazy = pl.DataFrame(DATA).lazy()
    models = [estimator(**QUICK), estimator(**QUICK).fit(DATA)]
    if estimator is VariationalAutoencoder:
        models.append(estimator(likelihood="mixed", **QUICK))
    for model in models:
        refuses(lambda model=model: model.fit(None), "got None instead: X must be a table")
        with pytest.raises(
            TypeError, match=r"LazyFrame of polars.* call collect\(\) first"
        ):
            model.fit(lazy)
    refuses(lambda: models[1].transform(None), "got None instead")
    with pytest.raises(TypeError, match=r"call collect\(\) first"):
        models[1].transform(lazy)


@pytest.mark.parametrize("outer", [LikelihoodOutlierDetector, AutoencoderImputer])
def test_lazy_frames_in_other_estimators(outer):
    """The message is the same."""
    with pytest.raises(TypeError, match=r"call collect\(\) first"):
        outer().fit(pl.DataFrame(DATA).lazy())


# Images.


@pytest.mark.parametrize(
    ("shape", "flat", "image"),
    [
        ((30, 8, 8), "X.reshape(len(X), -1)", (1, 8, 8)),
        ((30, 3, 6, 5), "X.reshape(len(X), -1)", (3, 6, 5)),
        ((30, 6, 5, 3), "X.transpose(0, 3, 1, 2).reshape(len(X), -1)", (3, 6, 5)),
    ],
)
@every_estimator
def test_images_as_they_are(estimator, shape, flat, image):
    """The message has the call of reshape and the network, and both work."""
    X = np.random.default_rng(0).normal(size=shape)
    model = estimator(**QUICK)
    message = f"Found array with dim {len(shape)}"
    words = f"If X are images, pass {flat}, and network=Conv({image})"
    refuses(lambda: model.fit(X), message, words)
    rows = eval(flat)
    model.set_params(network=Conv(image)).fit(rows)
    with pytest.raises(ValueError, match=re.escape(f"pass {flat}.")) as caught:
        model.transform(X)
    assert "network" not in str(caught.value)
    refuses(lambda: model.fit(np.ones((2, 1, 1, 1, 1))), "Found array with dim 5")


@pytest.mark.parametrize("name", ["conv", "CNN"])
def test_a_network_of_convolutions_by_name(name):
    """The message says what to pass, and that it needs the shape."""
    message = r"Got '.*' instead\. For images, pass .*Conv\(\(channels, height, width\)\)"
    with pytest.raises(InvalidParameterError, match=message):
        VariationalAutoencoder(network=name).fit(DATA)


@pytest.mark.parametrize(
    ("network", "call"),
    [(Conv, r"Conv\(\(channels, height, width\)\)"), (MLP, r"MLP\(\.\.\.\)")],
)
def test_a_class_as_the_network(network, call):
    """A class is no network, unless its methods need no instance."""
    message = f"must be an instance, but is the class .* such as {call}"
    with pytest.raises(InvalidParameterError, match=message):
        VariationalAutoencoder(network=network).fit(DATA)


def test_a_class_whose_methods_need_no_instance():
    """Its static methods are the network."""

    class Linear:
        @staticmethod
        def encoder(n_features, n_outputs):
            return torch.nn.Linear(n_features, n_outputs)

        @staticmethod
        def decoder(n_components, n_outputs):
            return torch.nn.Linear(n_components, n_outputs)

    model = GaussianAutoencoder(network=Linear, max_iter=1).fit(DATA)
    assert isinstance(model.module_.spec.network, type)


def test_channels_at_the_end():
    """The shape of an image is (channels, height, width)."""
    X = np.random.default_rng(0).normal(size=(30, 48))
    with pytest.warns(UserWarning, match=r"Did you mean \(1, 6, 8\)\?$"):
        GaussianAutoencoder(network=Conv((6, 8, 1)), n_init=2, **QUICK).fit(X)
    for shape in ((3, 4, 4), (16, 1, 3), (1, 12, 4), (4, 3, 4), (3, 16, 1)):
        GaussianAutoencoder(network=Conv(shape), **QUICK).fit(X)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"hidden_layer_sizes": (32,)}, r"^hidden_layer_sizes=\(32,\) is ignored"),
        ({"activation": "tanh"}, "^activation='tanh' is ignored"),
        (
            {"hidden_layer_sizes": 32, "activation": "tanh"},
            "^activation='tanh' and hidden_layer_sizes=32 are ignored",
        ),
    ],
)
@every_estimator
def test_parameters_that_a_network_does_not_use(estimator, parameters, words):
    """With a network of its own, those of the estimator are not used."""
    model = estimator(network=Conv((1, 2, 2)), **parameters, **QUICK)
    with pytest.warns(UserWarning, match=f"{words}: the network is a Conv") as caught:
        model.fit(DATA)
    assert sum("ignored" in str(w.message) for w in caught) == 1
    assert {w.filename for w in caught} == {__file__}
    stream = estimator(network=Conv((1, 2, 2)), **parameters, random_state=0)
    with pytest.warns(UserWarning, match=f"{words}: the network is a Conv") as caught:
        stream.partial_fit(DATA).partial_fit(DATA)
    assert sum("ignored" in str(w.message) for w in caught) == 1


@pytest.mark.parametrize("sizes", [(64,), [64], 64, "auto", np.array([64])])
def test_default_parameters_beside_a_network(sizes):
    """Defaults, and "auto" of the recipes, say nothing of the network."""
    GaussianAutoencoder(network=Conv((1, 2, 2)), hidden_layer_sizes=sizes, **QUICK).fit(
        DATA
    )


# The second argument.


@every_estimator
def test_validation_data_as_y(estimator):
    """`fit(X, X_val)` says that the second argument is y."""
    message = r"^y is ignored; pass validation data as X_val=\.$"
    for y in (DATA[:10], FRAME[:10]):
        with pytest.warns(UserWarning, match=message) as caught:
            estimator(**QUICK).fit(DATA, y)
        assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=message):
        estimator(**QUICK).fit_transform(FRAME, DATA[:10])


@pytest.mark.parametrize(
    "y", [DATA, DATA.copy(), DATA[:, 0], DATA[:, :2], DATA[:10, :2], list(DATA), "a", None]
)
def test_targets_as_y(y):
    """What scikit-learn may pass as y has no warning."""
    GaussianAutoencoder(**QUICK).fit(DATA, y)


@every_estimator
def test_masked_entries_are_refused(estimator):
    """In arguments other than tables; there, they are missing (test_missing.py)."""
    whole = np.ma.masked_array(DATA, mask=np.zeros_like(DATA, dtype=bool))
    weight = np.ma.masked_array(np.ones(30), mask=np.arange(30) < 2)
    model = estimator(**QUICK).fit(whole)
    plain = estimator(**QUICK).fit(DATA)
    np.testing.assert_array_equal(model.transform(whole), plain.transform(DATA))
    refuses(lambda: model.inverse_transform(MASKED[:, :2]), "Input X contains NaN")
    words = "sample_weight is a masked array with 2 masked entries"
    refuses(lambda: model.fit(DATA, sample_weight=weight), words)
    refuses(lambda: model.score(DATA, sample_weight=weight), words)
    scale = np.ma.masked_array(np.ones(4), mask=[1, 0, 0, 0])
    fixed = estimator(variance_mode="fixed", covariance_type="diag", scale=scale)
    refuses(lambda: fixed.fit(DATA), "scale is a masked array with 1 masked entries")


# No RuntimeWarning where the result is handled; each would fail these tests.


@pytest.mark.parametrize("likelihood", [StudentTLikelihood(2.1), "laplace", "logistic"])
def test_a_row_at_the_mean_of_heavy_tails(likelihood):
    """Symmetric data with a row that is exactly their mean."""
    heavy = np.random.default_rng(0).standard_cauchy((40, 4))
    X = np.vstack([heavy, -heavy, np.zeros((1, 4))])
    model = VariationalAutoencoder(
        likelihood=likelihood, variance_mode="learned", **QUICK
    ).fit(X)
    assert np.isfinite(model.score(X))


@pytest.mark.parametrize(
    "X",
    [DATA * 1e300, DATA * 1e307, np.where(DATA > 0, 1.7e308, -1.7e308)],
    ids=["1e300", "1e307", "largest"],
)
@every_estimator
def test_huge_values_are_refused_without_other_words(estimator, X):
    """`fit` raises one error, and the scores of a fitted model are finite."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(ValueError, match="squares overflow float64 in columns 0, 1, "):
            estimator(**QUICK).fit(X)
        model = estimator(**QUICK).fit(DATA)
        scores = model.score_samples(X)
        assert np.isfinite(scores).all()
        assert (scores < -1e299).all()


def test_tiny_values_are_refused_or_constant():
    """Differences that underflow are an error; beside others they are a constant column."""
    with pytest.raises(ValueError, match="underflow float64; rescale it"):
        GaussianAutoencoder(**QUICK).fit(DATA * 1e-320)
    X, constant = DATA.copy(), DATA.copy()
    X[:, 1], constant[:, 1] = DATA[:, 1] * 1e-320, 0.0
    for model in (GaussianAutoencoder(**QUICK), LaplaceAutoencoder(**QUICK)):
        expected = model.fit(constant).score(constant)
        assert model.fit(X).score(X) == pytest.approx(expected, rel=1e-9)


def test_small_values_are_fitted():
    """Down to 1e-300 a change of unit shifts the score by -d log a."""
    factor = 2.0**-996
    score = GaussianAutoencoder(**QUICK).fit(DATA).score(DATA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        small = GaussianAutoencoder(**QUICK).fit(DATA * factor).score(DATA * factor)
    assert small == pytest.approx(score - 4 * np.log(factor), rel=1e-9)


def test_misspelt_parameters_of_set_params():
    """As in the constructor, also in a search over a pipeline."""
    model = VariationalAutoencoder()
    with pytest.raises(ValueError, match=r"Invalid parameter .*Did you mean 'beta'\?$"):
        model.set_params(betas=3)
    with pytest.raises(ValueError, match=r"Did you mean 'learning_rate_init'\?$"):
        make_pipeline(model).set_params(variationalautoencoder__lerning_rate_init=3)
    with pytest.raises(ValueError, match=r"Invalid parameter 'width'") as caught:
        model.set_params(width=3)
    assert "Did you mean" not in str(caught.value)
