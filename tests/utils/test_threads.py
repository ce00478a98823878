"""Temporary settings: threads, denormal numbers and rounded products."""

import os
import signal
import threading
from contextlib import contextmanager

import pytest
import torch
from sklearn import config_context, get_config

from skae._utils.settings import tf32_products
from skae._utils.threads import flushed_denormals, on_cores, suitable_threads
from tests.surroundings import nothing_global_changes, unusual_settings

products = torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def settings_of_a_user():
    """Use unusual settings, as a user may have made them."""
    with unusual_settings():
        yield


def is_flushed():
    """Whether denormal numbers count as 0."""
    return not (torch.tensor(1e-40, dtype=torch.float32) * 1).item()


BLOCKS = {
    "threads": lambda: suitable_threads(1),
    "denormals": flushed_denormals,
    "products": lambda: tf32_products(True),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_settings_are_restored(name, error):
    """Also after an error, and inside another such block."""
    with nothing_global_changes():
        if error is None:
            with BLOCKS[name]():
                pass
        else:
            with pytest.raises(error), BLOCKS[name]():
                raise error
    with BLOCKS[name](), nothing_global_changes(), BLOCKS[name]():
        pass


def test_small_steps_use_one_thread():
    for size, n_threads in ((0, 1), (2**26 - 1, 1), (2**26, 2), (1e12, 2)):
        with suitable_threads(size):
            assert torch.get_num_threads() == n_threads
        assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    with suitable_threads(1e12):
        assert torch.get_num_threads() == 1


def test_calls_run_at_the_same_time():
    """Each has one torch thread; the results are in order."""
    interrupted, barrier = threading.Event(), threading.Barrier(2)

    def call(i):
        barrier.wait(10)
        return i, torch.get_num_threads(), get_config()["assume_finite"]

    with config_context(assume_finite=True), nothing_global_changes():
        found = on_cores([lambda i=i: call(i) for i in range(4)], 2, interrupted)
    assert found == [(i, 1, True) for i in range(4)]
    assert not interrupted.is_set()


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_error_interrupts_other_calls(error):
    interrupted = threading.Event()

    def failing():
        raise error

    with nothing_global_changes(), pytest.raises(error):
        on_cores([lambda: interrupted.wait(30), failing], 2, interrupted)
    assert interrupted.is_set()
    assert not any("ThreadPool" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_signal_while_calls_run(error):
    """An interrupt ends the calls and is not raised; another error is raised after them."""
    interrupted, ended = threading.Event(), []

    def handler(*_):
        raise error

    def call():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interrupted.wait(30)
        ended.append(True)
        return "ended"

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with nothing_global_changes():
            if error is KeyboardInterrupt:
                assert on_cores([call], 2, interrupted) == ["ended"]
            else:
                with pytest.raises(error):
                    on_cores([call], 2, interrupted)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ended == [True]


def test_denormal_numbers_are_flushed():
    assert not is_flushed()
    with flushed_denormals():
        assert is_flushed()
    assert not is_flushed()
    torch.set_flush_denormal(True)
    with flushed_denormals():
        pass
    assert is_flushed()


has_precision = pytest.mark.skipif(
    not hasattr(products, "fp32_precision"), reason="needs the settings of torch 2.9"
)


@has_precision
@pytest.mark.parametrize("before", ["none", "ieee", "tf32"])
def test_tf32_is_set_only_if_enabled(before):
    """The user's setting is restored."""
    products.fp32_precision = before
    with tf32_products(False):
        assert products.fp32_precision == before
    with tf32_products(True):
        assert products.fp32_precision == "tf32"
    assert products.fp32_precision == before


@contextmanager
def older_setting(precision):
    """Set the precision by torch's older function."""
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@has_precision
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_tf32_restores_setting_of_older_function(precision):
    with older_setting(precision):
        with tf32_products(True):
            assert products.fp32_precision == "tf32"
        assert torch.get_float32_matmul_precision() == precision


@has_precision
def test_tf32_lasts_until_last_user_ends():
    """Two threads use TF32, and one ends later."""
    inside, may_end = threading.Event(), threading.Event()

    def other():
        with tf32_products(True):
            inside.set()
            may_end.wait()

    thread = threading.Thread(target=other)
    with tf32_products(True):
        thread.start()
        inside.wait()
    still = products.fp32_precision
    may_end.set()
    thread.join()
    assert still == "tf32"
    assert products.fp32_precision == "none"
