"""Files and pickles of this version and of former ones, which have to open."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.exceptions import InconsistentVersionWarning

import skae
from tests.models.make import FOLDER, results

FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".skops", ".pickle"))


def test_this_version_has_its_files():
    """RELEASE.md says how they are made; a development version has those of its start."""
    kept = {path.name for path in FILES}
    release = skae.__version__.partition(".dev")[0]
    assert {path.suffix for path in FILES} == {".skops", ".pickle"}
    if release == skae.__version__:
        assert {f"skae-{release}.skops", f"skae-{release}.pickle"} <= kept
    assert all(path.with_suffix(".npz").exists() for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_kept_model_gives_its_results(path):
    """It warns exactly if another version wrote it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if path.suffix == ".skops":
            fitted = skae.load(path)
        else:
            fitted = pickle.loads(path.read_bytes())
    is_other = path.stem != f"skae-{skae.__version__}"
    of_skae = [w for w in caught if "skae" in str(w.message)]
    assert bool(of_skae) == is_other
    assert {w.category for w in caught} <= {InconsistentVersionWarning}
    with np.load(path.with_suffix(".npz")) as expected:
        found = results(fitted)
        assert found.keys() == set(expected)
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)
