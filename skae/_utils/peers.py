"""The processes that train one model, and the sums over all of them."""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
V = TypeVar("V", float, np.ndarray)

_NO_GROUP = (
    "skae.spmd trains one model in several processes, but this process is in no process "
    "group. Start the script with torchrun, and call "
    "torch.distributed.init_process_group() before fit. For one process, use the "
    "estimators of skae."
)
_NO_ANSWER = (
    "Rank {} of {} has lost the other processes of this fit: one of them has ended or "
    "failed, or did not answer within the timeout of the process group "
    "(torch.distributed.init_process_group(timeout=...)). The process group cannot be used "
    "any more: end all processes, and start them again. The first error in the logs of the "
    "ranks is the cause."
)


class Peers:
    """The processes of a fit: this one alone, so that a sum over all is the identity.

    Attributes
    ----------
    rank, size : int
        Number of this process, and of all.
    """

    rank = 0
    size = 1

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def sum(self, value: V) -> V:
        """Sum a number or an array over all processes, in float64."""
        return value

    def largest(self, value: V) -> V:
        """Take the largest number over all processes, for each element of an array."""
        return value

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place; the same bits in each of them."""
        return tensor

    def gather(self, array: np.ndarray) -> list[np.ndarray]:
        """Return the arrays of all processes, which differ in length at most."""
        return [array]

    def exchange(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Send a part to each process; return the parts from all of them."""
        return list(parts)

    def of_first(self, make: Callable[[], T]) -> T:
        """Call a function in the first process only, and return its result in all."""
        return make()

    def broadcast_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""

    def gather_objects(self, value: T) -> list[T]:
        """Return a small object of each process."""
        return [value]

    def raise_first(self, errors: Sequence[tuple[type[Exception], str] | None]) -> None:
        """Raise the first error of a process, as `describe_error` describes it."""
        for rank, found in enumerate(errors):
            if found is not None:
                kind, message = found
                raise kind(f"The fit has failed on rank {rank} of {self.size}: {message}")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise an error of one process in all processes.

        The block must not communicate.
        """
        yield


ALONE = Peers()


class ProcessPeers(Peers):
    """The processes of torch's default process group.

    All processes call the same methods in the same order. Raises RuntimeError if there is
    no process group.
    """

    def __init__(self) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(_NO_GROUP)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        # Types of devices whose tensors the processes can exchange. A group with a backend
        # for each type has no single name.
        types = dist.Backend.backend_capability.get(dist.get_backend(), ["cpu"])
        self._takes_cpu = "cpu" in types
        self._device_type = "cpu" if self._takes_cpu else types[0]

    @property
    def _device(self) -> torch.device:
        """The current device of that type."""
        return torch.device(self._device_type)

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Say what an error of the communication means."""
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(_NO_ANSWER.format(self.rank, self.size)) from error

    def _reduce(self, value: V, op: Any) -> V:
        """Reduce a number or an array over all processes."""
        tensor = torch.tensor(value, dtype=torch.float64, device=self._device)
        with self._answered():
            dist.all_reduce(tensor, op)
        return tensor.cpu().numpy() if isinstance(value, np.ndarray) else float(tensor)

    def sum(self, value: V) -> V:
        return self._reduce(value, dist.ReduceOp.SUM)

    def largest(self, value: V) -> V:
        return self._reduce(value, dist.ReduceOp.MAX)

    def sum_(self, tensor: Tensor) -> Tensor:
        own = tensor if self._takes_cpu else tensor.to(self._device)
        with self._answered():
            dist.all_reduce(own)
        return tensor if own is tensor else tensor.copy_(own)

    def gather(self, array: np.ndarray) -> list[np.ndarray]:
        lengths = self.gather_objects(len(array))
        # Of one length, because not all backends gather tensors of different shapes.
        padded = np.zeros((max(lengths), *array.shape[1:]), array.dtype)
        padded[: len(array)] = array
        own = torch.from_numpy(padded).to(self._device)
        found = [torch.empty_like(own) for _ in lengths]
        with self._answered():
            dist.all_gather(found, own)
        pairs = zip(found, lengths, strict=True)
        return [tensor[:n].cpu().numpy() for tensor, n in pairs]

    def exchange(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        sent = [len(part) for part in parts]
        received = [lengths[self.rank] for lengths in self.gather_objects(sent)]
        own = torch.from_numpy(np.concatenate(parts)).to(self._device)
        found = own.new_empty(sum(received), *own.shape[1:])
        with self._answered():
            dist.all_to_all_single(found, own, received, sent)
        return np.split(found.cpu().numpy(), np.cumsum(received)[:-1])

    def of_first(self, make: Callable[[], T]) -> T:
        result: list[Any] = [None]
        with self.together():
            if self.rank == 0:
                own = make()
                # Here, because an object that cannot be pickled is an error in all.
                result = [pickle.dumps(own)]
        with self._answered():
            dist.broadcast_object_list(result, src=0)
        found: T = own if self.rank == 0 else pickle.loads(result[0])
        return found

    def broadcast_(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            own = tensor.detach().to(self._device).contiguous()
            with self._answered():
                dist.broadcast(own, src=0)
            if own is not tensor:
                tensor.detach().copy_(own)

    def gather_objects(self, value: T) -> list[T]:
        found: list[Any] = [None] * self.size
        with self._answered():
            dist.all_gather_object(found, value)
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        # Any error: the other processes would wait for this one.
        except Exception as error:
            self.gather_objects(describe_error(error))
            raise
        self.raise_first(self.gather_objects(None))


def describe_error(error: Exception) -> tuple[type[Exception], str]:
    """Return the kind of an error, as one that a message is enough for, and its message."""
    kinds = ValueError, TypeError, MemoryError
    kind = next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)
    return kind, str(error) or repr(error)
