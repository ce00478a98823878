"""Sparse data: the fit and the results of the same data in a dense array."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from skae import (
    GaussianAutoencoder,
    LaplaceAutoencoder,
    VariationalAutoencoder,
)
from skae._data import Rows, Standardization, measure
from skae._data.blocks import ColumnReader
from skae._fitting import sparse_ppca
from skae._fitting.ppca import principal_components
from skae.estimators.latent_prior import fit_prior
from skae.inspection import ReconstructionDisplay, ResidualQQDisplay
from skae.model_selection import BatchedGridSearchCV
from skae.outlier import LikelihoodOutlierDetector

pytestmark = pytest.mark.filterwarnings(
    "ignore:Training did not improve:sklearn.exceptions.ConvergenceWarning"
)
ignore_floor = pytest.mark.filterwarnings("ignore:The scales? of .* floor")

FAST = {"max_iter": 2, "random_state": 0}
RESULTS = ["transform", "reconstruct", "score_samples", "score_features"]


@pytest.fixture
def counts():
    """Draw 300 rows of 25 counts, most of them 0, with empty and equal rows."""
    counts = np.random.default_rng(0).poisson(0.3, size=(300, 25)).astype(float)
    counts[[5, 9]] = 0.0
    counts[17] = counts[20]
    return counts


@pytest.fixture
def small_blocks(monkeypatch):
    """Make blocks so small that a few rows are several of them."""
    monkeypatch.setattr("skae._data.blocks.BLOCK_NUMBERS", 25 * 32)


def with_holes(X):
    """Return a copy in which large counts are missing."""
    return np.where(X > 2, np.nan, X)


def assert_same(one, other, X, sparse):
    """Assert that two fits have bit-identical results for the same data."""
    assert one.loss_curve_ == other.loss_curve_
    for name in RESULTS:
        result = getattr(other, name)(sparse)
        assert isinstance(result, np.ndarray)
        assert_array_equal(getattr(one, name)(X), result, err_msg=name)
    assert one.score(X) == other.score(sparse)


MODELS = {
    "gaussian": VariationalAutoencoder(**FAST),
    "laplace": VariationalAutoencoder(
        likelihood="laplace", covariance_type="diag", early_stopping=True, **FAST
    ),
    "poisson": VariationalAutoencoder(likelihood="poisson", **FAST),
    "negative_binomial": VariationalAutoencoder(likelihood="negative_binomial", **FAST),
    "deterministic": GaussianAutoencoder(n_components=0.5, **FAST),
    "unshuffled": LaplaceAutoencoder(shuffle=False, n_components="auto", **FAST),
}


@ignore_floor
@pytest.mark.parametrize(("holes", "dtype"), [(False, np.float64), (True, np.float32)])
@pytest.mark.parametrize("model", MODELS)
def test_a_sparse_fit_is_the_dense_one(model, dtype, holes, counts):
    """Fit, validation, weights and results do not depend on the kind of the array."""
    X = (with_holes(counts) if holes else counts).astype(dtype)
    weight = np.random.default_rng(1).integers(0, 3, len(X))
    sparse = sp.csr_array(X)
    one, other = clone(MODELS[model]), clone(MODELS[model])
    one.fit(X, sample_weight=weight, X_val=X[:40])
    other.fit(sparse, sample_weight=weight, X_val=sp.csc_array(X[:40]))
    assert_same(one, other, X, sparse)
    assert other.transform(sparse).dtype == dtype


@ignore_floor
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("model", ["gaussian", "laplace", "poisson"])
def test_blocks_change_nothing_but_rounding(model, counts):
    """Sums over blocks of rows with holes differ from one sum by rounding only."""
    X = with_holes(counts)
    one, other = clone(MODELS[model]).fit(X), clone(MODELS[model]).fit(sp.csr_array(X))
    assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-5)
    assert_allclose(one.score_samples(X), other.score_samples(sp.csr_array(X)), rtol=1e-4)


def with_duplicates(X):
    """Return a sparse array in which an entry is the sum of two, in no order."""
    stored = sp.coo_array(X)
    rows, columns = (np.tile(index, 2)[::-1].copy() for index in stored.coords)
    data = np.concatenate([stored.data - 1.0, np.ones(len(stored.data))])[::-1].copy()
    order = np.argsort(rows, kind="stable")
    indptr = np.searchsorted(rows[order], np.arange(len(X) + 1))
    return sp.csr_array((data[order], columns[order], indptr), shape=X.shape)


def with_explicit_zeros(X):
    """Return a sparse array in which each entry is stored."""
    n, d = X.shape
    indices = np.tile(np.arange(d), n)
    return sp.csr_array(
        (X.ravel().copy(), indices, np.arange(0, n * d + 1, d)), shape=(n, d)
    )


def with_long_indices(X):
    """Return a sparse array with indices of 64 bits."""
    array = sp.csr_array(X)
    array.indices, array.indptr = array.indices.astype(np.int64), array.indptr.astype("i8")
    return array


FORMATS = {
    "csc": sp.csc_array,
    "triplets": sp.coo_array,
    "lil": sp.lil_array,
    "matrix": sp.csr_matrix,
    "duplicates": with_duplicates,
    "explicit zeros": with_explicit_zeros,
    "int64 indices": with_long_indices,
    "integers": lambda X: sp.csr_array(X.astype(np.int32)),
    "frame": lambda X: pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(X)),
}


@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind, counts):
    """All sparse formats are equal, and none is changed."""
    sparse = FORMATS[kind](counts)
    before = sparse.copy()
    one, other = clone(MODELS["gaussian"]).fit(counts), clone(MODELS["gaussian"])
    assert_same(one, other.fit(sparse), counts, sparse)
    if hasattr(before, "indices"):
        assert_array_equal(before.data, sparse.data)
        assert_array_equal(before.indices, sparse.indices)


def test_columns_are_read_as_of_a_dense_array(counts):
    """The values of a column do not depend on the columns that were read before."""
    reader = ColumnReader(sp.csr_array(counts))
    rows = np.random.default_rng(0).permutation(300)[:50]
    for column in (3, 0, 24, 3):
        assert_array_equal(reader[rows, column], counts[rows, column])


@ignore_floor
def test_searches_pipelines_and_warm_starts(counts, tmp_path):
    """Sparse data go through searches, pipelines, warm starts and checkpoints."""
    sparse = sp.csr_array(counts)
    pipeline = make_pipeline(MaxAbsScaler(), VariationalAutoencoder(**FAST))
    grid = {"variationalautoencoder__beta": [0.5, 2.0]}
    for search in (GridSearchCV, BatchedGridSearchCV):
        found = [search(pipeline, grid, cv=2).fit(X) for X in (counts, sparse)]
        assert_array_equal(*(f.cv_results_["mean_test_score"] for f in found))
    keywords = {"warm_start": True, "learning_rate": "constant", "random_state": 0}
    goes_on = VariationalAutoencoder(max_iter=2, **keywords).fit(counts).fit(sparse)
    whole = VariationalAutoencoder(max_iter=4, **keywords).fit(counts)
    assert goes_on.loss_curve_ == whole.loss_curve_
    with pytest.warns(UserWarning, match="in other units"):
        goes_on.fit(sparse * 1000.0)
    with pytest.raises(ValueError, match="deviations from its mean"):
        goes_on.fit(sparse * 1e18)
    path = tmp_path / "fit"
    first = VariationalAutoencoder(checkpoint=path, **FAST).fit(sparse)
    again = VariationalAutoencoder(checkpoint=path, **FAST).fit(counts)
    assert_same(again, first, counts, sparse)
    with pytest.raises(ValueError, match="X"):
        VariationalAutoencoder(checkpoint=path, **FAST).fit(2.0 * sparse)


def with_infinite_sums(X):
    """Return finite entries of float32, of which two add up to infinity."""
    X = X.astype(np.float32)
    data, indices = np.append(X.data, [3e38, 3e38]), np.append(X.indices, [0, 0])
    indptr = X.indptr + np.append(np.zeros(X.shape[0], dtype=np.int32), 2)
    return sp.csr_array((data.astype(np.float32), indices, indptr), shape=X.shape)


BAD = {
    "infinity": (lambda X: X * np.inf, "infinity"),
    "one row of another width": (lambda X: X[:, :3], "features"),
    "complex": (lambda X: X.astype(complex), "Complex data"),
    "a sum of infinity": (with_infinite_sums, "infinity"),
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("kind", BAD)
def test_bad_data(kind, counts):
    """Sparse data get the errors of dense ones."""
    change, message = BAD[kind]
    model = clone(MODELS["gaussian"]).fit(counts)
    bad = change(sp.csr_array(counts))
    with pytest.raises(ValueError, match=message):
        model.score_samples(bad)
    if kind != "one row of another width":
        with pytest.raises(ValueError, match=message):
            clone(model).fit(bad)


def test_what_is_dense_only(counts):
    """Methods and likelihoods that need all entries say so."""
    sparse = sp.csr_array(counts)
    model = clone(MODELS["gaussian"]).fit(sparse)
    needs_dense = [
        lambda: model.impute(sparse),
        lambda: model.inverse_transform(sparse[:, :2]),
        lambda: VariationalAutoencoder(likelihood="mixed").fit(sparse),
        lambda: VariationalAutoencoder(likelihood="categorical").fit(sparse),
        lambda: LikelihoodOutlierDetector(model).fit(sparse),
    ]
    for call in needs_dense:
        with pytest.raises(TypeError, match="dense data is required"):
            call()
    with pytest.raises(ValueError, match="positive numbers"):
        VariationalAutoencoder(likelihood="log_normal").fit(sparse)
    with pytest.raises(ValueError, match="Negative values"):
        VariationalAutoencoder(likelihood="poisson").fit(-sparse)
    with pytest.raises(ValueError, match="flags"):
        VariationalAutoencoder(likelihood="bernoulli").fit(sparse)
    flags = (sparse > 0).astype(float)
    VariationalAutoencoder(likelihood="bernoulli", **FAST).fit(flags).score(flags)


def wide_rows(n, d):
    """Draw sparse rows near a plane, with an offset of some columns."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(n, 2)) @ (rng.normal(size=(2, d)) * (rng.random(d) < 0.2))
    X = plane + 0.1 * rng.normal(size=(n, d)) + (np.arange(d) % 7 == 0)
    return X * (rng.random((n, d)) < 0.3)


