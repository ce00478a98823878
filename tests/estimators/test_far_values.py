"""A fit names columns with far values or codes once, with the true cause."""

import warnings

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_diabetes, load_wine

from skae import VariationalAutoencoder

CODES, FAR = "many rows have one number far beside", "hundreds of deviations"


def warnings_of(X, **parameters):
    """Return the warnings of a fit about the data and the scales."""
    model = VariationalAutoencoder(2, covariance_type="diag", max_iter=2, random_state=0)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.set_params(**parameters).fit(X)
    messages = [str(w.message) for w in record]
    return [message for message in messages if "Training did not improve" not in message]


@pytest.mark.parametrize("value", [-1, -999])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.4])
def test_one_number_in_many_rows_is_a_code(value, share):
    """It decides the deviation of its column, and is no reason for a logarithm."""
    X = load_diabetes(as_frame=True).data
    X.loc[np.random.default_rng(0).random(len(X)) < share, "bmi"] = value
    (message,) = warnings_of(X)
    assert CODES in message
    assert f"'bmi' ({value} in " in message


def test_a_zero_far_below_all_others_is_a_code():
    X = load_wine(as_frame=True).data
    X.loc[::10, "alcohol"] = 0
    (message,) = warnings_of(X)
    assert (
        f"{CODES} all others: 'alcohol' (0 in 18 rows, the others from 11.03 to" in message
    )


def test_codes_in_all_columns_are_one_warning():
    X = load_wine(as_frame=True).data
    holes = np.random.default_rng(0).random(X.shape) < 0.2
    (message,) = warnings_of(X.mask(holes).fillna(-999))
    assert CODES in message
    assert "and 10 more columns" in message


@pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
def test_a_scale_at_its_floor_because_of_a_far_value_is_not_warned_of(covariance_type):
    X = load_wine(as_frame=True).data
    X.iloc[0, 0] = 1e30
    found = warnings_of(X, covariance_type=covariance_type)
    assert FAR in found[0]
    assert not any("at its floor" in message for message in found)


def test_other_scales_at_their_floor_are_still_warned_of():
    X = load_wine(as_frame=True).data
    X.iloc[0, 0] = 1e30
    far, floor = warnings_of(X.assign(copy=2 * X["hue"]))
    assert "'alcohol'" in far
    assert "2 of 14 features are at their floor min_scale: 'hue', 'copy' (equal" in floor


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_flags_with_a_density_are_named(method, is_sparse):
    rng = np.random.default_rng(0)
    X = rng.random((200, 4)).round(3)
    X[:, [1, 3]], X[:, 2] = rng.integers(0, 2, (200, 2)), 0
    X = csr_array(X) if is_sparse else X
    vae = VariationalAutoencoder(
        1, likelihood="continuous_bernoulli", max_iter=1, random_state=0
    )
    with pytest.warns(UserWarning, match="only the numbers 0 and 1 in columns 1, 3, of"):
        getattr(vae, method)(X)


def test_shares_are_no_flags():
    rng = np.random.default_rng(0)
    X = np.where(rng.random((200, 3)) < 0.9, rng.integers(0, 2, (200, 3)), 0.5)
    vae = VariationalAutoencoder(1, likelihood="continuous_bernoulli", max_iter=1)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        vae.fit(X)
        vae.set_params(likelihood="bernoulli").fit(X.round())
    assert not [w for w in record if "0 and 1" in str(w.message)]
