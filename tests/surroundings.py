"""Global state of the process, which skae must not change."""

import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import warnings
from contextlib import ExitStack, contextmanager
from functools import cache

import joblib
import matplotlib as mpl
import numpy as np
import sklearn
import torch
from sklearn.utils import check_random_state
from threadpoolctl import ThreadpoolController

# New threads with these names belong to the libraries that run tests and workers.
_THREADS_OF_OTHERS = ("ExecutorManagerThread", "QueueFeederThread", "execnet", "Dask")


def process_state():
    """Return the random states and settings of the process."""
    name, keys, *rest = check_random_state(None).get_state()
    backend, n_jobs = joblib.parallel.get_active_backend()
    return {
        "numpy": (name, keys.tolist(), rest),
        "python": random.getstate(),
        "denormal numbers": _denormal_number(),
        "errors of numpy": np.geterr(),
        "printed arrays": np.get_printoptions(),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "scikit-learn": sklearn.get_config(),
        "joblib": (type(backend), n_jobs),
        "figures": mpl.rcParams.copy(),
        "libraries": [(pool["prefix"], pool["num_threads"]) for pool in _pools().info()],
        "python's threads": (sys.getswitchinterval(), threading.excepthook),
        "live threads": frozenset(filter(_is_ours, threading.enumerate())),
        "signals": (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)),
        "interpreter": (sys.getrecursionlimit(), sys.excepthook, sys.stdout, sys.stderr),
        "garbage": (gc.isenabled(), gc.get_threshold(), gc.get_debug()),
        "faults": faulthandler.is_enabled(),
        "environment": (dict(os.environ), os.getcwd()),
        **_torch_state(),
    }


def products_with_precision(*names):
    """Return the owners of torch's settings of precision, which it has since 2.9."""
    onednn = torch.backends.mkldnn
    owners = [torch.backends.cuda.matmul, *(getattr(onednn, n, None) for n in names)]
    return [owner for owner in owners if hasattr(owner, "fp32_precision")]


def _torch_state():
    """Return the random state and settings of torch."""
    onednn = torch.backends.mkldnn
    return {
        "torch": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "anomalies": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "autocast": (
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
        "products": [
            each.fp32_precision for each in products_with_precision("matmul", "conv")
        ],
        "older setting of products": _older_precision(),
        "oneDNN": (onednn.enabled, onednn.deterministic, onednn.allow_tf32),
        "modes": torch._C._len_torch_function_stack(),
    }


def _denormal_number():
    """Return a number below the normal range, or 0 if they are flushed."""
    return (torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 1).item()


def _older_precision():
    """Return the precision of products by torch's older function."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "set by the newer one"


@cache
def _pools():
    """Return the threads of the linear algebra libraries; a search for them takes long."""
    return ThreadpoolController()


def _is_ours(thread):
    """Whether a thread may be one that a fit leaves behind."""
    return not thread.name.startswith(_THREADS_OF_OTHERS)


def changes(before, after):
    """Return the names of what differs; of threads, those that are new count only."""
    names = [name for name in before if before[name] != after[name]]
    if after["live threads"] <= before["live threads"] and "live threads" in names:
        names.remove("live threads")
    return names


@contextmanager
def nothing_global_changes(but=()):
    """Fail if the block changes a random state or a setting of the process.

    Settings named in ``but`` may change.
    """
    before = process_state()
    try:
        yield
    finally:
        changed = set(changes(before, process_state())) - set(but)
        assert not changed, f"changed: {changed}"


@contextmanager
def unusual_settings(flush_denormal=False):
    """Use settings that a fit with `precision="tf32"` changes and has to restore.

    The other tests use one torch thread, which a small fit would not change.
    """
    products = products_with_precision("matmul")
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


@contextmanager
def default_dtype(dtype):
    """Set torch's default dtype within a block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _default_device(device):
    """Set torch's default device within a block."""
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def _deterministic():
    """Let torch use deterministic algorithms only, and fill new memory with NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def _rounded_products(precision):
    """Let torch round the factors of float32 products, by its older function."""
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        for each in products_with_precision("matmul"):
            each.fp32_precision = "none"


@contextmanager
def _rounding(precision):
    """Let torch round the factors of all float32 products and convolutions."""
    torch.backends.fp32_precision = precision
    try:
        yield
    finally:
        torch.backends.fp32_precision = "none"


@contextmanager
def _threads(n):
    """Set the number of torch's threads within a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _flushed():
    """Let the processor treat denormal numbers as 0 within a block."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def _ignored_warnings():
    """Ignore all warnings within a block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Settings of a user that must not change a result.
SETTINGS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "anomalies are detected": lambda: torch.autograd.set_detect_anomaly(True),
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device meta": lambda: _default_device("meta"),
    "device meta in a block": lambda: torch.device("meta"),
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "products in bfloat16": lambda: _rounded_products("medium"),
    "products in TF32": lambda: _rounded_products("high"),
    "all in bfloat16": lambda: _rounding("bf16"),
    "deterministic algorithms": _deterministic,
    "two threads": lambda: _threads(2),
    "denormal numbers are 0": _flushed,
    "errors of numpy are raised": lambda: np.errstate(all="raise"),
    "printed arrays": lambda: np.printoptions(precision=1, threshold=3),
    "assume_finite": lambda: sklearn.config_context(assume_finite=True),
    "working_memory": lambda: sklearn.config_context(working_memory=1),
    "metadata routing": lambda: sklearn.config_context(enable_metadata_routing=True),
    "output in frames": lambda: sklearn.config_context(transform_output="pandas"),
    "array API": lambda: sklearn.config_context(array_api_dispatch=True),
    "no validation": lambda: sklearn.config_context(skip_parameter_validation=True),
    "no warnings": _ignored_warnings,
}
# Those that exclude one another.
_ALTERNATIVES = (
    ("no_grad", "inference_mode"),
    ("default dtype float64", "default dtype bfloat16"),
    ("default device meta", "device meta in a block"),
    ("autocast to bfloat16", "autocast to float16"),
    ("products in bfloat16", "products in TF32", "all in bfloat16"),
)


@contextmanager
def many_settings(which, omitted=()):
    """Use all settings of a user at once; of alternatives, the one at a position."""
    others = set(omitted)
    for names in _ALTERNATIVES:
        others |= {*names} - {names[which % len(names)]}
    with ExitStack() as stack:
        for name, setting in SETTINGS.items():
            if name not in others:
                stack.enter_context(setting())
        yield
