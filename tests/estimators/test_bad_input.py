"""Bad input raises scikit-learn's kind of error before training, with a clear message."""

import re

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold
from sklearn.utils._param_validation import InvalidParameterError

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.likelihoods import LogisticLikelihood
from skae.networks import MLP
from skae.objectives import CyclicalSchedule, DecreasingSchedule, LinearSchedule

ESTIMATORS = [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
DATA = np.random.default_rng(0).normal(size=(30, 4))


@pytest.fixture(autouse=True)
def no_training(request, monkeypatch):
    """Make `train` fail the test, except in tests with a fitted model."""
    if "fitted" in request.fixturenames:
        return

    def train(*args, **kwargs):
        pytest.fail("the bad input was not refused before training")

    monkeypatch.setattr("skae.estimators.base.train", train)


def refuses(action, error, message):
    """Assert that an action raises an error of this class with this message."""
    with pytest.raises(error) as caught:
        action()
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


def test_good_input_reaches_training():
    """The fixture of this file detects a fit that reaches its training."""
    with pytest.raises(pytest.fail.Exception, match="not refused"):
        VariationalAutoencoder().fit(DATA)


# Invalid values of X. scikit-learn's messages contain the name of the estimator.

BAD_X = {
    "strings": ([["a", "b"], ["c", "d"]], ValueError, "could not convert string to float"),
    "inf": (np.where(DATA > 1, np.inf, DATA), ValueError, "Input X contains infinity"),
    "-inf float32": (
        np.where(DATA > 1, -np.inf, DATA).astype(np.float32),
        ValueError,
        "Input X contains infinity",
    ),
    "complex": (DATA * 1j, ValueError, "Complex data not supported"),
    "1-D": (DATA[:, 0], ValueError, "Expected 2D array, got 1D array"),
    "3-D": (DATA[None], ValueError, "Found array with dim 3"),
    "a number": (1.0, ValueError, "Expected 2D array, got scalar array"),
    "no rows": (DATA[:0], ValueError, r"Found array with 0 sample\(s\)"),
    "no columns": (DATA[:, :0], ValueError, r"Found array with 0 feature\(s\)"),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, "inhomogeneous|sequence"),
    "an object": (
        np.array([[{}, 1.0], [2.0, 3.0]], dtype=object),
        TypeError,
        "argument must be .* string.* number",
    ),
}
every_bad_data = pytest.mark.parametrize(
    ("X", "error", "message"), BAD_X.values(), ids=BAD_X.keys()
)


@every_estimator
@every_bad_data
def test_bad_data_in_fit(estimator, X, error, message):
    """`fit` and `fit_transform` refuse bad data."""
    refuses(lambda: estimator().fit(X), error, message)
    refuses(lambda: estimator(early_stopping=True).fit_transform(X), error, message)


@pytest.fixture(scope="module", params=ESTIMATORS)
def fitted(request):
    """Return a fitted model of each class."""
    return request.param(max_iter=1, random_state=0).fit(DATA)


@every_bad_data
def test_bad_data_in_methods(fitted, X, error, message):
    """Methods of a fitted model refuse bad data."""
    methods = [fitted.transform, fitted.reconstruct, fitted.score_samples, fitted.score]
    if isinstance(fitted, VariationalAutoencoder):
        methods += [fitted.posterior, fitted.elbo, fitted.log_marginal]
    for method in methods:
        refuses(lambda method=method: method(X), error, message)
    # The number of columns is looked at before the numbers.
    message = f"{message}|{type(fitted).__name__} has n_components=2"
    refuses(lambda: fitted.inverse_transform(X), error, message)


@pytest.mark.parametrize("width", [3, 5])
def test_wrong_number_of_columns(fitted, width):
    """Methods refuse data and codes with another number of columns than in the fit."""
    X = np.ones((2, width))
    message = f"X has {width} features, but {type(fitted).__name__} is expecting 4 features"
    methods = [fitted.transform, fitted.reconstruct, fitted.score_samples, fitted.score]
    if isinstance(fitted, VariationalAutoencoder):
        methods += [fitted.posterior, fitted.elbo, fitted.log_marginal]
    for method in methods:
        refuses(lambda method=method: method(X), ValueError, message)
    message = rf"X has {width} columns, but {type(fitted).__name__} has n_components=2: "
    refuses(lambda: fitted.inverse_transform(X), ValueError, message)


