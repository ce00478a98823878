"""Random numbers that leave the process's own generators alone."""

import math
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from sklearn.base import clone
from sklearn.utils import check_random_state
from torch import nn

from skae._utils.device import default_generator

# One more than the largest seed: RandomState.randint draws int32 by default.
_N_SEEDS = np.iinfo(np.int32).max

# What to pass in place of a generator of numpy's newer kind, which scikit-learn refuses.
SEED_ADVICE = "Pass an int, such as int(generator.integers(2**31))."

# Source of random numbers that can stand in for a global generator: torch's on a device,
# numpy's or Python's.
Stream = torch.Generator | np.random.BitGenerator | random.Random

# Held while a user's module draws from the global generators. A module may hold the
# lock twice: a network that fits another autoencoder while it is built.
_global_generators_lock = RLock()
if hasattr(os, "register_at_fork"):  # not on Windows
    # A child process would otherwise inherit the lock of a thread that it does not have,
    # and another state of the generators.
    os.register_at_fork(
        before=_global_generators_lock.acquire,
        after_in_parent=_global_generators_lock.release,
        after_in_child=_global_generators_lock.release,
    )


def local_random_state(random_state: int | RandomState | None) -> RandomState:
    """Return a numpy generator that is not the global one.

    As scikit-learn's ``check_random_state``, except that None means fresh entropy from
    the system.
    """
    if random_state is None:
        return RandomState(np.random.MT19937())
    if isinstance(random_state, np.random.Generator):
        raise ValueError(f"random_state cannot be a numpy Generator: {SEED_ADVICE}")
    return check_random_state(random_state)


def with_random_state(estimator: Any, random_state: int | RandomState | None) -> Any:
    """Clone an estimator, and set its random state to this one if its own is None.

    Of an estimator without random state, such as a pipeline, that is done for those inside.
    """
    cloned = clone(estimator)
    if random_state is None:
        return cloned
    parameters = cloned.get_params()
    names = [name for name in parameters if name.rpartition("__")[2] == "random_state"]
    owners = [name.removesuffix("random_state") for name in names]
    free = {
        name: random_state
        for name, own in zip(names, owners, strict=True)
        # An estimator with a random state decides on what is inside of it.
        if parameters[name] is None
        and not any(own != other and own.startswith(other) for other in owners)
    }
    return cloned.set_params(**free)


def draw_seed(random_state: RandomState) -> int:
    """Draw a seed for another generator."""
    return int(random_state.randint(_N_SEEDS))


def torch_generator(random_state: RandomState, device: torch.device) -> torch.Generator:
    """Make a torch generator on a device, seeded from a numpy generator."""
    generator = torch.Generator(device=device)
    generator.manual_seed(draw_seed(random_state))
    return generator


def random_linear(
    n_in: int, n_out: int, generator: torch.Generator | None, *, bias: bool = True
) -> nn.Linear:
    """Make an affine map in float32 on the CPU, with the first weights of nn.Linear.

    They are drawn from the generator; None stands for torch's global one.
    """
    # The constructor of nn.Linear would draw from the global generator.
    # torch.nn.utils.skip_init does not, but imports sympy, which adds a warning filter.
    layer = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(layer)
    layer.in_features, layer.out_features = n_in, n_out
    empty = partial(torch.empty, device="cpu", dtype=torch.float32)
    layer.weight = nn.Parameter(empty(n_out, n_in))
    layer.register_parameter("bias", nn.Parameter(empty(n_out)) if bias else None)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    if bias:
        bound = 1 / math.sqrt(n_in)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def further_streams(seed: int) -> tuple[Stream, Stream]:
    """Make streams that can stand in for the global generators of numpy and Python."""
    return np.random.MT19937(seed), random.Random(seed)


