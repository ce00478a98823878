"""Fits by two processes, against fits of all rows in one process."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

import skae
from skae import spmd
from skae._utils.peers import ProcessPeers
from tests import spmd_cases
from tests.callbacks import Callback
from tests.spmd_cases import (
    EQUAL,
    FAILED,
    HELD_OUT,
    IRIS,
    OTHER,
    REFUSED,
    SAME,
    SEEDED,
    SIZE,
)

ROOT = Path(__file__).parents[1]
# Seconds in which the processes of a test must end, on a busy machine.
LIMIT = 300

pytestmark = [
    pytest.mark.skipif(not dist.is_available(), reason="torch without distributed"),
    # Short trainings, of which some diverge on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def start(folder, *command):
    """Start the processes of a group; the command is followed by rank and store."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    path = os.pathsep.join([str(ROOT), *sys.path])
    environment = {**os.environ, **threads, "PYTHONPATH": path}
    processes = []
    for rank in range(SIZE):
        # Files, because a full pipe would stop a process.
        with open(folder / f"printed{rank}", "wb") as printed:
            processes.append(
                subprocess.Popen(
                    [sys.executable, *command, str(rank), str(folder / "store"),
                     str(folder / f"out{rank}")],
                    cwd=ROOT, env=environment, stdout=printed, stderr=subprocess.STDOUT,
                )
            )  # fmt: skip
    return processes


def end(processes):
    """Wait for processes, and kill those that do not end."""
    try:
        for process in processes:
            process.wait(LIMIT)
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return the results of all cases on each rank, and what each rank has printed.

    With pytest-xdist, the workers share the folder of the first that comes.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ranks"
    try:
        folder.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + LIMIT
        while not (folder / "done").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    else:
        end(start(folder, "-m", "tests.spmd_cases"))
        (folder / "done").touch()
    printed = [(folder / f"printed{rank}").read_text() for rank in range(SIZE)]
    outs = [folder / f"out{rank}" for rank in range(SIZE)]
    assert all(out.exists() for out in outs), "\n".join(printed)
    return [pickle.loads(out.read_bytes()) for out in outs], printed


