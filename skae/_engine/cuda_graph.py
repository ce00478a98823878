"""The compiled step on a GPU: captured once, launched as a whole.

A small model leaves a GPU idle while the host prepares one operation after the other. A
CUDA graph is the list of all operations of a step, launched by one call.
"""

from collections.abc import Sequence
from threading import Lock

import torch
from torch import Tensor

from skae._engine.analytic_step import AnalyticStep

# Runs before the capture, in which libraries choose their algorithms.
_WARM_UP = 3
_capturing = Lock()


class GraphedStep:
    """A compiled step as a CUDA graph over inputs that are always in the same place.

    Parameters
    ----------
    step : CompiledStep
        What to capture.
    """

    def __init__(self, step: AnalyticStep) -> None:
        self.step = step
        self.inputs: tuple[Tensor, ...] = ()
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """See `skae._optim.Step`."""
        self.step.set_progress(progress)
        if self.graph is None:
            self._capture(y, row_weight, noise)
        for place, value in zip(self.inputs, (y, row_weight, noise), strict=True):
            place.copy_(value)
        assert self.graph is not None
        with torch.cuda.device(self.inputs[0].device):
            self.graph.replay()
        return self.step.metrics

    def _capture(self, *inputs: Tensor) -> None:
        # A capture belongs to the current device, and others must not allocate meanwhile.
        with _capturing, torch.cuda.device(inputs[0].device):
            self._capture_here(*inputs)

    def _capture_here(self, *inputs: Tensor) -> None:
        self.inputs = tuple(torch.empty_like(t).copy_(t) for t in inputs)
        # What a step leaves behind beside gradients: the running closed-form scale.
        buffers = list(self.step.scale.buffers())
        before = [buffer.clone() for buffer in buffers]
        stream = torch.cuda.Stream(inputs[0].device)
        stream.wait_stream(torch.cuda.current_stream(inputs[0].device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self.step.run(*self.inputs)
        torch.cuda.current_stream(inputs[0].device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.step.run(*self.inputs)
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
