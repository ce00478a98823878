"""Fits on an emulated accelerator, in a process that has one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import backend_registration

ROOT = Path(__file__).parent.parent
# What tests/emulated/accelerator.py needs of torch beyond its public names.
PRIVATE = [
    (backend_registration, "_setup_privateuseone_for_python_backend"),
    (torch._C, "_construct_storage_from_data_pointer"),
    (torch._C, "_acc"),
]
# Of the tests of any accelerator, some need one that computes, not one that counts. The
# first word is the folder of the tests that are written for this one.
CHOSEN = (
    "emulated or accelerator and (warm_start or pickle or global_state or "
    "R3 and True and posterior and (optimal or predicted or learned-diag))"
)


def has_names():
    return all(hasattr(owner, name) for owner, name in PRIVATE)


@pytest.mark.skipif(not has_names(), reason="this torch has no accelerators in Python")
def test_emulated_accelerator():
    command = [sys.executable, "-m", "pytest", "-p", "tests.emulated.accelerator"]
    coverage = sys.modules.get("coverage")
    if coverage is not None and coverage.Coverage.current() is not None:
        # Lines for accelerators run nowhere else. pytest-cov combines all such files.
        measure = ["-m", "coverage", "run", "--parallel-mode", "--data-file=.coverage"]
        command[1:1] = measure
    # One process, without the options of this one.
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    chosen = ["tests/emulated", "tests/engine/test_devices.py", "-k", CHOSEN]
    found = subprocess.run(
        [*command, *options, *chosen],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2_000:]
    summary = found.stdout.splitlines()[-1]
    assert " passed" in summary
    assert int(summary.split(" passed")[0].split()[-1]) > 60
