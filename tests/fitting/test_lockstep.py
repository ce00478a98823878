"""Calls that are made one by one, and whose fits are trained side by side."""

import _thread
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._fitting import lockstep, trainer
from skae._fitting.lockstep import (
    gather,
    offload,
    run_in_lockstep,
    shared_result,
    wait_for_others,
)
from skae._fitting.trainer import train
from skae._utils import threads as threads_module
from skae._utils.threads import in_parts
from skae.estimators import fit_input
from skae.model_selection import BatchedGridSearchCV
from tests.callbacks import Callback

ROOT = Path(__file__).parents[2]


def vae(**parameters):
    return VariationalAutoencoder(
        **{"max_iter": 4, "precision": "float64", "random_state": 0} | parameters
    )


@pytest.fixture(autouse=True)
def assert_nothing_is_left():
    """No thread, and no other number of them in torch."""
    threads, n_threads = set(threading.enumerate()), torch.get_num_threads()
    yield
    assert set(threading.enumerate()) <= threads
    assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize(("n", "most"), [(0, 3), (1, 3), (3, 3), (4, 3), (10, 4), (7, 1)])
def test_parts(n, most):
    """All items in order, in as few parts as can be, which are alike."""
    parts = in_parts(list(range(n)), most)
    assert list(chain.from_iterable(parts)) == list(range(n))
    assert len(parts) == -(-n // most)
    sizes = [len(part) for part in parts]
    assert max(sizes, default=0) <= most
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_calls_without_fits():
    """They are made in order, one at a time, and their results stand in order."""
    made = []

    def call(i):
        made.append(i)
        time.sleep(0.001)
        assert made[-1] == i
        return i**2

    assert run_in_lockstep([lambda i=i: call(i) for i in range(20)], 6) == [
        i**2 for i in range(20)
    ]
    assert made == list(range(20))
    assert run_in_lockstep([], 5) == []


def test_only_one_is_awake(X, counted):
    """All come to their training, then all go on, in order."""
    said = []

    def call(i):
        for part in range(2):
            said.append((part, i))
            vae(beta=1 + i).fit(X)
        said.append((2, i))

    run_in_lockstep([lambda i=i: call(i) for i in range(3)], 9)
    # The second beginning follows the first end without a pause.
    assert said == [(part, i) for part in range(3) for i in range(3)]
    assert counted == [3, 3]


def test_calls_with_different_numbers_of_fits(X, counted):
    models = run_in_lockstep(
        [lambda n=n: [vae(random_state=i).fit(X) for i in range(n)] for n in (0, 1, 3, 2)],
        9,
    )
    assert [len(m) for m in models] == [0, 1, 3, 2]
    assert counted == [3, 2, 1]
    for several in models:
        for i, model in enumerate(several):
            assert_allclose(model.score(X), vae(random_state=i).fit(X).score(X), rtol=1e-9)


def test_warm_starts_and_other_calls(X, counted):
    """A fit that continues goes beside fits that begin."""

    def continued():
        model = vae(warm_start=True).fit(X)
        return model.fit(X).score(X)

    scores = run_in_lockstep([continued, lambda: vae().fit(X).score(X)], 9)
    assert counted == [2, 1]
    model = vae(warm_start=True).fit(X)
    assert_allclose(scores, [model.fit(X).score(X), vae().fit(X).score(X)], rtol=1e-9)


def test_what_calls_share_is_computed_once(X):
    """Equal contents are the same; another dtype, shape or setting is something else."""
    seen = []

    def count(array, setting):
        seen.append((array.dtype, array.shape, setting))
        return len(seen)

    arrays = [X, X.copy(), np.asfortranarray(X), X[::-1], X.astype(np.float32), X.T]
    calls = [lambda a=a: [shared_result(count, a, s) for s in (0, 1)] for a in arrays]
    first, second, third, *others = run_in_lockstep(calls, 9)
    assert first == second == third == [1, 2]
    assert others == [[3, 4], [5, 6], [7, 8]]
    # Nothing is remembered when they are over, or outside.
    assert run_in_lockstep(calls[:1], 9) == [[9, 10]]
    assert shared_result(count, X, 0) == 11
    assert shared_result(count, X, 0) == 12


def test_candidates_of_a_search_share_their_rows(X, monkeypatch):
    """Each fold is sorted and measured once, whatever the number of candidates."""
    measured = []
    original = fit_input.measure
    monkeypatch.setattr(
        fit_input, "measure", lambda *args: measured.append(args) or original(*args)
    )
    grid = {"beta": [0.5, 1.0, 2.0]}
    BatchedGridSearchCV(vae(), grid, cv=3, error_score="raise").fit(X)
    assert len(measured) == 3 + 1  # and the best, alone


def test_waiting_for_others_without_a_model(X, counted):
    """A call may wait for the others without a model of its own."""
    said = []

    def waiting():
        wait_for_others()
        said.append("waited")

    def fitting():
        vae().fit(X)
        said.append("fitted")

    run_in_lockstep([fitting, waiting], 2)
    assert said == ["fitted", "waited"]
    assert counted == [1]
    assert train([]) == []


def test_gathering_functions():
    """Each is called once for all tasks that wait for it, with their items in order."""
    calls = []

    def double(items):
        calls.append(("double", list(items)))
        return [2 * item for item in items]

    def square(items):
        calls.append(("square", list(items)))
        return (item**2 for item in items)

    def task(i):
        first = gather(square if i == 1 else double, [i] * (i + 1))
        return first, gather(double, range(i))

    results = run_in_lockstep([lambda i=i: task(i) for i in range(3)], 3)
    assert results == [([0], []), ([1, 1], [0]), ([4, 4, 4], [0, 2])]
    assert calls == [
        ("double", [0, 2, 2, 2]),
        ("square", [1, 1]),
        ("double", [0, 0, 1]),
    ]
    assert [task(i) for i in range(3)] == results


def test_an_error_of_a_gathering_function():
    cleaned = []

    def fail(items):
        raise ArithmeticError("of the function")

    def task(i):
        try:
            gather(fail, [i])
        finally:
            cleaned.append(i)

    with pytest.raises(ArithmeticError, match="of the function"):
        run_in_lockstep([lambda i=i: task(i) for i in range(3)], 3)
    assert cleaned == [0, 1, 2]


def test_fits_in_threads_of_a_users_own(X):
    """A call's own threads know nothing of the meeting: their fits are ordinary ones."""

    def call():
        models = [vae(), vae(beta=2)]
        threads = [threading.Thread(target=m.fit, args=(X,)) for m in models]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return [m.score(X) for m in models]

    expected = [vae().fit(X).score(X), vae(beta=2).fit(X).score(X)]
    for scores in run_in_lockstep([call, call], 2):
        assert_array_equal(scores, expected)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_error_ends_all_calls(error, when, X):
    """Those that sleep are ended where they sleep, and clean up; the error gets out."""
    cleaned, ended = [], []

    def call(i):
        try:
            if i == 1 and when == "before":
                raise error("of a call")
            vae().fit(X)
            if i == 1:
                raise error("of a call")
            ended.append(i)
        finally:
            cleaned.append(i)

    with pytest.raises(error, match="of a call"):
        run_in_lockstep([lambda i=i: call(i) for i in range(3)], 3)
    assert ended == ([] if when == "before" else [0])
    assert sorted(cleaned) == ([0, 1] if when == "before" else [0, 1, 2])


@pytest.mark.parametrize("cores", ["one core", "two_threads"])
def test_a_call_that_will_not_end(X, cores, request):
    """Given up, it cannot train any more, whatever it catches."""
    if cores == "two_threads":
        request.getfixturevalue(cores)
    caught = []

    def stubborn():
        for _ in range(3):
            try:
                vae().fit(X)
            except BaseException as error:
                caught.append(type(error).__name__)

    def failing():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_lockstep([stubborn, failing], 2)
    assert caught == ["_Cancelled"] * 3


def test_interrupt_while_a_call_is_awake(X):
    """Ctrl-C goes to the main thread, which waits; the calls end, and then it gets out."""
    ended = []

    def call(i):
        if i == 1:
            _thread.interrupt_main()
            time.sleep(0.2)  # still at work when the others are to be ended
        try:
            vae().fit(X)
        finally:
            ended.append(i)

    with pytest.raises(KeyboardInterrupt):
        run_in_lockstep([lambda i=i: call(i) for i in range(4)], 4)
    assert sorted(ended) == [0, 1]


class Interrupting(Callback):
    """A callback that does what Ctrl-C does, after five epochs."""

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch" and context.task_id == 4:
            _thread.interrupt_main()
        return False


def long_vae(max_iter=500, **parameters):
    return vae(max_iter=max_iter, tol=0, n_iter_no_change=max_iter, **parameters)


def fit_and_interrupt(models, interrupting, X):
    """Train models side by side until one of them interrupts; all can be used then."""
    interrupting.set_callbacks(Interrupting())
    with pytest.raises(KeyboardInterrupt):
        run_in_lockstep([lambda m=m: m.fit(X) for m in models], len(models))
    fitted = [m for m in models if hasattr(m, "module_")]
    assert fitted
    assert all(np.isfinite(m.score(X)) for m in fitted)
    return fitted


def test_interrupt_while_models_are_trained(X):
    """A model that is fitted is that of the last whole epoch, and the calls end."""
    models = [long_vae(beta=1 + i) for i in range(3)]
    fitted = fit_and_interrupt(models, models[1], X)
    assert {m.n_iter_ for m in fitted} <= {4, 5}


def test_signal_ends_a_search():
    """A real SIGINT, in a process of its own: it ends, at once, with no word of threads."""
    program = """
        import sys, time
        import numpy as np
        from sklearn.decomposition import PCA
        from skae.model_selection import BatchedGridSearchCV

        class Slow(PCA):
            def fit(self, X, y=None):
                print("ready", flush=True)
                time.sleep(0.3)
                return super().fit(X)

        X = np.random.default_rng(0).normal(size=(50, 5))
        try:
            BatchedGridSearchCV(Slow(), {"n_components": [1, 2, 3, 4]}).fit(X)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out.splitlines()[-1] == "interrupted"
    assert process.returncode == 0
    assert err == ""


# Tasks that wait for each other


def wait_with_lock(lock, seconds=0.0):
    with lock:
        time.sleep(seconds)
        wait_for_others()


def compute_for(seconds):
    start = time.thread_time()
    while time.thread_time() - start < seconds:
        pass


def test_a_lock_that_a_paused_task_holds():
    """The error names the cause and the remedy; the lock is free afterwards."""
    lock = threading.Lock()
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"holds a lock .* idle_timeout"):
        run_in_lockstep([lambda: wait_with_lock(lock)] * 3, 3, idle_timeout=0.5)
    assert 0.5 <= time.monotonic() - start < 20
    assert not lock.locked()


def test_a_lock_that_a_task_looks_at_again_and_again():
    """That is not computing."""
    lock = threading.Lock()

    def poll():
        while not lock.acquire(timeout=0.1):
            pass
        try:
            wait_for_others()
        finally:
            lock.release()

    with pytest.raises(RuntimeError, match="holds a lock"):
        run_in_lockstep([lambda: wait_with_lock(lock), poll], 2, idle_timeout=3)


def test_a_task_that_stays_blocked():
    """It is left alone, and ends as soon as it can."""
    lock, ended = threading.Lock(), []

    def keep():
        lock.acquire()
        wait_for_others()

    def blocked():
        with lock:
            ended.append("got it")
            wait_for_others()
            ended.append("went on")

    with pytest.raises(RuntimeError, match="holds a lock"):
        run_in_lockstep([keep, blocked], 2, idle_timeout=0.5)
    assert not ended
    (thread,) = (t for t in threading.enumerate() if t.name == "skae-task")
    lock.release()
    thread.join(timeout=60)
    assert ended == ["got it"]


def test_locks_of_two_tasks_that_end():
    """A task that needs another one's lock to clean up is given up, then gets it."""
    first, second = threading.Lock(), threading.Lock()

    def waits_while_it_ends():
        with first:
            try:
                wait_for_others()
            finally:
                with second:
                    pass

    tasks = [
        waits_while_it_ends,
        lambda: wait_with_lock(second),
        lambda: wait_with_lock(first),
    ]
    with pytest.raises(RuntimeError, match="holds a lock"):
        run_in_lockstep(tasks, 3, idle_timeout=0.5)
    assert not first.locked()
    assert not second.locked()


def test_an_interrupt_of_a_blocked_task():
    """It need not wait for the limit."""
    lock = threading.Lock()

    def blocked():
        _thread.interrupt_main()
        wait_with_lock(lock)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_in_lockstep([lambda: wait_with_lock(lock), blocked], 2, idle_timeout=60)
    assert time.monotonic() - start < 30
    assert not lock.locked()


def test_long_tasks_are_not_blocked():
    """Computing is no wait; nor is a wait that no paused task could be the reason for."""

    def compute():
        compute_for(1.5)
        wait_for_others()
        compute_for(1.5)
        return 1

    def sleep():
        time.sleep(1.5)
        return 2

    assert run_in_lockstep([sleep, sleep], 2, idle_timeout=0.5) == [2, 2]
    assert run_in_lockstep([sleep, compute, compute], 3, idle_timeout=0.5) == [2, 1, 1]


def test_a_wait_for_something_else_is_taken_for_one():
    """As is documented, with the limit that helps."""
    tasks = [wait_for_others, lambda: time.sleep(2)]
    with pytest.raises(RuntimeError, match="workers of its own"):
        run_in_lockstep(tasks, 2, idle_timeout=0.5)
    assert run_in_lockstep(tasks, 2) == [None, None]


def test_lockstep_within_lockstep(two_threads):
    """The thread of the outer task only waits, but those of the inner ones compute."""

    def inner():
        tasks = [lambda: compute_for(1.5), lambda: offload(lambda: time.sleep(1.5))]
        gather(lambda items: items, [1])
        return run_in_lockstep([*tasks, wait_for_others], 3, idle_timeout=0.5)

    expected = [None, [None] * 3]
    assert run_in_lockstep([wait_for_others, inner], 2, idle_timeout=0.5) == expected


def test_a_lock_between_two_levels():
    """An inner task that waits for a lock of a paused outer one is found too."""
    lock = threading.Lock()

    def inner():
        return run_in_lockstep([lambda: wait_with_lock(lock)], 1, idle_timeout=0.5)

    with pytest.raises(RuntimeError, match="holds a lock"):
        run_in_lockstep([lambda: wait_with_lock(lock), inner], 2, idle_timeout=0.5)
    # It was given up by the inner scheduler, before the outer one freed the lock.
    for thread in threading.enumerate():
        if thread.name == "skae-task":
            thread.join(timeout=60)


def test_without_clocks_of_threads(monkeypatch):
    """On other systems, the time of the process counts."""
    monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)
    lock = threading.Lock()
    with pytest.raises(RuntimeError, match="holds a lock"):
        run_in_lockstep([lambda: wait_with_lock(lock)] * 2, 2, idle_timeout=2)
    tasks = [wait_for_others, lambda: compute_for(1.5)]
    assert run_in_lockstep(tasks, 2, idle_timeout=0.5) == [None, None]


