"""Whether operations of torch give the same bits with another number of threads.

Sums of products may be split between threads, and then round otherwise. Whether they are
depends on the library, the shapes and the number of threads, but not on the numbers.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

# Results that are compared at least for an operation, in several trials if it has fewer: of
# three results that round otherwise, two were equal by chance.
_N_RESULTS = 100
# Operations whose answers are kept: some hundred fits with shapes of their own.
_MOST_ANSWERS = 2**14


class RoundingProbe(TorchFunctionMode):
    """Context that finds out whether its operations depend on the number of threads.

    Each operation that combines numbers is repeated with random numbers in place of its
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
        if self.agrees and _combines_numbers(func):
            leaves, structure = tree_flatten((args, kwargs))
            parts = tuple(
                (part.dtype, tuple(part.shape), part.stride())
                if isinstance(part, Tensor)
                else str(part)
                for part in leaves
            )
            key = func, parts, str(structure), self.counts
            answer = _answers(key)
            if not answer:
                answer.append(_agree(func, args, kwargs, self.counts))
            self.agrees = answer[0]
        return func(*args, **kwargs)


@lru_cache(_MOST_ANSWERS)
def _answers(key: tuple[Any, ...]) -> list[bool]:
    """Return the list that holds the answer for an operation, empty at first."""
    return []


def _combines_numbers(func: Callable[..., Any]) -> bool:
    """Whether a function may compute a number from several entries of an array."""
    name = func.__name__
    # A property such as the shape, and memory without values, depend on no sum.
    if name == "__get__" or "empty" in name:
        return False
    packet = getattr(torch.ops.aten, name.strip("_"), None)
    if packet is None:
        return True
    operation = getattr(packet, packet.overloads()[0])
    tags = torch.Tag.pointwise, torch.Tag.nondeterministic_seeded
    return not operation.is_view and not any(tag in operation.tags for tag in tags)


def _agree(
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    counts: tuple[int, int],
) -> bool:
    """Whether an operation gives the same bits with both numbers of threads."""
    generator, n_results = torch.Generator("cpu").manual_seed(0), 0
    before = torch.get_num_threads()
    try:
        while n_results < _N_RESULTS:
            found, seed = [], int(torch.randint(2**31, (), generator=generator))
            for n_threads in counts:
                torch.set_num_threads(n_threads)
                generator.manual_seed(seed)
                own = tree_map_only(Tensor, lambda t: _noise(t, generator), (args, kwargs))
                leaves, _ = tree_flatten(func(*own[0], **own[1]))
                found.append([leaf for leaf in leaves if isinstance(leaf, Tensor)])
            for one, other in zip(*found, strict=True):
                n_results += one.numel()
                if not bool(((one == other) | (one.isnan() & other.isnan())).all()):
                    return False
            if not any(t.numel() for t in found[0]):
                return True
            generator.manual_seed(seed + 1)
    finally:
        torch.set_num_threads(before)
    return True


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw numbers of many magnitudes, in the layout of a tensor; copy one of integers."""
    if not like.is_floating_point():
        return like
    out = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device="cpu")
    shape = tuple(like.shape)
    numbers = torch.rand(shape, generator=generator, dtype=like.dtype, device="cpu")
    exponents = torch.randint(-9, 10, shape, generator=generator, device="cpu")
    return out.copy_(torch.ldexp(numbers - 0.5, exponents))
