"""Random numbers that leave the process's own generators alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.utils import check_random_state

_default_generator_lock = Lock()


def local_random_state(random_state: int | RandomState | None) -> RandomState:
    """A numpy generator that is not the global one.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        As scikit-learn's, except that None means fresh entropy from the system rather
        than numpy's global generator.

    Returns
    -------
    RandomState
        The generator.
    """
    if random_state is None:
        return RandomState(np.random.MT19937())
    return check_random_state(random_state)


def torch_generator(random_state: RandomState, device: torch.device) -> torch.Generator:
    """A torch generator on a device, seeded from a numpy one.

    Parameters
    ----------
    random_state : RandomState
        Where the seed is drawn from.
    device : torch.device
        Where the generator lives.

    Returns
    -------
    torch.Generator
        The generator.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(int(random_state.randint(np.iinfo(np.int32).max)))
    return generator


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's default CPU generator start from a seed, and put it back after.

    Modules draw their first weights from that generator, in torch's default precision,
    and offer no other way. Fits in several threads take turns.

    Parameters
    ----------
    seed : int
        The seed.

    Yields
    ------
    None
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