@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_components_of_wide_rows(monkeypatch, holes):
    """Components by products with vectors are those of the dense rows."""
    X = wide_rows(120, 300)
    if holes:
        X[X > 2] = np.nan
    weight = np.random.default_rng(1).random(120) + 0.5
    weight /= weight.mean()
    index = np.arange(120)
    dense, sparse = (Rows(A, index, weight) for A in (X, sp.csr_array(X)))
    standardization = measure(dense, "diag")
    expected = principal_components(dense, standardization, 3)
    assert_array_equal(principal_components(sparse, standardization, 3)[0], expected[0])
    monkeypatch.setattr(sparse_ppca, "_DENSE_NUMBERS", 100)
    vectors, eigenvalues, rest = principal_components(sparse, standardization, 3)
    assert_allclose(eigenvalues, expected[1], rtol=1e-9)
    assert_allclose(np.abs(vectors.T @ expected[0]), np.eye(3), atol=1e-7)
    assert rest == pytest.approx(expected[2], rel=1e-9)
    if not holes:
        scaled = (X - standardization.mean) / standardization.std
        scaled = scaled * np.sqrt(weight)[:, None]
        singular = np.linalg.svd(scaled, compute_uv=False)[:3]
        assert_allclose(eigenvalues, singular**2 / 120, rtol=1e-9)


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_fit_of_wide_rows(monkeypatch, covariance_type):
    """A fit that starts by products with vectors ends as that of the dense rows."""
    X = wide_rows(120, 300)
    parameters = {"covariance_type": covariance_type, **FAST}
    dense = VariationalAutoencoder(**parameters).fit(X)
    monkeypatch.setattr(sparse_ppca, "_DENSE_NUMBERS", 100)
    sparse = VariationalAutoencoder(**parameters).fit(sp.csr_array(X))
    # The signs of the components, and with them the noise, may be others.
    assert_allclose(sparse.loss_curve_, dense.loss_curve_, rtol=0.01)
    with pytest.raises(ValueError, match="Pass an integer"):
        VariationalAutoencoder(n_components=0.5).fit(sp.csr_array(X))


