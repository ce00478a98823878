"""The file from which an interrupted fit goes on."""

import copy
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState

from skae._fitting.training_state import TrainingState
from skae._utils.errors import InvalidFileError
from skae._utils.files import pack, read_file, remove_leftovers, unpack, write_atomically
from skae._utils.fingerprint import digest
from skae._utils.messages import warn_user
from skae._utils.versions import current_versions

# Version of the content of a file; raised if the meaning of a part changes.
_FORMAT = 1
# Largest fraction of the time that writing takes, where the user sets no number of epochs.
_SHARE = 0.02
# Differences that a message lists before it is cut off.
_MOST_DIFFERENCES = 5


class _Budget:
    """The time that this process may spend on writing, for all fits together."""

    def __init__(self) -> None:
        self._next = 0.0

    def allows(self) -> bool:
        """Whether enough time has passed since the last write."""
        return time.monotonic() >= self._next

    def spend(self, seconds: float) -> None:
        """Take the time of a write from the budget."""
        self._next = time.monotonic() + seconds / _SHARE


_budget = _Budget()


class Checkpoint:
    """The file of one fit, with the state of each of its starts.

    Parameters
    ----------
    path : str
        The file; or a folder, which then has a file for each fit.
    interval : int or float
        Epochs, or seconds, between two writes.
    fingerprint : dict of str to str
        Texts of data and parameters by name, which a fit that goes on must have too.
    random_state : RandomState
        Source of randomness of the fit, before the first draw.

    Attributes
    ----------
    random_state : RandomState
        The same; or that of the fit that goes on.
    random_numbers : dict
        The state of it, as objects of JSON.
    """

    def __init__(
        self,
        path: str,
        interval: float,
        fingerprint: Mapping[str, str],
        random_state: RandomState,
    ) -> None:
        if is_folder(path):
            name = digest(f"{k}={v};" for k, v in sorted(fingerprint.items()))
            path = os.path.join(path, f"{name}.npz")
        self.path = path
        self.interval = interval
        self.fingerprint = dict(fingerprint)
        self.random_state = random_state
        self.random_numbers = random_numbers(random_state)
        self._states: dict[int, TrainingState] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._starts: dict[str, Any] = {}
        self._has_news = self._has_failed = False
        self._lock = threading.Lock()
        self._next_time = time.monotonic() + interval
        remove_leftovers(path)
        if os.path.exists(path):
            self._read()

    def _read(self) -> None:
        """Read the file, or raise InvalidFileError or ValueError if it is of no use."""
        versions = current_versions()
        try:
            self._arrays, meta = unpack(read_file(self.path))
            written_by, torch_version = str(meta["skae"]), str(meta["torch"])
            found = dict(meta["fingerprint"])
            is_known = meta["format"] == _FORMAT and written_by == versions["skae"]
            if is_known:
                self._starts = dict(meta["starts"])
                self.random_numbers = meta["random_state"]
                self.random_state = restored_random_state(
                    self.random_state, self.random_numbers
                )
        # A file may have anything in it.
        except Exception as error:
            if isinstance(error, OSError):
                raise
            raise InvalidFileError(
                f"The checkpoint {self.path!r} cannot be read: {error} Delete the file to "
                "fit from the start."
            ) from error
        if not is_known:
            raise InvalidFileError(
                f"The checkpoint {self.path!r} was written by skae {written_by}, and this "
                f"is {versions['skae']}. Continue the fit with that version, or delete the "
                "file to fit from the start."
            )
        self._check(found)
        if torch_version != versions["torch"]:
            warn_user(
                f"The checkpoint {self.path!r} was written with torch {torch_version}, and "
                f"this is {versions['torch']}: the fit goes on, but its result may differ "
                "by rounding from that of a fit without a break."
            )

    def _check(self, found: Mapping[str, str]) -> None:
        """Raise ValueError if the file is of a fit with other parameters or data."""
        own = self.fingerprint
        differences = [
            f"{name} is {found.get(name, 'not set')} there and {own.get(name, 'not set')} "
            "here"
            for name in sorted({*own, *found})
            if own.get(name) != found.get(name)
        ]
        if not differences:
            return
        listed = "; ".join(differences[:_MOST_DIFFERENCES])
        if len(differences) > _MOST_DIFFERENCES:
            listed += f"; and {len(differences) - _MOST_DIFFERENCES} more"
        raise ValueError(
            f"The checkpoint {self.path!r} is of another fit: {listed}. Continue that fit "
            "with its parameters and data, or delete the file, or choose another one. A "
            "search, or several fits, need a folder (a checkpoint that ends with '/'), in "
            "which each fit has a file."
        )

    def state_of(self, start: int, device: torch.device) -> TrainingState | None:
        """Return the state of a start that the file has, if there is one."""
        numbers = self._starts.get(str(start))
        if numbers is None:
            return None
        prefix = f"{start}/"
        arrays = {
            name.removeprefix(prefix): array
            for name, array in self._arrays.items()
            if name.startswith(prefix)
        }
        try:
            return TrainingState.from_arrays(arrays, numbers, device)
        # The file may have been made by anyone, with anything in it.
        except Exception as error:
            raise InvalidFileError(
                f"The checkpoint {self.path!r} has no whole state: {error!r}"
            ) from error

    def is_due(self, epoch: int) -> bool:
        """Whether to keep the state after an epoch."""
        if isinstance(self.interval, int):
            return epoch % self.interval == 0
        return time.monotonic() >= self._next_time and _budget.allows()

    def put(self, start: int, state: TrainingState) -> None:
        """Keep the state of a start until the next write."""
        with self._lock:
            self._states[start] = state.detach()
            self._has_news = True

    def close(self, *, is_due: bool) -> None:
        """Write the last states; if they are not due, only if the time allows it."""
        if is_due or isinstance(self.interval, int) or _budget.allows():
            self.write()

    def write(self) -> None:
        """Write the states, if there are new ones; warn if that fails."""
        with self._lock:
            if not self._has_news:
                return
            begin = time.monotonic()
            try:
                write_atomically(self.path, self._content())
            except (OSError, MemoryError) as error:
                failure: Exception | None = error
            else:
                failure = None
            # After a failure, the next state is written when it is due.
            self._has_news = False
            now = time.monotonic()
            _budget.spend(now - begin)
            self._next_time = now + self.interval
        if failure is not None and not self._has_failed:
            self._has_failed = True
            warn_user(
                f"The checkpoint {self.path!r} could not be written: {failure!r}. The fit "
                "goes on, and tries again; the last file is still there.",
                RuntimeWarning,
            )

    def _content(self) -> bytes:
        """Return the content of the file."""
        for start, state in self._states.items():
            arrays, numbers = state.to_arrays()
            prefix = f"{start}/"
            others = {k: v for k, v in self._arrays.items() if not k.startswith(prefix)}
            self._arrays = others | {prefix + name: v for name, v in arrays.items()}
            self._starts[str(start)] = numbers
        self._states = {}
        meta = {
            **current_versions(),
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "random_state": self.random_numbers,
            "starts": self._starts,
        }
        return pack(self._arrays, meta)


def is_folder(path: str) -> bool:
    """Whether a checkpoint is a folder: there is one, or the path ends like one."""
    return path.endswith((os.sep, "/")) or os.path.isdir(path)


def prepare_place(path: str) -> None:
    """Make the folder of a checkpoint, or raise an error if there cannot be one."""
    if is_folder(path):
        os.makedirs(path, exist_ok=True)
        return
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"checkpoint={path!r}: there is no folder {folder!r}.")


def random_numbers(random_state: RandomState) -> dict[str, Any]:
    """Return the state of a generator of numpy as objects of JSON."""
    state: Any = random_state.get_state(legacy=False)
    numbers = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}
    inner = {
        k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state["state"].items()
    }
    return {**numbers, "state": inner}


def restored_random_state(own: RandomState, numbers: dict[str, Any]) -> RandomState:
    """Return a generator of numpy in a state: the given one, if it has the state."""
    if numbers == random_numbers(own):
        return own
    found = copy.deepcopy(own)
    found.set_state(numbers)
    return found