@pytest.mark.parametrize(
    ("X_val", "error", "message"),
    [
        (DATA[:, :3], ValueError, "X has 3 features, but .* is expecting 4 features"),
        (np.column_stack([DATA, DATA]), ValueError, "X has 8 features, but"),
        *[case for name, case in BAD_X.items() if name not in ("strings", "ragged")],
    ],
)
@pytest.mark.parametrize("early_stopping", [False, True])
@every_estimator
def test_bad_validation_data(estimator, early_stopping, X_val, error, message):
    """`fit` refuses bad validation data, with and without early stopping."""
    model = estimator(early_stopping=early_stopping)
    refuses(lambda: model.fit(DATA, X_val=X_val), error, message)


@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        (np.where(np.arange(30) == 3, -1.0, 1.0), "Negative values in .*`sample_weight`"),
        (np.zeros(30), "Sample weights must contain at least one non-zero number"),
        (np.full(30, np.nan), "Input sample_weight contains NaN"),
        (np.full(30, np.inf), "Input sample_weight contains infinity"),
        (np.ones(29), r"sample_weight\.shape == \(29,\), expected \(30,\)"),
        (np.ones((30, 1)), "Sample weights must be 1D|sample_weight.* 1D"),
        (["a"] * 30, "could not convert string to float"),
    ],
)
@every_estimator
def test_bad_sample_weights(estimator, sample_weight, message):
    """`fit` refuses bad sample weights."""
    model = estimator()
    refuses(lambda: model.fit(DATA, sample_weight=sample_weight), ValueError, message)


# Invalid values of parameters. scikit-learn's message names the parameter, the estimator,
# the valid values and the given value.

OUT_OF_RANGE = {
    "n_components": [0, -1, 2.0, "2", None, np.nan, [2]],
    "variance_mode": ["Optimal", "constant", None, 1],
    "covariance_type": ["full", "tied", None],
    "scale": [0, 0.0, -1.0, np.inf, np.nan, "1", None],
    "min_scale": [0, 0.0, -1e-3, np.inf, np.nan, "none", None, [0.1]],
    "network": ["MLP", "conv", None, 3, object()],
    "hidden_layer_sizes": [0, -1, 2.5, None, "64"],
    "activation": ["ReLU", "gelu", None],
    "init": ["PCA", "zeros", None],
    "n_init": [0, -1, 1.5, "2", None],
    "batch_size": [0, -1, 2.5, "all", None],
    "max_iter": [0, -1, 2.5, "10", None],
    "learning_rate_init": [0, -1e-3, np.inf, np.nan, "auto", None],
    "alpha": [-1e-9, np.inf, np.nan, "0", None],
    "early_stopping": ["yes", None, 2],
    "validation_fraction": [0, 0.0, 1.0, 1, 1.5, -0.1, "0.1", None],
    "n_iter_no_change": [0, -1, 2.5, "10", None],
    "tol": [-1e-4, np.nan, "0", None],
    "shuffle": ["yes", None, 2],
    "warm_start": ["yes", None, 2],
    "learning_rate": ["adaptive", None, 0.1],
    "checkpoint": [0, 1.5, True],
    "checkpoint_interval": [0, -1, 0.0, -0.5, np.nan, "10", None],
    "device": [0, None, 1.5, torch.float32, ["cpu"]],
    "precision": ["half", "float16", "double", 32, None],
    "random_state": [-1, "0", 1.5, np.random.default_rng(0)],
    "verbose": [-1, "yes", 1.5, None],
}
VARIATIONAL_ONLY = {
    "likelihood": ["Gaussian", "cauchy", None, 1, LogisticLikelihood],
    "beta": [-1e-9, -1, np.inf, np.nan, "1", None],
    "kl_schedule": ["cosine", "Linear", None, 1, [1.0]],
    "n_mc_samples": [0, -1, 1.5, "1", None],
    "prior": ["normal", 1, KFold()],
    "gradient_balance": ["yes", None, 2],
}
CASES = [
    (estimator, name, value)
    for estimator in ESTIMATORS
    for name, values in {
        **OUT_OF_RANGE,
        **(VARIATIONAL_ONLY if estimator is VariationalAutoencoder else {}),
    }.items()
    for value in values
]


