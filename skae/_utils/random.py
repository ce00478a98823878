"""Random numbers that leave the process's own generators alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.utils import check_random_state

# One more than the largest seed: RandomState.randint draws int32 by default.
_N_SEEDS = np.iinfo(np.int32).max

_default_generator_lock = Lock()


def local_random_state(random_state: int | RandomState | None) -> RandomState:
    """Return a numpy generator that is not the global one.

    As scikit-learn's ``check_random_state``, except that None means fresh entropy from
    the system.
    """
    if random_state is None:
        return RandomState(np.random.MT19937())
    return check_random_state(random_state)


def draw_seed(random_state: RandomState) -> int:
    """Draw a seed for another generator."""
    return int(random_state.randint(_N_SEEDS))


def torch_generator(random_state: RandomState, device: torch.device) -> torch.Generator:
    """Make a torch generator on a device, seeded from a numpy generator."""
    generator = torch.Generator(device=device)
    generator.manual_seed(draw_seed(random_state))
    return generator


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's default CPU generator for a block, and restore its state after.

    Torch's modules draw their first weights from that generator, in torch's default
    dtype, and offer no other way. A lock makes fits in several threads take turns.
    """
    with _default_generator_lock:
        state, dtype = torch.get_rng_state(), torch.get_default_dtype()
        try:
            torch.default_generator.manual_seed(seed)
            torch.set_default_dtype(torch.float32)
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_rng_state(state)
