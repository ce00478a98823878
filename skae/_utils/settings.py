"""Settings of torch that would change a result."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from skae._utils.device import kinds, products_of_gpus
from skae._utils.threads import one_thread_after_fork

# A setting of the process: its owner, its name, and the value for the time of a block.
Setting = tuple[Any, str, str | bool]

# What torch calls a precision of float32 products that keeps all digits.
_EXACT = "ieee", "none"
# A denormal number, which is 0 in arithmetic if the processor flushes them.
_SMALLEST = 5e-324
# Functions of torch whose results have the default dtype, and may be first weights. Others
# keep the numbers that they are given.
_FACTORIES = {
    *(torch.empty, torch.empty_strided, torch.zeros, torch.ones, torch.eye),
    *(torch.rand, torch.randn, torch.linspace),
}


class SharedSetting:
    """A setting of the process that several threads use, with a count of its users.

    Parameters
    ----------
    choose : callable
        Returns the setting and its value for the time of a block.
    """

    def __init__(self, choose: Callable[[], Setting]) -> None:
        self.choose = choose
        self.lock = Lock()
        self.n_users = 0
        self.before: Any = None
        if hasattr(os, "register_at_fork"):  # not on Windows
            # A child process would inherit the lock of a thread that it does not have.
            os.register_at_fork(
                before=self.lock.acquire,
                after_in_parent=self.lock.release,
                after_in_child=self.lock.release,
            )

    @contextmanager
    def used(self) -> Iterator[None]:
        """Use the value in a block; the end of the last block restores the setting."""
        owner, name, value = self.choose()
        with self.lock:
            if self.n_users == 0:
                self.before = getattr(owner, name)
                if name == "fp32_precision":
                    # A value that a more general setting gives is not set here.
                    setattr(owner, name, "none")
                    if getattr(owner, name) == self.before:
                        self.before = "none"
                setattr(owner, name, value)
            self.n_users += 1
        try:
            yield
        finally:
            with self.lock:
                self.n_users -= 1
                if self.n_users == 0:
                    setattr(owner, name, self.before)


def _tf32_setting() -> Setting:
    """Return the setting of rounded products on a GPU, and the value for TF32."""
    products = products_of_gpus()
    # torch.set_float32_matmul_precision fails if a user has set the precision by this name.
    if hasattr(products, "fp32_precision"):
        return products, "fp32_precision", "tf32"
    return products, "allow_tf32", True  # before torch 2.9


_tf32 = SharedSetting(_tf32_setting)


@contextmanager
def tf32_products(enabled: bool) -> Iterator[None]:
    """Let a GPU round the factors of matrix products to TF32, if enabled.

    Fits in several threads share the setting, which is restored when the last of them ends.
    """
    if not enabled:
        yield
        return
    with _tf32.used():
        yield


def _exact_setting(owner: Any) -> Setting:
    """Return a setting of float32 products, and the value that keeps all digits."""
    return owner, "fp32_precision", "ieee"


def _owners() -> list[Any]:
    """Return the owners of the settings of float32 products; none before torch 2.9."""
    onednn: Any = torch.backends.mkldnn
    if not hasattr(onednn, "matmul"):
        return []
    return [onednn.matmul, onednn.conv, products_of_gpus()]


_exact = [(owner, SharedSetting(partial(_exact_setting, owner))) for owner in _owners()]


def _unraised(errors: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of numpy's errors in which none is raised."""
    unraised = {kind: "warn" if how == "raise" else how for kind, how in errors.items()}
    return {**unraised, "under": "ignore"}


@contextmanager
def own_settings() -> Iterator[None]:
    """Compute in the precision of the tensors, and in one thread after a fork.

    An error of numpy that the user raises is a warning, and underflow is none: code of
    scikit-learn, such as the density of a mixture, counts on that.
    The user's autocast does not apply. Nor does a lower precision of float32 products that
    the user has set for the process: it is raised until the last such block ends.
    """
    with ExitStack() as stack:
        stack.enter_context(one_thread_after_fork())
        if "raise" in np.geterr().values():
            stack.enter_context(np.errstate(**_unraised(np.geterr())))
        if _SMALLEST * 1.0 == 0.0:
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        for device in kinds():
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        for owner, setting in _exact:
            # Where another block has raised it, this one has to keep it raised.
            if setting.n_users or owner.fp32_precision not in _EXACT:
                stack.enter_context(setting.used())
        yield


@contextmanager
def training_mode() -> Iterator[None]:
    """Compute with gradients, also if the caller has switched them off, in own settings."""
    with own_settings(), torch.inference_mode(False), torch.enable_grad():
        yield


class _BuiltOnCpu(TorchFunctionMode):
    """A mode in which modules of users are built on the CPU, in float32.

    It belongs to the thread, as torch's default dtype does not.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        is_free = kwargs.get("dtype") is None and kwargs.get("out") is None
        if func in _FACTORIES and is_free:
            kwargs["dtype"] = torch.float32
        return func(*args, **kwargs)


@contextmanager
def built_on_cpu() -> Iterator[None]:
    """Ignore torch's default device and default dtype while modules are built."""
    with ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.get_default_dtype() != torch.float32:
            stack.enter_context(_BuiltOnCpu())
        yield