@pytest.mark.parametrize(
    ("estimator", "name", "value"),
    CASES,
    ids=[f"{e.__name__}-{name}-{i}" for i, (e, name, _) in enumerate(CASES)],
)
def test_parameters_out_of_range(estimator, name, value):
    """`fit` refuses each bad value of a parameter, and the constructor accepts it."""
    message = (
        rf"The '{name}' parameter of {estimator.__name__} must be .*\. "
        rf"Got .*{re.escape(repr(value)[:20])}.* instead"
    )
    # By scikit-learn's convention, `fit` validates and the constructor only stores.
    model = estimator(**{name: value})
    refuses(lambda: model.fit(DATA), InvalidParameterError, message)


def test_every_parameter_is_in_the_table():
    """The tables above have bad values of every parameter."""
    assert set(OUT_OF_RANGE) == set(GaussianAutoencoder().get_params())
    every = set(OUT_OF_RANGE) | set(VARIATIONAL_ONLY)
    assert every == set(VariationalAutoencoder().get_params())


# Values that are valid alone, but not with the data or with other parameters.

FIXED = {"variance_mode": "fixed"}
DIAG = {"variance_mode": "fixed", "covariance_type": "diag"}
CONTRADICTIONS = [
    ({**DIAG, "scale": np.ones(3)}, r"scale has shape \(3,\).*shape \(4,\)"),
    ({**DIAG, "scale": np.ones((1, 4))}, r"scale has shape \(1, 4\).*shape \(4,\)"),
    ({**DIAG, "scale": []}, r"scale"),
    ({**FIXED, "scale": np.ones(4)}, r"scale has shape \(4,\).*spherical.* a number"),
    ({**FIXED, "scale": np.ones((1, 1))}, r"scale has shape \(1, 1\).*a number"),
    ({**DIAG, "scale": [1, 1, 0, 1]}, "scale must be positive"),
    ({**DIAG, "scale": [1, 1, -2, 1]}, "scale must be positive"),
    ({**DIAG, "scale": [1, 1, np.nan, 1]}, "scale contains NaN"),
    ({**DIAG, "scale": [1, 1, np.inf, 1]}, "scale contains infinity"),
    ({**DIAG, "scale": ["a", "b", "c", "d"]}, "string"),
    (
        {"variance_mode": "profile", "covariance_type": "diag"},
        r"variance_mode='profile' does not go with covariance_type='diag'"
        r".*without a mean over features.*explodes.*Use covariance_type='spherical'",
    ),
    ({"hidden_layer_sizes": (0,)}, r"hidden_layer_sizes must be positive.*\(0,\)"),
    ({"hidden_layer_sizes": (8, -1)}, r"hidden_layer_sizes must be positive.*\(8, -1\)"),
    ({"hidden_layer_sizes": (8, 2.5)}, r"hidden_layer_sizes must be positive.*2\.5"),
    ({"hidden_layer_sizes": (8.0,)}, r"hidden_layer_sizes must be positive.*8\.0"),
    ({"hidden_layer_sizes": ["8"]}, r"hidden_layer_sizes must be positive.*'8'"),
    ({"hidden_layer_sizes": [[8, 8]]}, r"hidden_layer_sizes must be positive"),
    ({"hidden_layer_sizes": (8, None)}, r"hidden_layer_sizes must be positive.*None"),
    ({"network": MLP((8, 0))}, r"hidden_layer_sizes must be positive.*\(8, 0\)"),
    ({"network": MLP(activation="gelu")}, "activation must be one of .*relu.*'gelu'"),
    ({"device": "no such device"}, "device='no such device' cannot be used here"),
    ({"device": "cuda:99"}, "device='cuda:99' cannot be used here"),
    ({"device": "meta"}, "device='meta' cannot be used here"),
    # Torch's message is long, so the end of the expression limits its length.
    pytest.param(
        {"device": "mps"},
        r"^device='mps' cannot be used here: .{,120}$",
        marks=pytest.mark.skipif(torch.mps.is_available(), reason="it can be used here"),
    ),
    ({"device": "hpu"}, "device='hpu' cannot be used here: No module named 'torch.hpu'"),
    ({"min_scale": 1e300}, r"min_scale=1e\+300 is out of proportion .* 0 and 1e\+15\."),
    (
        {"min_scale": 1e16},
        r"min_scale=1e\+16 is out of proportion .* deviation is about 0\.945",
    ),
    ({**FIXED, "scale": 1e300}, r"scale=1e\+300 is out of proportion .* 1e-15 and 1e\+15"),
    ({**FIXED, "scale": 1e-300}, "scale=1e-300 is out of proportion to X"),
    ({**DIAG, "scale": [1, 1e-16, 1, 1]}, r"scale=\[1, 1e-16, 1, 1\] is out of prop"),
    (
        {"early_stopping": True, "validation_fraction": 0.99},
        r"early_stopping=True with validation_fraction=0\.99.*n_samples=30.*"
        "smaller validation_fraction, pass X_val",
    ),
]


