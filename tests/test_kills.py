"""The campaign of kills and interrupts, with few signals; benchmarks/kills.py has many."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_each_killed_fit_goes_on_to_the_bit(tmp_path):
    """In a process of its own, because a fork beside threads is not safe."""
    out = tmp_path / "kills.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/kills.py", "--signals", "2",
         "--kinds", "fit", "search", "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["failures"] == 0
    assert {found["counts"][name] for name in ("SIGKILL", "SIGTERM", "SIGINT")} == {2}
    assert found["counts"]["fits that were compared"] >= 2
