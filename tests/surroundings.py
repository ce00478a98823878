"""Global state of the process, which skae must not change."""

import random
import warnings
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import sklearn
import torch
from sklearn.utils import check_random_state


def process_state():
    """Return the random states and settings of the process."""
    name, keys, *rest = check_random_state(None).get_state()
    products = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    return {
        "numpy": (name, keys.tolist(), rest),
        "python": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "products": [each.fp32_precision for each in products],
        "denormal numbers": (torch.tensor(1e-40, dtype=torch.float32) * 1).item(),
        "errors of numpy": np.geterr(),
        "warnings": list(warnings.filters),
        "scikit-learn": sklearn.get_config(),
        "figures": mpl.rcParams.copy(),
    }


@contextmanager
def nothing_global_changes():
    """Fail if the block changes a random state or a setting of the process."""
    before = process_state()
    try:
        yield
    finally:
        after = process_state()
        changed = [name for name in before if before[name] != after[name]]
        assert not changed, f"changed: {changed}"


@contextmanager
def unusual_settings(flush_denormal=False):
    """Use settings that a fit with `precision="tf32"` changes and has to restore.

    The other tests use one torch thread, which a small fit would not change.
    """
    products = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    n_threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    precisions = [each.fp32_precision for each in products]
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    # The value in a new process. The older functions of torch leave another value.
    for each in products:
        each.fp32_precision = "none"
    torch.set_flush_denormal(flush_denormal)
    try:
        with np.errstate(under="warn"), sklearn.config_context(display="text"):
            yield
    finally:
        torch.set_num_threads(n_threads)
        torch.set_default_dtype(dtype)
        for each, precision in zip(products, precisions, strict=True):
            each.fp32_precision = precision
        torch.set_flush_denormal(False)
