"""The file from which an interrupted fit goes on."""

import copy
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState

from skae._fitting.training_state import TrainingState
from skae._utils.errors import InvalidFileError, ModelFileError
from skae._utils.files import pack, read_file, remove_leftovers, unpack, write_atomically
from skae._utils.fingerprint import digest
from skae._utils.messages import warn_user
from skae._utils.versions import current_versions

# Version of the content of a file; raised if the meaning of a part changes.
_FORMAT = 1
# Largest fraction of the time that writing takes, where the user sets no number of epochs.
_SHARE = 0.02
# Differences that a message lists before it is cut off, and characters of each side.
_MOST_DIFFERENCES = 5
_MOST_CHARACTERS = 80
# The text of an array: dtype and shape, and a hash.
_ARRAY = r"(\S+ \(.*\)) [0-9a-f]{16}"


class _Budget:
    """The time that this process may spend on writing, for all fits together."""

    def __init__(self) -> None:
        self._next = 0.0

    def allows(self) -> bool:
        """Whether enough time has passed since the last writes."""
        return time.monotonic() >= self._next

    def spend(self, seconds: float) -> None:
        """Take the time of a write from the budget; writes add up."""
        self._next = max(self._next, time.monotonic()) + seconds / _SHARE


_budget = _Budget()
# Folders whose fits have been told that a file could not be written.
_failed_folders: set[str] = set()


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
    initial_random_state : dict
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
        self.initial_random_state = random_state_to_json(random_state)
        self._states: dict[int, TrainingState] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._starts: dict[str, Any] = {}
        self._has_news = False
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
                self.initial_random_state = meta["random_state"]
                self.random_state = restored_random_state(
                    self.random_state, self.initial_random_state
                )
        except OSError:
            raise
        except ModelFileError as error:
            raise InvalidFileError(
                f"The checkpoint {self.path!r} cannot be used. {error} Pass another path "
                "as checkpoint."
            ) from error
        # A file may have anything in it.
        except Exception as error:
            raise InvalidFileError(
                f"The checkpoint {self.path!r} cannot be read. {error} Pass another path "
                "as checkpoint; or, if the file is a damaged checkpoint, delete it to fit "
                "from the start."
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
        differences = {
            name: _difference(name, found.get(name), own.get(name))
            for name in sorted({*own, *found})
            if own.get(name) != found.get(name)
        }
        if not differences:
            return
        listed = "; ".join(list(differences.values())[:_MOST_DIFFERENCES])
        if len(differences) > _MOST_DIFFERENCES:
            listed += f"; and {len(differences) - _MOST_DIFFERENCES} more"
        advice = (
            "Continue that fit with its parameters and data, or delete the file, or choose "
            "another one. A search, a warm start, or several fits need a folder (a "
            "checkpoint that ends with '/'), in which each fit has a file."
        )
        if list(differences) == ["max_iter"]:
            advice += (
                " With learning_rate='constant', a fit may go on to a higher max_iter; "
                "otherwise each epoch depends on how many there are."
            )
        raise ValueError(
            f"The checkpoint {self.path!r} is of another fit: {listed}. {advice}"
        )

    def state_of(self, start: int, device: torch.device) -> TrainingState | None:
        """Return the state of a start that the file has, if there is one."""
        progress = self._starts.get(str(start))
        if progress is None:
            return None
        prefix = f"{start}/"
        arrays = {
            name.removeprefix(prefix): array
            for name, array in self._arrays.items()
            if name.startswith(prefix)
        }
        try:
            return TrainingState.from_arrays(arrays, progress, device)
        # A file may have anything in it, and torch and numpy raise errors of many kinds.
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

    def close(self, *, must_write: bool) -> None:
        """Write the last states; if that is no must, only if the time allows it."""
        if must_write or isinstance(self.interval, int) or _budget.allows():
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
        folder = os.path.dirname(os.path.abspath(self.path))
        if failure is None:
            _failed_folders.discard(folder)
        elif folder not in _failed_folders:
            _failed_folders.add(folder)
            kept = "; the last file is still there" if os.path.exists(self.path) else ""
            warn_user(
                f"The checkpoint {self.path!r} could not be written: {failure!r}. The fit "
                f"goes on, and tries again{kept}.",
                RuntimeWarning,
            )

    def _content(self) -> bytes:
        """Return the content of the file."""
        for start, state in self._states.items():
            arrays, progress = state.to_arrays()
            prefix = f"{start}/"
            others = {k: v for k, v in self._arrays.items() if not k.startswith(prefix)}
            self._arrays = others | {prefix + name: v for name, v in arrays.items()}
            self._starts[str(start)] = progress
        self._states = {}
        meta = {
            **current_versions(),
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "random_state": self.initial_random_state,
            "starts": self._starts,
        }
        return pack(self._arrays, meta)


def _difference(name: str, there: str | None, here: str | None) -> str:
    """Say how a part of a fingerprint differs; arrays without their hashes."""
    texts = ["not set" if text is None else text for text in (there, here)]
    arrays = [re.fullmatch(_ARRAY, text) for text in texts]
    texts = [
        array[1] if array else _shortened(text)
        for array, text in zip(arrays, texts, strict=True)
    ]
    if texts[0] == texts[1]:
        return f"{name} has other values"
    return f"{name} is {texts[0]} there and {texts[1]} here"


def _shortened(text: str) -> str:
    """Return the begin of a text."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def is_folder(path: str) -> bool:
    """Whether a checkpoint is a folder: there is one, or the path ends like one."""
    return path.endswith((os.sep, "/")) or os.path.isdir(path)


def check_places(checkpoints: Iterable[Checkpoint]) -> None:
    """Raise ValueError if fits that are trained side by side have one file."""
    fits: dict[str, dict[str, str]] = {}
    for checkpoint in checkpoints:
        path = os.path.realpath(checkpoint.path)
        if fits.setdefault(path, checkpoint.fingerprint) != checkpoint.fingerprint:
            raise ValueError(
                f"Several fits have the checkpoint {checkpoint.path!r}. A search, or "
                "several fits, need a folder (a checkpoint that ends with '/'), in which "
                "each fit has a file."
            )


def prepare_place(path: str) -> None:
    """Make the folder of a checkpoint, or raise an error if there cannot be one."""
    if not path:
        raise ValueError("checkpoint='' is no path. Without a checkpoint, it is None.")
    if is_folder(path):
        os.makedirs(path, exist_ok=True)
        return
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"checkpoint={path!r}: there is no folder {folder!r}.")


def random_state_to_json(random_state: RandomState) -> dict[str, Any]:
    """Return the state of a generator of numpy as objects of JSON."""
    state: Any = random_state.get_state(legacy=False)
    outer = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}
    inner = {
        k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state["state"].items()
    }
    return {**outer, "state": inner}


def restored_random_state(own: RandomState, progress: dict[str, Any]) -> RandomState:
    """Return a generator of numpy in a state: the given one, if it has the state."""
    if progress == random_state_to_json(own):
        return own
    found = copy.deepcopy(own)
    found.set_state(progress)
    return found
