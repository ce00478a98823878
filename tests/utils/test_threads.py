"""Threads, tiny numbers and rounded products: set for a while, and put back."""

import os
import signal
import threading
from contextlib import contextmanager

import pytest
import torch
from sklearn import config_context, get_config

from skae._utils.threads import flushed_denormals, on_cores, suitable_threads, tf32_products
from tests.surroundings import nothing_global_changes, unusual_settings

products = torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def as_before():
    with unusual_settings():
        yield


def is_flushed():
    return not (torch.tensor(1e-40, dtype=torch.float32) * 1).item()


BLOCKS = {
    "threads": lambda: suitable_threads(1),
    "denormals": flushed_denormals,
    "products": lambda: tf32_products(True),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_what_is_set_is_put_back(name, error):
    """After an error too, and inside another such block."""
    with nothing_global_changes():
        if error is None:
            with BLOCKS[name]():
                pass
        else:
            with pytest.raises(error), BLOCKS[name]():
                raise error
    with BLOCKS[name](), nothing_global_changes(), BLOCKS[name]():
        pass


def test_small_steps_take_one_thread_and_large_ones_all():
    for size, n_threads in ((0, 1), (2**25 - 1, 1), (2**25, 2), (1e12, 2)):
        with suitable_threads(size):
            assert torch.get_num_threads() == n_threads
        assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    with suitable_threads(1e12):
        assert torch.get_num_threads() == 1


def test_calls_on_cores():
    """Side by side, each with one thread of torch's; results in order."""
    interrupted, meeting = threading.Event(), threading.Barrier(2)

    def call(i):
        meeting.wait(10)
        return i, torch.get_num_threads(), get_config()["assume_finite"]

    with config_context(assume_finite=True), nothing_global_changes():
        found = on_cores([lambda i=i: call(i) for i in range(4)], 2, interrupted)
    assert found == [(i, 1, True) for i in range(4)]
    assert not interrupted.is_set()


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_an_error_on_a_core_ends_the_others(error):
    interrupted = threading.Event()

    def failing():
        raise error

    with nothing_global_changes(), pytest.raises(error):
        on_cores([lambda: interrupted.wait(30), failing], 2, interrupted)
    assert interrupted.is_set()
    assert not any("ThreadPool" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_a_signal_while_cores_compute(error):
    """An interrupt is for the calls to end with; another error is raised when they have."""
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


@pytest.mark.parametrize("before", ["none", "ieee", "tf32"])
def test_products_in_tf32_only_where_wanted(before):
    """However a user has set them."""
    products.fp32_precision = before
    with tf32_products(False):
        assert products.fp32_precision == before
    with tf32_products(True):
        assert products.fp32_precision == "tf32"
    assert products.fp32_precision == before


@contextmanager
def older_setting(precision):
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_products_that_were_set_by_the_older_function(precision):
    with older_setting(precision):
        with tf32_products(True):
            assert products.fp32_precision == "tf32"
        assert torch.get_float32_matmul_precision() == precision


def test_tf32_in_several_threads():
    """It lasts as long as the last of them wants it, and no longer."""
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
