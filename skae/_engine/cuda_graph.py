"""The analytic step on a GPU: captured once, launched as a whole.

A small model leaves a GPU idle while the host prepares each operation. A CUDA graph is
the list of all operations of a step, launched by one call.
"""

from collections.abc import Sequence
from threading import Lock

import torch
from torch import Tensor

from skae._engine.analytic_step import AnalyticStep

# Steps before the capture, in which libraries choose their algorithms; the default of
# torch.cuda.make_graphed_callables.
_N_WARM_UP = 3
_capture_lock = Lock()


class GraphedStep:
    """An analytic step as a CUDA graph, whose inputs are copied to fixed memory."""

    def __init__(self, step: AnalyticStep) -> None:
        self.step = step
        self.inputs: tuple[Tensor, ...] = ()
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """Compute the gradients and return the metrics; see `skae._optim.Step`."""
        self.step.set_progress(progress)
        if self.graph is None:
            self._capture(y, row_weight, noise)
        for memory, value in zip(self.inputs, (y, row_weight, noise), strict=True):
            memory.copy_(value)
        assert self.graph is not None
        with torch.cuda.device(self.inputs[0].device):
            self.graph.replay()
        return self.step.metrics

    def _capture(self, *inputs: Tensor) -> None:
        # A graph is captured on the current device. Two captures at the same time would mix
        # their allocations.
        """Capture the graph while no other thread captures one."""
        with _capture_lock, torch.cuda.device(inputs[0].device):
            self._record_graph(*inputs)

    def _record_graph(self, *inputs: Tensor) -> None:
        """Capture the graph, and leave the buffers as they were."""
        self.inputs = tuple(torch.empty_like(t).copy_(t) for t in inputs)
        # A step changes buffers too: the running mean of a closed-form scale.
        buffers = list(self.step.scale.buffers())
        before = [buffer.clone() for buffer in buffers]
        stream = torch.cuda.Stream(inputs[0].device)
        stream.wait_stream(torch.cuda.current_stream(inputs[0].device))
        with torch.cuda.stream(stream):
            for _ in range(_N_WARM_UP):
                self.step.run(*self.inputs)
        torch.cuda.current_stream(inputs[0].device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.step.run(*self.inputs)
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
