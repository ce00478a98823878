"""The lines that a fit with ``verbose`` prints."""

import math
from time import monotonic

import torch

from skae._data import Rows
from skae._fitting.lockstep import task_position
from skae._module import AutoencoderModule
from skae.likelihoods import Mixed

# Seconds between two lines of a fit with verbose=1.
_INTERVAL = 2.0
# Absolute value from which on numbers are printed with an exponent.
_LARGE = 1e7
# Names in the history of an epoch, and what they are called in a line.
_COLUMNS = {
    "objective": "objective",
    "log_likelihood": "log-likelihood",
    "kl": "KL",
    "validation_score": "validation score",
}


class ProgressReport:
    """The lines that one fit prints: what is trained, and how far the training is.

    Parameters
    ----------
    verbose : int, default=0
        0 prints nothing. 1 prints the first and the last epoch, and an epoch whenever two
        seconds have passed. 2 prints every epoch.
    max_iter : int, default=0
        Largest number of epochs of the fit.
    n_before : int, default=0
        Epochs of the fits that this one continues.
    """

    def __init__(self, verbose: int = 0, max_iter: int = 0, n_before: int = 0) -> None:
        self.verbose = verbose
        self.n_before = n_before
        self.n_epochs = n_before + max_iter
        self._label = ""
        self._start = self._printed_at = -math.inf
        self._pending: str | None = None
        # Number and time of the first epoch that was reported.
        self._first: tuple[int, float] | None = None

    def begin(
        self,
        name: str,
        module: AutoencoderModule,
        rows: Rows,
        validation: Rows | None,
        precision: str,
        device: torch.device,
    ) -> None:
        """Print what is trained; ``name`` is that of the estimator."""
        if not self.verbose:
            return
        self._start = monotonic()
        if position := task_position():
            self._label = "[fit {} of {}] ".format(*position)
        if precision == "auto":
            precision = str(module.dtype).removeprefix("torch.")
        spec = module.spec
        counts = spec.n_features, spec.n_components, module.n_weights
        names = "feature", "component", "weight"
        sizes = ", ".join(map(counted, counts, names))
        epochs = counted(self.n_epochs, "epoch")
        if self.n_before:
            epochs = f"epochs {self.n_before + 1:,} to {self.n_epochs:,}"
        samples = counted(rows.epoch_size, "sample")
        if validation is not None:
            samples += f", scored on {validation.epoch_size:,} more"
        self._print(
            f"{name}: {sizes}; {epochs} of {samples}; {device}, {precision}; "
            "values in nats per sample"
        )
        if isinstance(spec.likelihood, Mixed):
            for line in spec.likelihood.describe():
                self._print(line)

    def add(
        self, n: int, values: dict[str, float], *, is_last: bool, n_left: int = 0
    ) -> None:
        """Report the history of the n-th epoch of this fit, counted from 1.

        At most ``n_left`` epochs follow.
        """
        if not self.verbose:
            return
        now, of = monotonic(), f"{self.n_epochs:,}"
        numbers = [
            f"{label} {_formatted(values[key])}"
            for key, label in _COLUMNS.items()
            if key in values
        ]
        epoch = f"{self.n_before + n:,}".rjust(len(of))
        self._pending = (
            f"epoch {epoch} of {of}: {', '.join(numbers)}, {now - self._start:.1f} s"
            f"{self._time_left(n, now, n_left)}"
        )
        is_due = self.verbose > 1 or now - self._printed_at >= _INTERVAL
        if n == 1 or is_last or is_due:
            self.end()
            self._printed_at = now

    def _time_left(self, n: int, now: float, n_left: int) -> str:
        """Say how long the epochs that are left take, if they are as long as the others."""
        if self._first is None:
            self._first = n, now
        n_first, begin = self._first
        seconds = (now - begin) / max(n - n_first, 1) * n_left
        return f", at most {_duration(seconds)} left" if seconds >= 1 else ""

    def start(self, objective: float) -> None:
        """Print the objective of the first model, in nats."""
        if self.verbose:
            self._print(f"start: objective {_formatted(objective)}")

    def resume(self, epoch: int) -> None:
        """Print from which epoch the training goes on."""
        if self.verbose:
            self._print(f"resumed: after epoch {epoch:,}")

    def interruption(self, n: int, *, has_checkpoint: bool) -> str:
        """Say after which epoch of this fit an interrupt came, and how to go on."""
        after = f"interrupted after epoch {self.n_before + n:,} of {self.n_epochs:,}"
        if has_checkpoint:
            return f"{after}; the same call of fit goes on from its checkpoint"
        return f"{after}; to go on as planned after an interrupt, set checkpoint=..."

    def interrupt(self, n: int, *, has_checkpoint: bool) -> None:
        """Print after which epoch of this fit, counted from 1, an interrupt came."""
        if self.verbose:
            self._print(self.interruption(n, has_checkpoint=has_checkpoint))

    def close(self, best_iter: int, objective: float, reason: str = "") -> None:
        """Print why the training ended early, and which epoch the model is from.

        0 is the start. The objective is in nats, computed as that of :meth:`start`.
        """
        if not self.verbose:
            return
        if reason:
            self._print(f"stopped: {reason}")
        self._print(
            f"kept: {self.kept(best_iter)}, objective {_formatted(objective)}, "
            f"{monotonic() - self._start:.1f} s"
        )

    def kept(self, best_iter: int) -> str:
        """Say which epoch of this fit the model is from; 0 is the start."""
        if best_iter:
            return f"the model of epoch {self.n_before + best_iter:,}"
        return "the last fit" if self.n_before else "the start"

    def end(self) -> None:
        """Print the last epoch if it has not been printed, as after an interrupt."""
        if self._pending is not None:
            self._print(self._pending)
            self._pending = None

    def _print(self, line: str) -> None:
        """Print a line at once and whole, because several threads may print."""
        print(f"{self._label}{line}\n", end="", flush=True)


def counted(n: int, name: str) -> str:
    """Format a number of things."""
    return f"{n:,} {name}" if n == 1 else f"{n:,} {name}s"


def _duration(seconds: float) -> str:
    """Format a time, in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _formatted(value: float) -> str:
    """Format a number of nats."""
    return f"{value:.4f}" if abs(value) < _LARGE else f"{value:.4e}"
