"""Whether operations of torch give the same bits with another number of threads.

Sums of products may be split between threads, and then round otherwise. Whether they are
depends on the library, the shapes and the number of threads, but not on the numbers. Also
some functions of single numbers round otherwise by scalar than by vector instructions, and
threads divide arrays at places from which on few numbers are left for a vector.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

# Results that are compared for an operation, at least: of three results that round
# otherwise, two were equal by chance.
_FEW_RESULTS = 100
# Trials of an operation with fewer results than many: threads may change only those at an
# edge.
_N_TRIALS = 4
_MANY_RESULTS = 2**12
# Numbers from which on torch divides sums, and functions of single numbers.
_DIVIDED = 2**15
# Numbers on which scalar and vector instructions are compared.
_N_NUMBERS = 2**12
# Operations whose answers are kept: some hundred fits with shapes of their own.
_MOST_ANSWERS = 2**14
# Functions that compute no number: they ask, copy, or fill.
# fmt: off
_NO_ARITHMETIC = frozenset([
    "arange", "cat", "clone", "contiguous", "copy", "device", "dim", "expand", "fill",
    "full", "__get__", "__getitem__", "index_select", "is_contiguous", "item", "__len__",
    "new_full", "new_ones", "new_tensor", "new_zeros", "numel", "ones", "repeat",
    "set_grad_enabled", "__setitem__", "size", "stack", "stride", "to", "tolist", "zero",
    "zeros",
])
# fmt: on

# Tags of the functions that torch divides from a size on. Older versions have no tag of
# sums, which are then compared at every size.
_SIMPLE = {torch.Tag.pointwise, getattr(torch.Tag, "reduction", torch.Tag.pointwise)}

_Operation = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class RoundingProbe(TorchFunctionMode):
    """Context that finds out whether its operations depend on the number of threads.

    Each operation that may depend on it is repeated with other numbers in place of its
    own. What the context computes is not changed.

    Parameters
    ----------
    n_threads : int
        Number of threads that is compared with the one that is set.

    Attributes
    ----------
    agrees : bool
        Whether all operations so far gave the same bits.
    """

    def __init__(self, n_threads: int) -> None:
        super().__init__()
        self.counts = torch.get_num_threads(), n_threads
        self.agrees = True

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, and compare the numbers of threads for its shapes."""
        kwargs = kwargs or {}
        if self.agrees:
            self.agrees = self._agrees((func, args, kwargs))
        return func(*args, **kwargs)

    def _agrees(self, operation: _Operation) -> bool:
        """Whether an operation gives the same bits; the answer is kept."""
        func, args, kwargs = operation
        leaves, structure = tree_flatten((args, kwargs))
        largest = max((p.numel() for p in leaves if isinstance(p, Tensor)), default=0)
        if not _may_depend(func, largest):
            return True
        parts = tuple(
            (part.dtype, tuple(part.shape), part.stride())
            if isinstance(part, Tensor)
            else str(part)
            for part in leaves
        )
        answer = _answers((func, parts, str(structure), self.counts))
        if not answer:
            answer.append(_compare(operation, self.counts))
        return answer[0]


@lru_cache(_MOST_ANSWERS)
def _answers(key: tuple[Any, ...]) -> list[bool]:
    """Return the list that holds the answer for an operation, empty at first."""
    return []


@lru_cache(_MOST_ANSWERS)
def _tags(func: Callable[..., Any]) -> tuple[torch.Tag, ...] | None:
    """Return the tags of a function; None if it computes no number."""
    name = func.__name__.partition(".")[0]
    if name in _NO_ARITHMETIC or name.strip("_") in _NO_ARITHMETIC or "empty" in name:
        return None
    packet = getattr(torch.ops.aten, name.strip("_"), None)
    if packet is None:
        return ()
    operation = getattr(packet, packet.overloads()[0])
    is_random = torch.Tag.nondeterministic_seeded in operation.tags
    return None if operation.is_view or is_random else tuple(operation.tags)


def _may_depend(func: Callable[..., Any], largest: int) -> bool:
    """Whether a function of so many numbers may depend on the number of threads."""
    tags = _tags(func)
    if tags is None:
        return False
    return largest >= _DIVIDED or _SIMPLE.isdisjoint(tags)


def _compare(operation: _Operation, counts: tuple[int, int]) -> bool:
    """Whether an operation gives the same bits with both numbers of threads."""
    before = torch.get_num_threads()
    try:
        if torch.Tag.pointwise in (_tags(operation[0]) or ()):
            return _agrees_by_element(operation, counts)
        return _agrees(operation, counts)
    # The function does not take such numbers, or there is no memory for another call.
    except RuntimeError:
        return False
    finally:
        torch.set_num_threads(before)


