"""skops by itself, which other tools call; `skae.load` is in tests/test_persistence.py."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from skae.networks import MLP
from tests.helpers import assert_same_answers

pytest.importorskip("skops")
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException


def test_a_pipeline_through_skops(X):
    """All that skops asks to be trusted are classes of skae."""
    vae = VariationalAutoencoder(
        2, likelihood="student_t", network=MLP((5,)), max_iter=2, random_state=0
    )
    model = make_pipeline(StandardScaler(), vae).fit(X)
    content = skops.io.dumps(model)
    untrusted = skops.io.get_untrusted_types(data=content)
    assert "skae.estimators.variational.VariationalAutoencoder" in untrusted
    assert all(name.startswith("skae.") for name in untrusted)
    with pytest.raises(UntrustedTypesFoundException):
        skops.io.loads(content)
    loaded = skops.io.loads(content, trusted=untrusted)
    assert_same_answers(loaded[1], model[1], X)
    assert loaded[1].network.get_params() == MLP((5,)).get_params()
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