@pytest.mark.parametrize(("parameters", "message"), CONTRADICTIONS)
@every_estimator
def test_contradictory_parameters(estimator, parameters, message):
    """`fit` refuses parameters that contradict each other or the data."""
    model = estimator(**parameters)
    refuses(lambda: model.fit(DATA), ValueError, message)


@pytest.mark.parametrize("name", ["meta", "cuda:99"])
def test_device_as_an_object(name):
    """A device of torch that cannot be used is refused like its name."""
    message = f"device='{name}' cannot be used here"
    model = VariationalAutoencoder(device=torch.device(name))
    refuses(lambda: model.fit(DATA), ValueError, message)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (CyclicalSchedule(n_cycles=0), "'n_cycles' parameter of CyclicalSchedule must be"),
        (CyclicalSchedule(rise=0.0), "'rise' parameter of CyclicalSchedule must be"),
        (CyclicalSchedule(rise="all"), "'rise' parameter of CyclicalSchedule must be"),
        (LinearSchedule(share=0), "'share' parameter of LinearSchedule must be"),
        (LinearSchedule(share=1.5), "'share' parameter of LinearSchedule must be"),
        (LinearSchedule(start=-1.0), "'start' parameter of LinearSchedule must be"),
        (DecreasingSchedule(start=0.0), "'start' parameter of DecreasingSchedule must be"),
        (DecreasingSchedule(share=0.0), "'share' parameter of DecreasingSchedule must be"),
        (CyclicalSchedule, r"kl_schedule=<class .*CyclicalSchedule'> must give a finite"),
        (lambda progress: progress - 0.5, r"must give .* at least 0 .* -0\.5 at 0\.00"),
        (lambda progress: np.nan, r"must give .* finite .* nan at 0\.00"),
        (lambda progress: np.inf if progress == 1 else 1.0, r"gives inf at 1\.00"),
        (lambda progress: -((0.4 < progress < 0.45) * 1.0), r"at least 0 .* at 0\.41"),
        (lambda progress: "1", r"must give a finite number .* gives '1'"),
        (lambda progress: None, r"must give a finite number .* gives None"),
    ],
)
def test_bad_schedules(schedule, message):
    """`fit` refuses bad schedules of the KL weight."""
    model = VariationalAutoencoder(kl_schedule=schedule)
    refuses(lambda: model.fit(DATA), (ValueError, InvalidParameterError), message)