def _agrees(operation: _Operation, counts: tuple[int, int]) -> bool:
    """Whether an operation gives the same bits for numbers of many magnitudes."""
    n_results, n_trials, places = 0, 0, count()
    while n_results < _FEW_RESULTS or (n_results < _MANY_RESULTS and n_trials < _N_TRIALS):
        trial = _with_tensors(operation, lambda t: _noise(t, next(places)))
        results = _results(trial, counts)
        if not _are_equal(results):
            return False
        n_new = sum(t.numel() for t in results[0])
        if n_new == 0:
            break
        n_results, n_trials = n_results + n_new, n_trials + 1
    return True


def _agrees_by_element(operation: _Operation, counts: tuple[int, int]) -> bool:
    """Whether a function of single numbers gives the same bits for each of them.

    All numbers are equal, and such that vector instructions round otherwise.
    """
    places = count()
    sample = _with_tensors(
        operation, lambda t: _noise(t.new_ones(_N_NUMBERS), next(places))
    )
    # Torch uses vector instructions only for memory without gaps.
    spaced = _with_tensors(sample, lambda t: torch.stack([t, t], dim=1)[:, 0])
    differ = torch.zeros(_N_NUMBERS, dtype=torch.bool, device="cpu")
    for dense, sparse in zip(_call(sample), _call(spaced), strict=True):
        differ |= ~_same(dense, sparse)
    if not differ.any():
        return True
    place = int(differ.nonzero()[0])
    numbers = iter(_tensors(sample))
    trial = _with_tensors(operation, lambda t: _filled(t, next(numbers)[place]))
    return _are_equal(_results(trial, counts))


def _results(operation: _Operation, counts: tuple[int, int]) -> list[list[Tensor]]:
    """Return the results with each number of threads, which are copies."""
    found = []
    for n_threads in counts:
        torch.set_num_threads(n_threads)
        # Copies, because the operation may change its arguments.
        found.append(_call(_with_tensors(operation, lambda t: _filled(t, t))))
    return found


def _call(operation: _Operation) -> list[Tensor]:
    """Return the tensors that an operation computes."""
    func, args, kwargs = operation
    return _tensors(func(*args, **kwargs))


def _tensors(tree: Any) -> list[Tensor]:
    """Return the tensors in a result, or in the arguments of an operation."""
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _with_tensors(operation: _Operation, change: Callable[[Tensor], Tensor]) -> _Operation:
    """Return an operation with other tensors."""
    func, args, kwargs = operation
    args, kwargs = tree_map_only(Tensor, change, (args, kwargs))
    return func, args, kwargs


def _are_equal(results: list[list[Tensor]]) -> bool:
    """Whether two lists of tensors have the same bits."""
    return all(bool(_same(*pair).all()) for pair in zip(*results, strict=True))


def _same(one: Tensor, other: Tensor) -> Tensor:
    """Whether numbers are equal, or not numbers."""
    return (one == other) | (one.isnan() & other.isnan())


def _noise(like: Tensor, place: int) -> Tensor:
    """Return numbers of many magnitudes, in the layout of a tensor; copy one of integers.

    Different places have different numbers.
    """
    if not like.is_floating_point():
        return like.clone()
    numbers = _numbers(like.dtype).roll(7919 * place)
    n_times = -(-like.numel() // len(numbers))
    return _filled(like, numbers.repeat(n_times)[: like.numel()].view(like.shape))


def _filled(like: Tensor, values: Tensor) -> Tensor:
    """Return values in the layout of a tensor; they broadcast to its shape."""
    if not like.is_floating_point():
        return like.clone()
    # Memory that an expanded tensor repeats is filled once.
    strides = like.stride()
    shape = [n if stride else 1 for n, stride in zip(like.shape, strides, strict=True)]
    out = torch.empty_strided(shape, strides, dtype=like.dtype, device="cpu")
    out.copy_(values.expand(like.shape)[tuple(map(slice, shape))])
    return out.expand(like.shape)


@lru_cache(8)
def _numbers(dtype: torch.dtype) -> Tensor:
    """Draw numbers of many magnitudes; their count is a prime, so that no line repeats."""
    generator, shape = torch.Generator("cpu").manual_seed(0), (2**16 + 1,)
    numbers = torch.rand(shape, generator=generator, dtype=dtype, device="cpu") - 0.5
    exponents = torch.randint(-9, 10, shape, generator=generator, device="cpu")
    return torch.ldexp(numbers, exponents)
