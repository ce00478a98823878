"""The state of a training between two epochs, from which it goes on as if never ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._fitting.snapshot import Snapshot
from skae._optim import ModelSnapshot, ModelState


@dataclass(frozen=True)
class TrainingState:
    """What the training of one model has done up to an epoch.

    Attributes
    ----------
    optimizer : ModelState or ModelSnapshot
        Parameters and moments.
    buffers : mapping of str to Tensor
        Buffers of networks and scale.
    start : Snapshot
        The model before the training.
    best : Snapshot or None
        The model of the best validation score.
    generators : sequence of ndarray
        States of the sources of random numbers.
    history : sequence of dict
        The history of each epoch.
    progress : dict
        The rest, as objects of JSON: ``epoch``, ``schedule``, ``plateau``, ...
    """

    optimizer: ModelState | ModelSnapshot
    buffers: Mapping[str, Tensor]
    start: Snapshot
    best: Snapshot | None
    generators: Sequence[np.ndarray]
    history: Sequence[dict[str, float]]
    progress: dict[str, Any]

    @property
    def epoch(self) -> int:
        """Number of epochs that are done."""
        return int(self.progress["epoch"])

    def detach(self) -> "TrainingState":
        """Return the state with tensors of its own, not those of models side by side."""
        return replace(self, optimizer=self.optimizer.state())

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state as arrays, by name, and as objects of JSON."""
        own = self.detach().optimizer
        assert isinstance(own, ModelState)
        tensors = {"values": own.values, "mean": own.mean, "mean_square": own.mean_square}
        tensors |= {f"buffers/{name}": value for name, value in self.buffers.items()}
        for part, snapshot in (("start", self.start), ("best", self.best)):
            if snapshot is not None:
                tensors[part] = snapshot.values
                named = snapshot.buffers.items()
                tensors |= {f"{part}_buffers/{name}": value for name, value in named}
        arrays = {name: value.cpu().numpy() for name, value in tensors.items()}
        arrays |= {f"generators/{i}": state for i, state in enumerate(self.generators)}
        names = list(self.history[0]) if self.history else []
        rows = [[epoch[name] for name in names] for epoch in self.history]
        arrays["history"] = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
        counts = [n for n in names if isinstance(self.history[0][n], Integral)]
        progress = {
            **self.progress,
            "names": names,
            "counts": counts,
            "norm": float(own.norm),
        }
        return arrays, progress

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        progress: dict[str, Any],
        device: torch.device,
    ) -> "TrainingState":
        """Return the state of :meth:`to_arrays`, with its tensors on a device."""

        def tensor(name: str) -> Tensor:
            return torch.tensor(arrays[name], device=device)

        def named(part: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(f"{part}/"): tensor(name)
                for name in arrays
                if name.startswith(f"{part}/")
            }

        if not isinstance(progress["epoch"], int):
            raise ValueError("the number of epochs is no integer")
        n_generators = sum(name.startswith("generators/") for name in arrays)
        moments = tensor("mean"), tensor("mean_square")
        return cls(
            ModelState(tensor("values"), *moments, float(progress["norm"])),
            named("buffers"),
            Snapshot(tensor("start"), named("start_buffers")),
            Snapshot(tensor("best"), named("best_buffers")) if "best" in arrays else None,
            [arrays[f"generators/{i}"] for i in range(n_generators)],
            [
                {
                    name: int(value) if name in progress["counts"] else value
                    for name, value in zip(progress["names"], row, strict=True)
                }
                for row in arrays["history"].tolist()
            ],
            progress,
        )