@pytest.mark.parametrize("likelihood", ["logistic", LogisticLikelihood()])
@pytest.mark.parametrize("variance_mode", ["optimal", "profile"])
def test_likelihood_without_a_closed_form(likelihood, variance_mode):
    """The message names the likelihood, its variance mode and the valid modes."""
    model = VariationalAutoencoder(likelihood=likelihood, variance_mode=variance_mode)
    message = (
        rf"variance_mode='{variance_mode}' needs a closed form.*LogisticLikelihood has none"
        r".*\['fixed', 'learned', 'predicted'\]"
    )
    refuses(lambda: model.fit(DATA), ValueError, message)


@every_estimator
@pytest.mark.parametrize(
    ("X", "sample_weight"),
    [
        (DATA[:1], None),
        (DATA, np.eye(30)[7]),  # one row with a weight above 0
    ],
)
def test_too_few_samples_for_early_stopping(estimator, X, sample_weight):
    """Rows with weight 0 do not count."""
    model = estimator(early_stopping=True)
    message = r"early_stopping=True.*leaves nothing to train on.*n_samples=1 "
    refuses(lambda: model.fit(X, sample_weight=sample_weight), ValueError, message)


# Calls before a fit, and arguments of the methods.


@every_estimator
def test_unfitted(estimator):
    """Every method of an unfitted estimator raises NotFittedError."""
    model = estimator()
    calls = [
        lambda: model.transform(DATA),
        lambda: model.inverse_transform(DATA[:, :2]),
        lambda: model.reconstruct(DATA),
        lambda: model.score_samples(DATA),
        lambda: model.score(DATA),
        lambda: model.get_feature_names_out(),
    ]
    if estimator is VariationalAutoencoder:
        calls += [
            lambda: model.posterior(DATA),
            lambda: model.elbo(DATA),
            lambda: model.log_marginal(DATA),
            lambda: model.sample(),
        ]
    for call in calls:
        refuses(
            call, NotFittedError, f"This {estimator.__name__} instance is not fitted yet"
        )


@every_estimator
def test_refused_fit_leaves_an_unfitted_estimator(estimator):
    """After a refused fit the estimator is still unfitted."""
    model = estimator(network=MLP((0,)))
    refuses(lambda: model.fit(DATA), ValueError, "hidden_layer_sizes")
    refuses(lambda: model.transform(DATA), NotFittedError, "is not fitted yet")


only_variational = pytest.mark.parametrize(
    "fitted", [VariationalAutoencoder], indirect=True
)


@only_variational
@pytest.mark.parametrize(
    ("n_samples", "error"),
    [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("3", TypeError)],
)
def test_bad_numbers_of_draws(fitted, n_samples, error):
    """A number of draws must be a positive integer, and the message names it."""
    refuses(lambda: fitted.sample(n_samples), error, "n_samples")
    refuses(lambda: fitted.log_marginal(DATA, n_samples=n_samples), error, "n_samples")


@only_variational
@pytest.mark.parametrize(
    ("tol", "error"), [(0.0, ValueError), (-1, ValueError), ("1", TypeError)]
)
def test_bad_tolerance_of_a_bound(fitted, tol, error):
    """`log_marginal` refuses a tolerance that is not a positive number."""
    refuses(lambda: fitted.log_marginal(DATA, tol=tol), error, "tol")


@only_variational
@pytest.mark.parametrize("random_state", ["0", 1.5])
def test_bad_seeds_of_draws(fitted, random_state):
    """`sample` and `log_marginal` refuse a seed that is not an integer."""
    refuses(
        lambda: fitted.sample(random_state=random_state),
        (ValueError, TypeError),
        "[Ss]eed|random_state",
    )
    refuses(
        lambda: fitted.log_marginal(DATA, random_state=random_state),
        (ValueError, TypeError),
        "[Ss]eed|random_state",
    )


@only_variational
def test_negative_seed(fitted):
    """`sample` refuses a negative seed, which numpy's generators do not accept."""
    refuses(lambda: fitted.sample(random_state=-1), ValueError, "[Ss]eed|random_state")
