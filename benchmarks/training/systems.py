"""List the systems that are compared, and run their workers."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_ENVIRONMENTS = _ROOT / ".peers"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Request = dict[str, Any]
Answer = dict[str, Any]


@dataclass(frozen=True)
class System:
    """A worker and its environment."""

    name: str
    worker: str
    # The environment is that of requirements/<peer>.txt; "" is the current environment.
    peer: str = ""
    # One of the models of the worker.
    variant: str = ""
    # Default batch size of the system, for a request without a batch size.
    batch: int = 0

    @property
    def python(self) -> Path:
        """Interpreter of the environment."""
        if not self.peer:
            return Path(sys.executable)
        return _ENVIRONMENTS / self.peer / "bin" / "python"


TEXTBOOK = System("textbook PyTorch loop", "textbook", batch=128)
SKORCH = System("skorch", "skorch_vae", "skorch", batch=128)
PYTHAE = System("pythae", "pythae_vae", "pythae", batch=64)
OURS = {
    variant: System(f"skae, {variant.split()[1]} scale", "ours", variant=variant)
    for variant in ("vae fixed", "vae optimal", "ae fixed", "ae optimal")
}
VAES = [
    OURS["vae fixed"],
    OURS["vae optimal"],
    System("skae, optimal scale, no oneDNN", "ours", variant="vae optimal plain"),
    TEXTBOOK,
    SKORCH,
    PYTHAE,
    System("PyOD", "pyod_vae", "pyod"),
    System("Lightning", "lightning_vae", "lightning"),
]
AUTOENCODERS = [
    OURS["ae fixed"],
    OURS["ae optimal"],
    System("scikit-learn's MLPRegressor", "mlp_regressor"),
]
FLOOR = System("matrix products alone", "gemm")


def set_up(peer: str = "*") -> None:
    """Make an environment for each peer; print the peers that cannot be installed."""
    for requirements in sorted((_HERE / "requirements").glob(f"{peer}.txt")):
        folder = _ENVIRONMENTS / requirements.stem
        print(f"installing {requirements.stem}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q"]
        if subprocess.run([*pip, "-r", requirements]).returncode:
            shutil.rmtree(folder)
            print(f"{requirements.stem} cannot be installed here", flush=True)


def run(system: System, n_threads: int, request: Request) -> Answer:
    """Run a worker in a new process; if the process fails, the answer is an "error"."""
    if not system.python.exists():
        return {"error": "not installed"}
    request = {"variant": system.variant, "batch": system.batch, **request}
    command = [
        *(system.python, _HERE / "workers" / f"{system.worker}.py"),
        json.dumps({"threads": n_threads, **request}),
    ]
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(n_threads))}
    if not system.peer:
        environment["PYTHONPATH"] = str(_ROOT)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        answer = {"error": f"failed: {reason}"}
    else:
        answer = json.loads(done.stdout.splitlines()[-1])
    print(system.name, request.get("task", ""), answer, flush=True)
    return answer


def in_turns(
    systems: list[System], repeats: int, n_threads: int, request: Request
) -> dict[System, list[Answer]]:
    """Return the answers of each system; the systems take turns, with a seed per turn."""
    answers: dict[System, list[Answer]] = {system: [] for system in systems}
    for seed in range(repeats):
        for system in systems:
            # A system that failed once is not run again.
            if not any("error" in answer for answer in answers[system]):
                answers[system].append(run(system, n_threads, {**request, "seed": seed}))
    return answers


def failure(answers: list[Answer]) -> str | None:
    """Return the reason why there are no figures, or None."""
    return next((answer["error"] for answer in answers if "error" in answer), None)


def shown(values: list[float], unit: float = 1.0, form: str = "#.3g") -> str:
    """Return median and range of figures as text, in a unit."""
    figures = (median(values), min(values), max(values))
    middle, low, high = (f"{figure / unit:{form}}".rstrip(".") for figure in figures)
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def middle(answers: list[Answer], name: str = "seconds") -> float:
    """Return the median of a figure over the answers."""
    return median(answer[name] for answer in answers)