@ignore_floor
def test_equal_wide_rows(monkeypatch):
    """Rows without any variance have no components, in whatever way they are found."""
    X = np.tile(np.rint(9 * wide_rows(1, 300)), (20, 1))
    model = VariationalAutoencoder(shuffle=False, **FAST)
    dense = clone(model).fit(X)
    monkeypatch.setattr(sparse_ppca, "_DENSE_NUMBERS", 100)
    sparse = model.fit(sp.csr_array(X))
    assert_allclose(sparse.loss_curve_, dense.loss_curve_, rtol=1e-6)


def test_prior_of_sparse_rows(monkeypatch, counts):
    """A prior is fitted to codes of sparse rows, which are never dense together."""
    X = sp.csr_array(counts)
    model = VariationalAutoencoder(**FAST).fit(counts)
    monkeypatch.setattr("skae._evaluation.blocks._CHUNK_NUMBERS", 50 * model.module_.width)
    n_rows = []
    toarray = sp.csr_array.toarray
    monkeypatch.setattr(
        sp.csr_array, "toarray", lambda X: n_rows.append(X.shape[0]) or toarray(X)
    )
    fitted = [
        fit_prior(
            GaussianMixture(2, random_state=0),
            model.module_,
            model._make_objective(),
            Rows(A, np.arange(len(counts)), np.ones(len(counts))),
            model._standardization,
            np.random.RandomState(0),
        )
        for A in (counts, X)
    ]
    assert_array_equal(*(prior.means_ for prior in fitted))
    assert n_rows == 6 * [50]


