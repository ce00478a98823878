"""Tests that no setting of the user changes a result, whatever the parts of a model."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
from sklearn.base import clone

from skae import VariationalAutoencoder
from skae.likelihoods import LIKELIHOODS
from skae.objectives.draws import matched_normal
from tests.helpers import weights
from tests.small_models import MODELS, all_answers, digest, fitted
from tests.surroundings import SETTINGS, many_settings, nothing_global_changes

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",  # the fits have two epochs
    "ignore:Anomaly Detection has been enabled:UserWarning",
)


def assert_unchanged(name, setting):
    """Assert that fits and results under a setting are those without it."""
    estimator, X, model, expected = fitted(name)
    # The draws of scores are cached, so that a wrong first value would be kept.
    matched_normal.cache_clear()
    pickled = pickle.dumps(model)
    with setting(), nothing_global_changes():
        other = clone(estimator).fit(X)
        assert weights(other) == weights(model)
        for twin in (other, copy.deepcopy(pickle.loads(pickled))):
            found = all_answers(twin, X)
            assert [k for k in expected if found[k] != expected[k]] == []
        assert weights(pickle.loads(pickle.dumps(other))) == weights(model)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_no_setting_changes_a_result(setting):
    """Of the estimator with the most methods; the next test has all models."""
    assert_unchanged("variational", setting)


@pytest.mark.parametrize(
    ("name", "which"),
    [
        (name, which)
        for i, name in enumerate(MODELS)
        for which in (0, 1)
        # The likelihoods take turns: they share all but a density.
        if name not in LIKELIHOODS or which == i % 2
    ],
)
def test_all_settings_together_change_no_result(name, which):
    assert_unchanged(name, lambda: many_settings(which))


@pytest.mark.parametrize("setting", ["inference_mode", "no_grad", "autocast to bfloat16"])
def test_warm_start_under_a_setting(setting, X):
    """What a fit under a setting has left can be trained further, with or without it."""
    model = VariationalAutoencoder(max_iter=2, random_state=0, warm_start=True)
    with SETTINGS[setting]():
        other = clone(model).fit(X)
    other.fit(X)
    with SETTINGS[setting]():
        other.fit(X)
    for _ in range(3):
        model.fit(X)
    assert weights(model) == weights(other)


def test_environment_changes_no_result():
    """Nor do hashes, threads and precision that are set for a whole process."""
    program = """
        import torch
        torch.backends.fp32_precision = "tf32"
        from tests.small_models import digest
        assert torch.get_num_threads() == 2
        print(digest())
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True, text=True,
        env={
            **os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2", "SCIPY_ARRAY_API": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()
