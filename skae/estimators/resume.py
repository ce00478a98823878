"""What a fit goes on from: a checkpoint, or the training of the last fit."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from scipy.sparse import issparse

from skae._fitting.checkpoint import (
    Checkpoint,
    prepare_place,
    random_state_to_json,
    restored_random_state,
)
from skae._fitting.training_state import TrainingState
from skae._module import AutoencoderModule
from skae._utils.fingerprint import describe, describe_array, digest
from skae.objectives import Objective

# Parameters that change nothing but how much a fit prints, or where it keeps its state.
_WITHOUT_INFLUENCE = ("verbose", "warm_start", "checkpoint", "checkpoint_interval")
# Parts of a fingerprint that a warm start need not share: its random numbers go on.
_OF_LAST_FIT = ("random_state", "model of the last fit")


@dataclass(frozen=True)
class Continuation:
    """Where the training of a fit begins, and where its state is kept.

    Attributes
    ----------
    fingerprint : dict of str to str
        Texts of data and parameters by name.
    random_state : RandomState
        Source of randomness; that of the fit that goes on.
    checkpoint : Checkpoint or None
        The file of the fit.
    last : dict or None
        The state of the last fit's training, if a warm start goes on with it.
    keeps_state : bool
        Whether the estimator keeps the state of this fit's training.
    initial_random_state : dict
        State of the source of randomness before the first draw, as objects of JSON.
    """

    fingerprint: dict[str, str]
    random_state: RandomState
    checkpoint: Checkpoint | None
    last: dict[str, Any] | None
    keeps_state: bool
    initial_random_state: dict[str, Any]

    @property
    def earlier(self) -> tuple[int, int]:
        """Epochs before the training that goes on began, and the best of them."""
        return (0, 0) if self.last is None else tuple(self.last["earlier"])

    @property
    def n_before(self) -> int:
        """Epochs of the last fit, if the training goes on with its state."""
        return 0 if self.last is None else int(json.loads(self.last["progress"])["epoch"])

    def state_of(self, start: int, device: torch.device) -> TrainingState | None:
        """Return the state from which a start goes on, if there is one."""
        if self.checkpoint is not None:
            found = self.checkpoint.state_of(start, device)
            if found is not None:
                return found
        if self.last is None:
            return None
        progress = json.loads(self.last["progress"])
        # A callback that ended the last fit does not end this one.
        progress["has_stopped"] = progress["has_diverged"]
        return TrainingState.from_arrays(self.last["arrays"], progress, device)

    def keep(
        self, state: TrainingState | None, n_earlier: int, last_best: int
    ) -> dict[str, Any] | None:
        """Return the state of a training as arrays and texts, for a warm start.

        There were ``n_earlier`` epochs before the training, and ``last_best`` of them.
        """
        if state is None:
            return None
        arrays, progress = state.to_arrays()
        return {
            "fingerprint": self.fingerprint,
            "earlier": [n_earlier, last_best],
            "random_state": json.dumps(self.initial_random_state),
            "arrays": arrays,
            "progress": json.dumps(progress),
        }


def make_continuation(
    estimator: Any,
    objective: Objective,
    random_state: RandomState,
    device: torch.device,
    arrays: Mapping[str, Any],
    last: AutoencoderModule | None,
) -> Continuation:
    """Find out what a fit goes on from.

    ``arrays`` are the validated data by name, ``last`` is the model of the last fit if a
    warm start continues it. Raises ValueError if the checkpoint is of another fit.
    """
    is_constant = estimator.learning_rate == "constant" and objective.is_settled(0.0)
    keeps_state = bool(estimator.warm_start) and is_constant
    if estimator.checkpoint is None and not keeps_state:
        return Continuation({}, random_state, None, None, False, {})
    initial = random_state_to_json(random_state)
    fingerprint = _fingerprint(estimator, is_constant, device, arrays, last)
    found = None
    if last is not None and keeps_state:
        found = _same_training(estimator, fingerprint)
    if found is not None:
        initial = json.loads(found["random_state"])
        random_state = restored_random_state(random_state, initial)
    checkpoint = None
    if estimator.checkpoint is not None:
        path, interval = os.fspath(estimator.checkpoint), estimator.checkpoint_interval
        prepare_place(path)
        # Of the two kinds of numbers, whole ones are epochs.
        interval = int(interval) if isinstance(interval, Integral) else float(interval)
        checkpoint = Checkpoint(path, interval, fingerprint, random_state)
        random_state = checkpoint.random_state
        initial = checkpoint.initial_random_state
    return Continuation(fingerprint, random_state, checkpoint, found, keeps_state, initial)


def check_epochs(state: TrainingState, max_iter: int) -> None:
    """Raise ValueError if a training has done more epochs than it should in all."""
    if state.epoch > max_iter:
        raise ValueError(
            f"The training of the checkpoint has {state.epoch} epochs, which is more than "
            f"max_iter={max_iter}. Raise max_iter, or choose another checkpoint."
        )


def _fingerprint(
    estimator: Any,
    is_constant: bool,
    device: torch.device,
    arrays: Mapping[str, Any],
    last: AutoencoderModule | None,
) -> dict[str, str]:
    """Return texts of all that the result of a fit depends on."""
    left_out = set(_WITHOUT_INFLUENCE)
    if is_constant:
        # An epoch is the same whatever number of them follows.
        left_out.add("max_iter")
    texts = {
        name: describe(value)
        for name, value in estimator.get_params(deep=False).items()
        if name not in left_out
    }
    texts["estimator"] = describe(type(estimator))
    texts["device"] = str(device)
    for name, value in arrays.items():
        is_array = isinstance(value, np.ndarray) or issparse(value)
        texts[name] = describe_array(value) if is_array else describe(value)
    if last is not None:
        parts = (f"{k} {describe_array(v)}" for k, v in last.get_arrays().items())
        texts["model of the last fit"] = f"{estimator.n_iter_} epochs, {digest(parts)}"
    return texts


def _same_training(estimator: Any, fingerprint: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the state of the last fit's training, if it had these data and parameters."""
    found: dict[str, Any] | None = getattr(estimator, "_training_state", None)
    if found is None or _without_last(found["fingerprint"]) != _without_last(fingerprint):
        return None
    return found


def _without_last(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """Return the parts of a fingerprint that a warm start has to share."""
    return {name: text for name, text in fingerprint.items() if name not in _OF_LAST_FIT}