def test_memory_of_a_warm_start():
    """The range of wide rows is found in a block at a time, and kept for none of them."""
    X = sp.random_array((64, 2**16), density=1e-3, format="csr", random_state=0)
    standardization = Standardization.identity(2**16)
    tracemalloc.start()
    try:
        standardization.check_range(X)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A block has 2 MB, and all rows have 32.
    assert most < 8 * 2**20


MEMORY = """
import resource
import scipy.sparse as sp
from skae import VariationalAutoencoder

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

small = sp.random_array((500, 50), density=0.01, format="csr", random_state=0)
VariationalAutoencoder(max_iter=1, random_state=0).fit(small + 0).score(small)
before = peak()
X = sp.random_array((20_000, 1000), density=0.01, format="csr", random_state=0)
model = VariationalAutoencoder(max_iter=1, hidden_layer_sizes=(8,))
model.fit(X).score(X[:1000])
print(peak() - before)
"""


def test_memory_of_a_fit():
    """A fit of data that would take 153 MiB in a dense array takes much less."""
    command = [sys.executable, "-W", "ignore", "-c", MEMORY]
    # Threads that wait for each other would take long on a machine that is used.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    mebibytes = float(subprocess.check_output(command, text=True, env=one_thread))
    assert mebibytes < 110


def test_displays_say_that_they_need_dense_data(counts):
    """A display of rows that are drawn raises an error for sparse data."""
    model = clone(MODELS["gaussian"]).fit(counts)
    for display in (ReconstructionDisplay, ResidualQQDisplay):
        for data in (sp.csr_array(counts), FORMATS["frame"](counts)):
            with pytest.raises(TypeError, match="dense data is required"):
                display.from_estimator(model, data)


def test_scores_are_comparable_to_those_of_pca(counts):
    """The linear model of sparse data is probabilistic PCA of the dense array."""
    linear = VariationalAutoencoder(
        hidden_layer_sizes=(), max_iter=30, random_state=0, alpha=0.0
    ).fit(sp.csr_array(counts))
    expected = PCA(2).fit(counts).score(counts)
    assert linear.score(sp.csr_array(counts)) == pytest.approx(expected, abs=0.05)