def assert_close(found, expected, tolerance):
    """Assert that two fits have the same epochs, and equal numbers up to a tolerance."""
    assert found["n_iter"] == expected["n_iter"]
    assert found["best_iter"] == expected["best_iter"]
    for part in ("arrays", "history", "standardization", "scores"):
        assert found[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            np.testing.assert_allclose(
                found[part][name], value, rtol=tolerance, atol=tolerance, err_msg=name
            )


@pytest.mark.parametrize("name", EQUAL)
def test_full_batch_equals_one_process(ranks, name):
    """In float64, with the whole epoch in one batch, to 1e-9."""
    found, _ = ranks
    expected = spmd_cases.result_of(EQUAL[name].fit())
    assert_close(found[0][name], expected, 1e-9)


@pytest.mark.parametrize("name", {**EQUAL, **SAME, **SEEDED})
def test_ranks_have_the_same_model(ranks, name):
    """Parameters, history, statistics and scores are equal, to the bit."""
    found, _ = ranks
    assert len({own[name]["digest"] for own in found}) == 1
    for array in found[0][name]["arrays"].values():
        assert np.isfinite(array).all()


def test_place_of_a_row_does_not_matter(ranks):
    """The rows are sorted over all ranks, so a model depends on their set only."""
    found, _ = ranks
    names = "minibatches", "minibatches, interleaved"
    assert len({found[0][name]["digest"] for name in names}) == 1


def test_rounding_is_amplified_as_in_one_process(ranks):
    """Adam amplifies gradients that are rounding errors, in one process as in two.

    At the principal components the gradients of a Gaussian autoencoder are 0.
    """
    found, _ = ranks
    name = "start at the optimum"
    case = SAME[name]
    one = case.fit().history_["objective"]
    two = found[0][name]["history"]["objective"]
    # One factor for all numbers would have no influence.
    shakes = 2.0**-50 * np.random.default_rng(0).integers(-2, 3, size=case.X.shape)
    shaken = replace(case, X=case.X * (1 + shakes)).fit().history_["objective"]
    np.testing.assert_allclose(two[0], one[0], rtol=1e-12)
    assert np.abs(two - one).max() <= 10 * np.abs(shaken - one).max()


def test_minibatches_are_as_good_as_in_one_process(ranks):
    """The mean held-out score is within the spread of the seeds."""
    found, _ = ranks
    two = np.array([found[0][name]["score"] for name in SEEDED])
    one = np.array([case.fit().score(HELD_OUT) for case in SEEDED.values()])
    start = skae.VariationalAutoencoder(max_iter=1, learning_rate_init=1e-9)
    start = start.fit(spmd_cases.CURVE[:1000]).score(HELD_OUT)
    error = np.sqrt((one.var(ddof=1) + two.var(ddof=1)) / len(one))
    assert abs(two.mean() - one.mean()) < 3 * error
    # Which says something only if training gains much more than that.
    assert one.mean() - start > 10 * error


@pytest.mark.parametrize("function", [*REFUSED, *FAILED], ids=lambda f: f.__name__)
def test_error_of_one_rank_is_raised_in_all(ranks, function):
    """No rank waits for one that has raised an error."""
    found, _ = ranks
    for own in found:
        _, message = own[function.__name__]
        assert {**REFUSED, **FAILED}[function] in message
    kinds = {own[function.__name__][0] for own in found}
    if function in REFUSED:
        assert kinds == {"ValueError"} | (kinds & {"InvalidParameterError"})


def test_callback_of_one_rank_ends_the_fit_in_all(ranks):
    found, _ = ranks
    name = OTHER[0].__name__
    assert [own[name] for own in found] == [2, 2]


def test_first_rank_decides_the_random_state(ranks):
    """Without a seed, or with generators of different states."""
    found, _ = ranks
    name = spmd_cases.with_random_states.__name__
    hashes = found[0][name]
    assert found[1][name] == hashes
    assert len(set(hashes)) == len(hashes) == 2


def test_first_rank_prints(ranks):
    _, printed = ranks
    assert "4 epochs of 150 samples" in printed[0]
    assert printed[1].strip() == "rank 1 begins"


def test_fit_without_process_group():
    with pytest.raises(RuntimeError, match=r"torchrun.*init_process_group"):
        spmd.VariationalAutoencoder().fit(IRIS)


def test_one_process_equals_the_estimator_of_skae():
    """In a group of one process the fit is that of skae, to the bit."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        one = spmd.VariationalAutoencoder(max_iter=3, random_state=0).fit(IRIS)
    finally:
        dist.destroy_process_group()
    other = skae.VariationalAutoencoder(max_iter=3, random_state=0).fit(IRIS)
    assert spmd_cases.digest(one) == spmd_cases.digest(other)
    with pytest.raises(ValueError, match="minimum of 1"):
        one.transform(IRIS[:0])


@pytest.fixture(name="one_of_several")
def group_of_one(monkeypatch):
    """Make a group of one process that takes the path of several."""
    monkeypatch.setattr(ProcessPeers, "is_alone", False)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_of_several")
@pytest.mark.parametrize("name", ["vae", "weights", "early stopping", "X_val"])
def test_shard_of_all_rows_equals_one_process(name):
    """To rounding."""
    case = EQUAL[name]
    model = case.make(spmd)
    model.fit(case.X, sample_weight=case.weight, X_val=case.X_val)
    assert_close(spmd_cases.result_of(model), spmd_cases.result_of(case.fit()), 1e-12)


@pytest.mark.usefixtures("one_of_several")
@pytest.mark.parametrize(
    "function",
    [
        spmd_cases.with_infinity,
        spmd_cases.with_mixed,
        spmd_cases.without_rows,
        spmd_cases.without_validation,
        spmd_cases.without_weights,
    ],
)
def test_error_leaves_no_fit(function):
    """An error is raised as it is in the process that has it."""
    with pytest.raises(ValueError, match=re.escape(REFUSED[function])):
        function(1)


@pytest.mark.usefixtures("one_of_several")
def test_copy_of_a_callback_is_of_one_process():
    """A model that is kept during a fit knows nothing of the processes."""

    class Keeping(Callback):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            if context.task_name == "epoch":
                self.kept = fitted_estimator

    keeping = Keeping()
    spmd.VariationalAutoencoder(max_iter=1).set_callbacks(keeping).fit(IRIS)
    with pytest.raises(ValueError, match="minimum of 1"):
        keeping.kept.transform(IRIS[:0])


@pytest.mark.usefixtures("one_of_several")
def test_differences_between_ranks(monkeypatch):
    """The first parameter that differs is named, with both values."""
    others = []

    def gather_objects(self, value):
        others.append(value[1] | {"beta": "2"})
        return [value, (None, others[-1])]

    monkeypatch.setattr(ProcessPeers, "gather_objects", gather_objects)
    with pytest.raises(ValueError, match="differ in beta: it is 1 on rank 0 and 2 on rank"):
        spmd.VariationalAutoencoder().fit(IRIS)
    assert others[0]["class"] == "VariationalAutoencoder"


def test_fitted_estimator_is_kept_without_processes(tmp_path):
    """In a pickle and in a file, both of which need no process group."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = spmd.GaussianAutoencoder(max_iter=2, random_state=0).fit(IRIS)
    finally:
        dist.destroy_process_group()
    model.save(tmp_path / "model.skops")
    for copied in (pickle.loads(pickle.dumps(model)), skae.load(tmp_path / "model.skops")):
        assert type(copied) is spmd.GaussianAutoencoder
        np.testing.assert_array_equal(copied.transform(IRIS), model.transform(IRIS))


def test_streams_are_for_one_process():
    """Also if the base class has the method."""
    model = spmd.VariationalAutoencoder()
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="a stream is for one process"):
        model.partial_fit(IRIS)