def stream_state(stream: Stream) -> np.ndarray:
    """Return a copy of the state of a stream, ``(m,)``."""
    if isinstance(stream, torch.Generator):
        return np.array(stream.get_state().numpy())
    if isinstance(stream, random.Random):
        _, numbers, kept = stream.getstate()
        # Of two normal draws the second is kept; NaN stands for none.
        return np.array([*numbers, math.nan if kept is None else kept])
    state: dict[str, Any] = dict(stream.state)["state"]
    return np.append(state["key"], state["pos"])


def set_stream_state(stream: Stream, state: np.ndarray) -> None:
    """Set a stream to a state of :func:`stream_state`."""
    if isinstance(stream, torch.Generator):
        stream.set_state(torch.tensor(state, device="cpu"))
    elif isinstance(stream, random.Random):
        *numbers, kept = state.tolist()
        kept = None if math.isnan(kept) else kept
        stream.setstate((random.Random.VERSION, tuple(map(int, numbers)), kept))
    else:
        key = {"key": state[:-1].astype(np.uint32), "pos": int(state[-1])}
        stream.state = {"bit_generator": "MT19937", "state": key}


class _WithoutWeights(nn.Conv2d):
    """A convolution whose constructor draws nothing from the global generator."""

    def reset_parameters(self) -> None:
        """Leave the parameters as they are."""


def random_conv(
    n_in: int,
    n_out: int,
    kernel_size: int,
    generator: torch.Generator | None,
    *,
    stride: int = 1,
) -> nn.Conv2d:
    """Make a convolution in float32 on the CPU, with the first weights of nn.Conv2d.

    The kernel has an odd size, and the image a margin of zeros of half that size. The
    weights are drawn from the generator; None stands for torch's global one.
    """
    layer: nn.Conv2d = _WithoutWeights(
        n_in,
        n_out,
        kernel_size,
        stride,
        padding=kernel_size // 2,
        device="cpu",
        dtype=torch.float32,
    )
    layer.__class__ = nn.Conv2d
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    assert layer.bias is not None
    bound = 1 / math.sqrt(n_in * kernel_size**2)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


@contextmanager
def replaced_global_generators(*streams: Stream) -> Iterator[None]:
    """Let the global generators continue these streams in a block; restore them after.

    For modules of users, which draw first weights and dropout from the global generators,
    and offer no other way. There is one stream for each of torch's devices, one for numpy
    and one for Python. A global generator without a stream is not touched.
    """
    if not streams:
        yield
        return
    with _global_generators_lock:
        restore: list[Callable[[], None]] = []
        try:
            for stream in streams:
                # One by one, because those before an error have to be restored.
                restore.append(_replace(stream))  # noqa: PERF401
            yield
        finally:
            for call in restore:
                call()


def _replace(own: Stream) -> Callable[[], None]:
    """Let a global generator continue a stream; return what ends that and restores it."""
    if isinstance(own, torch.Generator):
        return _replace_torch(own)
    if isinstance(own, random.Random):
        return _replace_python(own)
    return _replace_numpy(own)


def _replace_torch(own: torch.Generator) -> Callable[[], None]:
    """Let torch's global generator of a device continue a stream."""
    shared = default_generator(own.device)
    before = shared.get_state()
    shared.set_state(own.get_state())

    def restore() -> None:
        own.set_state(shared.get_state())
        shared.set_state(before)

    return restore


def _replace_numpy(own: np.random.BitGenerator) -> Callable[[], None]:
    """Let numpy's global generator continue a stream.

    The bit generators are exchanged, because a copy of a state takes a hundred times as
    long.
    """
    shared = check_random_state(None)
    before, bits = shared.get_state(legacy=False), get_bit_generator()
    set_bit_generator(own)

    def restore() -> None:
        set_bit_generator(bits)
        # Of two normal draws the second is kept, but not by the bit generator.
        if before["has_gauss"]:
            shared.set_state(before)

    return restore


def _replace_python(own: random.Random) -> Callable[[], None]:
    """Let Python's global generator continue a stream."""
    before = random.getstate()
    random.setstate(own.getstate())

    def restore() -> None:
        own.setstate(random.getstate())
        random.setstate(before)

    return restore
