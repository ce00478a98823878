"""The analytic step on an accelerator: captured once, launched as a whole.

A small model leaves a GPU idle while the host prepares each operation. A graph is the list
of all operations of a step, launched by one call.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from skae._engine.analytic_step import AnalyticStep
from skae._utils.device import (
    as_current,
    make_graph,
    on_capture_stream,
    wait_for_capture_stream,
)

# Steps before the capture, in which libraries choose their algorithms; the default of
# torch.cuda.make_graphed_callables.
_N_WARM_UP = 3
_capture_lock = Lock()
# Graphs whose capture has failed: torch's allocator of memory keeps pointers to them.
_failed_graphs: list[Any] = []


@dataclass
class Captures:
    """What the captures of a training have in common.

    Attributes
    ----------
    error : RuntimeError or None
        Why a capture has failed; then no further one is tried.
    """

    error: RuntimeError | None = None

    def message(self) -> str | None:
        """Return what the user should know of a capture that failed, or None."""
        if self.error is None:
            return None
        cause = str(self.error).partition("\n")[0].rstrip(".")
        return (
            f"The training step could not be captured into a graph: {cause}. Its "
            "operations are launched one by one, which takes longer for small models; the "
            "results are the same."
        )


class GraphedStep:
    """An analytic step as a graph, whose inputs are copied to fixed memory.

    Parameters
    ----------
    step : AnalyticStep
        The step.
    captures : Captures
        Where a failure is noted.
    """

    def __init__(self, step: AnalyticStep, captures: Captures) -> None:
        self.step = step
        self.captures = captures
        self.inputs: tuple[Tensor, ...] = ()
        self.graph: Any = None
        self._is_new = True

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """Compute the gradients and return the metrics; see `skae._optim.Step`."""
        self.step.set_progress(progress)
        if self._is_new:
            self.graph = self._capture(y, row_weight, noise)
            self._is_new = False
        if self.graph is None:
            return self.step.run(y, row_weight, noise)
        for memory, value in zip(self.inputs, (y, row_weight, noise), strict=True):
            memory.copy_(value)
        with as_current(y.device):
            self.graph.replay()
        return self.step.metrics

    def _capture(self, *inputs: Tensor) -> Any:
        """Capture the graph while no other thread captures one; None if that fails."""
        # A graph is captured on the current device. Two captures at the same time would mix
        # their allocations.
        with _capture_lock, as_current(inputs[0].device):
            return self._record_graph(*inputs)

    def _record_graph(self, *inputs: Tensor) -> Any:
        """Capture the graph, and leave the buffers as they were."""
        device = inputs[0].device
        self.inputs = tuple(torch.empty_like(t).copy_(t) for t in inputs)
        # A step changes buffers too: the running mean of a closed-form scale.
        buffers = list(self.step.scale.buffers())
        before = [buffer.clone() for buffer in buffers]
        try:
            with on_capture_stream(device):
                for _ in range(_N_WARM_UP):
                    self.step.run(*self.inputs)
                graph = self._record(device)
        finally:
            wait_for_capture_stream(device)
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        return graph

    def _record(self, device: torch.device) -> Any:
        """Record a step that has run before; None if that is not possible.

        Unlike ``torch.cuda.graph``, this neither waits for the device nor gives the memory
        back that torch keeps for later tensors.
        """
        graph = make_graph(device)
        try:
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.step.run(*self.inputs)
            # An interrupt, too, must end the capture.
            except BaseException:
                # The end of such a capture fails as well; the first error is the cause.
                with suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        # The step has run just before, so only the capture can fail: for lack of memory, or
        # because a library in use does what a graph cannot hold. The step itself has the
        # same results.
        except RuntimeError as error:
            self.captures.error = error.with_traceback(None)
            _failed_graphs.append(graph)
            return None
        return graph