def test_interrupts_while_tasks_are_ended():
    """They end nevertheless, each of them, before the interrupt gets out."""
    ended = []

    def slow_end(i):
        try:
            wait_for_others()
        finally:
            time.sleep(0.3)
            ended.append(i)

    def interrupting():
        def interrupt():
            for _ in range(4):
                _thread.interrupt_main()
                time.sleep(0.2)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            wait_for_others()
        finally:
            thread.join()
            ended.append("last")

    tasks = [lambda: slow_end(0), lambda: slow_end(1), interrupting]
    with pytest.raises(KeyboardInterrupt):
        run_in_lockstep(tasks, 3)
    assert sorted(map(str, ended)) == ["0", "1", "last"]


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_interrupts_in_quick_succession():
    """Two or three SIGINTs, 4 ms apart, at any moment of a search: no thread is left."""
    program = """
        import os, random, signal, threading, time, warnings
        import numpy as np, torch
        from skae import VariationalAutoencoder
        from skae._utils import threads
        from skae.model_selection import BatchedGridSearchCV

        warnings.simplefilter("ignore")
        threads._WORTH_A_THREAD = 0
        X = np.random.default_rng(0).normal(size=(60, 3))
        grid = {"beta": [0.5, 1.0, 2.0, 4.0]}
        model = VariationalAutoencoder(max_iter=2, random_state=0)

        def search():
            BatchedGridSearchCV(model, grid, cv=2).fit(X)

        def interrupt(_, frame):
            # Only during the search, and not in the code of this program.
            while frame is not None:
                if frame.f_code is search.__code__:
                    raise KeyboardInterrupt
                frame = frame.f_back

        signal.signal(signal.SIGINT, interrupt)

        def press(delay, n):
            time.sleep(delay)
            for _ in range(n):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.004)

        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            search()
            start = time.perf_counter()
            search()
            duration = time.perf_counter() - start
            draw, n_interrupted, left = random.Random(0), 0, []
            for trial in range(15):
                args = draw.uniform(0, 0.9 * duration), draw.choice([2, 3])
                presser = threading.Thread(target=press, args=args)
                presser.start()
                try:
                    search()
                except KeyboardInterrupt:
                    n_interrupted += 1
                presser.join()
                deadline = time.monotonic() + 20
                while threading.active_count() > 1 and time.monotonic() < deadline:
                    time.sleep(0.01)
                left += [(trial, t.name) for t in threading.enumerate()[1:]]
                if left:
                    break
            print(n_interrupted, left, torch.get_num_threads())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [rest for _, rest in lines] == ["[] 1", "[] 2"], done.stdout
    assert min(int(n_interrupted) for n_interrupted, _ in lines) >= 5
    assert done.returncode == 0


@contextmanager
def second_interrupt(position):
    """Raise a second interrupt in this thread, some calls or returns after the first one.

    Python handles signals at the begin of calls, among other places. The block is given the
    list of the interrupts.
    """
    raised, n_events = [], 0

    def first(*_):
        raised.append("first")
        raise KeyboardInterrupt

    def trace(frame, event, arg):
        nonlocal n_events
        frame.f_trace_lines = False
        if (
            raised == ["first"]
            and frame.f_code is not first.__code__
            and event != "exception"
        ):
            n_events += 1
            if n_events > position:
                raised.append("second")
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    handler, tracer = signal.signal(signal.SIGINT, first), sys.gettrace()
    sys.settrace(trace)
    try:
        yield raised
    finally:
        sys.settrace(tracer)
        signal.signal(signal.SIGINT, handler)


def test_second_interrupt_at_any_point():
    """Wherever the second one arrives, all threads end, and the interrupt is raised.

    In a process of its own, because the trace function would replace that of a measurement
    of the coverage, for all tests that follow.
    """
    program = (
        f"from {__name__} import check_second_interrupts as check\n"
        "for work in ('pauses', 'trains', 'computes'):\n"
        "    check(work)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert done.returncode == 0, done.stderr


def check_second_interrupts(work):
    """Interrupt tasks twice, the second time at each of 40 moments."""
    torch.set_num_threads(2)
    interrupt = _thread.interrupt_main

    def task(i):
        if i == 2 and work == "pauses":
            interrupt()
            time.sleep(0.02)
        if work == "computes":
            offload(lambda: i == 2 and interrupt())
        gather(lambda items: interrupt() or items if work == "trains" else items, [i])
        wait_for_others()

    before = set(threading.enumerate())
    found = []
    for position in range(40):
        with pytest.raises(KeyboardInterrupt), second_interrupt(position) as raised:
            run_in_lockstep([lambda i=i: task(i) for i in range(4)], 4)
        found.append(tuple(raised))
        deadline = time.monotonic() + 10
        while set(threading.enumerate()) - before and time.monotonic() < deadline:
            time.sleep(0.001)
        left = [thread.name for thread in set(threading.enumerate()) - before]
        assert not left, (work, position)
    assert found.count(("first", "second")) >= 10, (work, found)


# Several starts


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, VariationalAutoencoder])
def test_several_starts_are_trained_together_and_the_best_is_kept(estimator, X, counted):
    """The first is what it would be alone, more of them begin with the fewer."""
    parameters = {"max_iter": 6, "init": "random", "random_state": 2}
    parameters["precision"] = "float64"
    models = [estimator(n_init=n, **parameters).fit(X) for n in (1, 2, 4, 8)]
    assert counted == [1, 2, 4, 8]
    # With beta = 1 the training objective is minus the score, but for other draws.
    scores = [model.score(X) for model in models]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.01


def test_several_starts_with_early_stopping(X):
    """They share the validation part, and the best score on it decides."""
    train, validation = X[:80], X[80:]
    models = [
        vae(n_init=n, init="random", early_stopping=True, max_iter=12).fit(
            train, X_val=validation
        )
        for n in (1, 2, 4, 8)
    ]
    scores = [m.history_["validation_score"].max() for m in models]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.01


def test_starts_are_reproducible(X):
    """From a number, and from a generator in the same state."""
    models = [
        vae(n_init=3, init="random", random_state=state).fit(X)
        for state in (5, 5, np.random.RandomState(5))
    ]
    assert len({m.score(X) for m in models}) == 1
    assert models[0].score(X) != vae(n_init=3, init="random", random_state=6).fit(X).score(
        X
    )


def test_later_starts_are_random(X):
    """However the first one starts: from PCA, the others seldom get as far in one epoch."""
    parameters = {"max_iter": 1, "hidden_layer_sizes": ()}
    alone, several = (vae(n_init=n, **parameters).fit(X) for n in (1, 5))
    assert alone.score(X) == pytest.approx(several.score(X), abs=1e-9)


def test_verbose_tells_of_the_first_start(X, capsys):
    vae(n_init=3, verbose=2).fit(X)
    assert capsys.readouterr().out.count("\nepoch ") == 4


@pytest.mark.filterwarnings(
    "ignore:Training diverged:sklearn.exceptions.ConvergenceWarning"
)
def test_several_starts_that_diverge(X):
    """Even then the model is finite, and no worse than the first start."""
    parameters = {"learning_rate_init": 1e37, "variance_mode": "learned"}
    one, several = (vae(n_init=n, **parameters).fit(X) for n in (1, 3))
    assert np.isfinite(several.score(X))
    assert several.score(X) >= one.score(X) - 1e-9


def test_continuing_takes_one_start(X, counted):
    model = vae(n_init=3, warm_start=True).fit(X)
    model.fit(X)
    assert counted == [3, 1]


# What is computed at the same time


@pytest.fixture
def two_threads():
    """Two threads of torch's, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_alone_it_is_a_call():
    assert offload(threading.get_ident) == threading.get_ident()