# A rank that ends, or does not answer, in the second epoch; the other writes its error.
LOSS = """
import os, signal, sys, time
from datetime import timedelta
import numpy as np
import torch.distributed as dist
from skae import spmd
from skae._utils.peers import ProcessPeers
from tests.callbacks import Callback

how, timeout, rank, store, out = sys.argv[1:]
dist.init_process_group(
    "gloo", init_method=f"file://{store}", rank=int(rank), world_size=2,
    timeout=timedelta(seconds=float(timeout)),
)

class Lost(Callback):
    n_epochs = 0

    def on_fit_task_end(self, estimator, context):
        self.n_epochs += context.task_name == "epoch"
        if self.n_epochs == 2:
            open(out, "w").write(str(time.time()))
            os.kill(os.getpid(), getattr(signal, how))

model = spmd.VariationalAutoencoder(max_iter=10**6, random_state=0)
if rank == "1":
    model.set_callbacks(Lost())
try:
    model.fit(np.random.default_rng(int(rank)).normal(size=(50, 3)))
except RuntimeError as error:
    open(out, "w").write(f"{time.time()} {error}")
    os._exit(3)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("how", "timeout", "limits"), [("SIGKILL", 90, (0, 30)), ("SIGSTOP", 3, (2, 60))]
)
def test_loss_of_a_rank_ends_the_others(tmp_path, how, timeout, limits):
    """A killed rank ends the other at once, one that stops ends it after the timeout."""
    first, lost = start(tmp_path, "-c", LOSS, how, str(timeout))
    try:
        code = first.wait(LIMIT)
    finally:
        first.kill()
        lost.send_signal(signal.SIGKILL)
        lost.wait()
    assert code == 3, (tmp_path / "printed0").read_text()
    seconds, _, message = (tmp_path / "out0").read_text().partition(" ")
    assert "Rank 0 of 2 has lost the other processes" in message
    delay = float(seconds) - float((tmp_path / "out1").read_text())
    assert limits[0] < delay < limits[1]
    assert lost.returncode == -signal.SIGKILL
