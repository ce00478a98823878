"""Settings of torch and SciPy, and small data, for all tests."""

import os
import signal
import sys

# SciPy reads this variable at its first import. Without it scikit-learn skips its checks of
# the array API.
os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from skae._fitting import trainer
from skae._utils.compat import array_api

# Tests of an accelerator that torch cannot forget again: tests/test_emulated.py runs them
# in a process of their own, with the accelerator as a plugin.
collect_ignore = [] if "tests.emulated.accelerator" in sys.modules else ["emulated"]
if array_api is None:
    # An older scikit-learn has nothing that these files test, nor what they import.
    collect_ignore += [
        "emulated/test_arrays.py",
        "estimators/test_arrays.py",
        "estimators/test_callbacks.py",
        "estimators/test_progress_bar.py",
        "utils/test_namespaces.py",
    ]

# Files, and tests, that run the same lines hundreds of times, with other parameters. What
# they cover is covered by others too, and to trace them costs half of their time.
_REPETITIVE = {
    "tests/data/test_batches.py",
    "tests/engine/test_devices.py",
    "tests/engine/test_step.py",
    "tests/estimators/test_automatic.py::test_automatic_length_is_about_1600_steps",
    "tests/estimators/test_degenerate_data.py",
    "tests/estimators/test_extreme_families.py",
    "tests/estimators/test_families.py",
    "tests/estimators/test_history.py::test_numbers_of_an_epoch_recomputed",
    "tests/estimators/test_min_scale.py",
    "tests/estimators/test_missing.py::test_every_mode_learns_from_holes",
    "tests/estimators/test_missing.py::test_linear_model_is_exact_and_reaches_em",
    "tests/estimators/test_random_modules.py::test_fits_are_reproducible",
    "tests/estimators/test_scores.py",
    "tests/estimators/test_settings.py",
    "tests/estimators/test_sklearn_contract.py",
    "tests/estimators/test_stream.py::test_closed_form_scale_of_single_rows",
    "tests/estimators/test_stream.py::test_memory_does_not_grow",
    "tests/estimators/test_stream.py::test_single_rows_in_every_mode",
    "tests/estimators/test_ties.py",
    "tests/objectives/test_expectation.py::test_error_of_a_score",
    "tests/objectives/test_objectives.py",
    "tests/scales/test_scales.py",
    "tests/test_campaign.py",
    "tests/test_docstrings.py",
    "tests/test_model_selection.py",
    "tests/test_search.py",
    "tests/test_unequal_folds.py",
}


# Files of tests that take a minute or more. If they came last, as their names say, the
# other processes of a run would wait for them.
_LONG = {"tests/test_emulated.py", "tests/test_spmd.py"}


def pytest_addoption(parser):
    """Add the option for an environment in which nothing may be missing."""
    parser.addoption(
        "--no-skips", action="store_true", help="count a skipped test or file as failed"
    )


def _fail_if_skipped(report, config):
    """Turn the report of a skip into one of a failure, if the option says so."""
    # An expected failure has the outcome of a skip, too.
    if config.getoption("no_skips") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, with --no-skips: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Apply the option to a file whose import skips it."""
    return _fail_if_skipped((yield), collector.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Apply the option to a test."""
    return _fail_if_skipped((yield), item.config)


def pytest_collection_modifyitems(config, items):
    """Measure no coverage in some of the files above, and begin with others of them."""

    def file_of(item):
        return item.path.relative_to(config.rootpath).as_posix()

    for item in items:
        if _REPETITIVE & {file_of(item), item.nodeid.partition("[")[0]}:
            item.add_marker("no_cover")
    items.sort(key=lambda item: file_of(item) not in _LONG)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skip the tests that use callbacks or other arrays, with an older scikit-learn."""
    try:
        return (yield)
    except (AttributeError, TypeError) as error:
        if array_api is None and "need scikit-learn 1.9 or newer" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="session", autouse=True)
def torch_settings():
    """Use one thread, since pytest-xdist uses the cores, and repeat all warnings.

    Torch raises some warnings only once in a process, so the test that fails would depend
    on the order of the tests.
    """
    torch.set_num_threads(1)
    torch.set_warn_always(True)
    with threadpool_limits(1):
        yield


@pytest.fixture(name="X")
def small_data():
    """Draw 120 rows near a curved two-dimensional surface in six uneven units."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(120, 2))
    curved = np.column_stack([Z, Z[:, 0] ** 2, np.sin(2 * Z[:, 1])])
    noise = 0.2 * rng.normal(size=(120, 6))
    units = np.array([1.0, 2.0, 0.5, 3.0, 1.0, 1.5])
    return (curved @ rng.normal(size=(4, 6)) + noise) * units + np.arange(6.0)


@pytest.fixture(autouse=True)
def interrupts():
    """Raise KeyboardInterrupt on SIGINT, also if the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def counted(monkeypatch):
    """Return the list of the numbers of models that are trained side by side."""
    sizes = []
    original = trainer.train_side_by_side

    def train_side_by_side(jobs, interrupted):
        sizes.append(len(jobs))
        return original(jobs, interrupted)

    monkeypatch.setattr(trainer, "train_side_by_side", train_side_by_side)
    return sizes