def test_two_compute_at_the_same_time(two_threads):
    """Each of them waits for the other; torch has one thread in each."""
    barrier = threading.Barrier(2)
    awake = []

    def work(i):
        barrier.wait(timeout=60)
        return i, torch.get_num_threads()

    def call(i):
        awake.append(i)
        result = offload(lambda: work(i))
        awake.append(i)
        return result

    results = run_in_lockstep([lambda i=i: call(i) for i in range(4)], 4)
    assert results == [(i, 1) for i in range(4)]
    assert awake == 2 * [0, 1, 2, 3]


def test_one_thread_computes_in_order():
    done = []
    results = run_in_lockstep(
        [lambda i=i: offload(lambda: done.append(i)) for i in range(3)], 3
    )
    assert results == 3 * [None]
    assert done == [0, 1, 2]


def test_an_error_is_raised_where_it_was_asked_for(two_threads):
    def call(i):
        try:
            return offload(lambda: 1 // i)
        except ZeroDivisionError:
            return "caught"

    assert run_in_lockstep([lambda i=i: call(i) for i in range(3)], 3) == ["caught", 1, 0]
    with pytest.raises(ZeroDivisionError):
        run_in_lockstep([lambda i=i: offload(lambda: 1 // i) for i in range(3)], 3)


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_an_interrupt_ends_what_computes(two_threads):
    def call(work):
        offload(work)
        pytest.fail("went on after the interrupt")

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_in_lockstep([lambda: call(interrupt), lambda: call(lambda: time.sleep(0.2))], 2)


def test_what_is_computed_begins_at_once(two_threads):
    """While the calls after it are awake."""
    begun = threading.Event()

    def waiting():
        return begun.wait(10)

    assert run_in_lockstep([lambda: offload(begun.set), waiting], 2) == [None, True]


def test_each_call_gets_its_own_error(two_threads):
    def call(i):
        def divide():
            return 1 / i

        try:
            return offload(divide)
        except ZeroDivisionError:
            return "divided"

    assert run_in_lockstep([lambda i=i: call(i) for i in range(3)], 3) == [
        "divided",
        1,
        0.5,
    ]


def test_starts_and_scores_meet(X, two_threads, monkeypatch):
    """And have the results that they have alone."""
    together = []
    original = lockstep.wait_for

    def wait_for(futures, *args):
        together.append(len(futures))
        return original(futures, *args)

    monkeypatch.setattr(lockstep, "wait_for", wait_for)
    scores = run_in_lockstep(
        [lambda k=k: vae(n_components=k).fit(X).score(X) for k in (1, 2)], 2
    )
    assert together == [2, 2]
    assert_allclose(
        scores, [vae(n_components=k).fit(X).score(X) for k in (1, 2)], rtol=1e-9
    )


# Training on all cores


@pytest.fixture(params=["shares", "parts"])
def on_all_cores(request, two_threads, monkeypatch):
    """Two threads train, whatever the size of the models."""
    monkeypatch.setattr(threads_module, "_WORTH_A_THREAD", 0)
    if request.param == "parts":
        monkeypatch.setattr(trainer, "_CACHE_BYTES", 0)
    return request.param


def test_each_core_trains_a_share(X, on_all_cores, monkeypatch):
    """With the results of each model alone, and one thread of torch's for each share."""
    trained = []
    original = trainer.train_side_by_side

    def train_side_by_side(jobs, interrupted):
        trained.append((len(jobs), threading.get_ident(), torch.get_num_threads()))
        return original(jobs, interrupted)

    monkeypatch.setattr(trainer, "train_side_by_side", train_side_by_side)
    calls = [lambda b=b: vae(beta=b).fit(X).score(X) for b in range(1, 6)]
    scores = run_in_lockstep(calls, 5)
    sizes, names, n_threads = zip(*trained, strict=True)
    assert sorted(sizes) == ([2, 3] if on_all_cores == "shares" else 5 * [1])
    assert threading.get_ident() not in names
    assert set(n_threads) == {1}
    assert_allclose(scores, [call() for call in calls], rtol=1e-9)


class Jealous(Callback):
    """A callback that notices another one of its kind at work."""

    inside = 0

    def on_fit_task_end(self, estimator, context):
        Jealous.inside += 1
        time.sleep(0.002)
        alone = Jealous.inside == 1
        Jealous.inside -= 1
        if not alone:
            raise AssertionError("two at the same time")
        return False


def test_callbacks_are_called_one_at_a_time(X, on_all_cores):
    calls = [lambda b=b: vae(beta=b).set_callbacks(Jealous()).fit(X) for b in (1, 2, 3)]
    assert [model.n_iter_ for model in run_in_lockstep(calls, 3)] == [4, 4, 4]


class Raising(Callback):
    """A callback that fails."""

    def on_fit_task_end(self, estimator, context):
        raise ArithmeticError("of a callback")


def test_an_error_on_one_core_is_no_others(X, on_all_cores):
    def call(i):
        model = vae(beta=1 + i)
        if i == 1:
            model.set_callbacks(Raising())
        try:
            return model.fit(X).n_iter_
        except ArithmeticError:
            return "failed"

    calls = [lambda i=i: call(i) for i in range(4)]
    assert run_in_lockstep(calls, 4) == [4, "failed", 4, 4]


def test_interrupt_of_all_cores(X, on_all_cores):
    """Each thread ends with a whole epoch, and those that have not begun do not begin."""
    models = [long_vae(3000, beta=1 + i) for i in range(4)]
    fitted = fit_and_interrupt(models, models[0], X)
    assert all(m.n_iter_ < 3000 for m in fitted)


def test_an_interrupt_in_the_last_epoch_is_raised(X, on_all_cores):
    """Also if the calls in other threads all have a result."""
    models = [vae(beta=1 + i, max_iter=1) for i in range(3)]
    models[0].set_callbacks(InterruptingAtEnd())
    with pytest.raises(KeyboardInterrupt):
        run_in_lockstep([lambda m=m: m.fit(X) for m in models], len(models))


class InterruptingAtEnd(Callback):
    """A callback that does what Ctrl-C does, in the last epoch."""

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            _thread.interrupt_main()
            time.sleep(0.3)
        return False


def test_an_interrupt_ends_other_shapes_too(X, counted):
    models = [long_vae(n_components=k) for k in (1, 2)]
    (fitted,) = fit_and_interrupt(models, models[0], X)
    assert counted == [1, 1]
    assert fitted.n_iter_ in {4, 5}
