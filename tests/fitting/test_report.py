"""The lines of `verbose`, with a clock that the tests set, and those of whole fits."""

import itertools
import re

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._fitting import report
from skae._fitting.lockstep import run_in_lockstep
from skae._fitting.report import ProgressReport
from tests.helpers import Recording, every_estimator

VALUES = {"objective": 3.5, "log_likelihood": -2.25, "kl": 1.25, "beta": 1.0}


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose last number is the time in seconds."""
    times = [0.0]
    monkeypatch.setattr(report, "monotonic", lambda: times[-1])
    return times


def numbers(out):
    """Return the numbers of the epochs that the lines report, in order."""
    return [int(n) for n in re.findall(r"epoch +(\d+) of [\d,]+:", out)]


@pytest.mark.parametrize(
    ("verbose", "seconds", "expected"),
    [
        (0, 10.0, []),
        (1, 0.0, [1, 10]),
        (1, 0.5, [1, 5, 9, 10]),
        (1, 3.0, list(range(1, 11))),
        (2, 0.0, list(range(1, 11))),
        (True, 0.0, [1, 10]),
    ],
)
def test_when_lines_are_printed(verbose, seconds, expected, clock, capsys):
    """`seconds` is how long each epoch takes."""
    lines = ProgressReport(verbose, max_iter=10)
    for n in range(1, 11):
        clock.append(clock[-1] + seconds)
        lines.add(n, VALUES, is_last=n == 10)
    lines.end()
    assert numbers(capsys.readouterr().out) == expected


def test_end_prints_the_last_epoch_once(clock, capsys):
    lines = ProgressReport(1, max_iter=10)
    for n in (1, 2, 3):
        lines.add(n, VALUES, is_last=False)
    lines.end()
    lines.end()
    assert numbers(capsys.readouterr().out) == [1, 3]


def test_huge_numbers_stay_short(clock, capsys):
    ProgressReport(1, max_iter=1).add(1, {"objective": 1e30}, is_last=True)
    assert "objective 1.0000e+30," in capsys.readouterr().out


def test_the_time_that_is_left(clock, capsys):
    """Of the epochs after the first, which may take longer; below a second, of no use."""
    lines = ProgressReport(2, max_iter=400)
    for n, n_left in [(1, 399), (2, 398), (3, 397), (4, 5), (5, 0)]:
        clock.append(clock[-1] + (60.0 if n == 1 else 0.5))
        lines.add(n, VALUES, is_last=n == 5, n_left=n_left)
    out = capsys.readouterr().out.splitlines()
    left = [line.partition(" s, at most ")[2] for line in out]
    assert left == ["", "3 min left", "3 min left", "2 s left", ""]


def test_why_a_training_ends(X, clock, capsys):
    """Nothing is said of the planned end."""

    def reason(**parameters):
        callbacks = parameters.pop("callbacks", ())
        model = GaussianAutoencoder(random_state=0, verbose=1, **parameters)
        model.set_callbacks(*callbacks).fit(X)
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1].startswith("kept: ")
        assert sum(line.startswith("stopped: ") for line in lines) <= 1
        return lines[-2].partition("stopped: ")[2]

    early = {"max_iter": 100, "tol": 10.0, "n_iter_no_change": 2}
    plateau = "by tol=10 in 2 epochs"
    assert reason(max_iter=3) == ""
    assert reason(**early) == f"no improvement {plateau}"
    assert reason(**early, learning_rate="constant") == f"no improvement {plateau}"
    assert reason(**{**early, "n_iter_no_change": 1}).endswith("in 1 epoch")
    validated = reason(**early, early_stopping=True)
    assert validated == f"no improvement of the validation score {plateau}"
    assert reason(callbacks=[Recording(stop_after=3)]) == "by a callback"


@every_estimator
def test_the_lines_are_the_history(estimator, X, clock, capsys):
    model = estimator(max_iter=3, random_state=0, verbose=2)
    model.fit(X[:100], X_val=X[100:])
    head, *lines = capsys.readouterr().out.splitlines()
    n_weights = sum(p.numel() for p in model.module_.parameters())
    assert head == (
        f"{estimator.__name__}: 6 features, 2 components, {n_weights:,} weights; "
        "3 epochs of 100 samples, scored on 20 more; cpu, float32; "
        "values in nats per sample"
    )
    names = {
        "objective": "objective",
        "log-likelihood": "log_likelihood",
        "KL": "kl",
        "validation score": "validation_score",
    }
    if estimator is not VariationalAutoencoder:
        del names["KL"]
    start, *lines, kept = lines
    assert re.fullmatch(r"start: objective \d+\.\d{4}", start)
    best = f"the model of epoch {model.best_iter_}" if model.best_iter_ else "the start"
    found = re.fullmatch(rf"kept: {best}, objective (-?\d+\.\d{{4}}), 0\.0 s", kept)
    assert found is not None
    assert len(lines) == 3
    for i, line in enumerate(lines):
        begin, values = line.split(": ")
        assert begin == f"epoch {i + 1} of 3"
        *parts, seconds = values.split(", ")
        assert seconds == "0.0 s"
        told = dict(part.rsplit(" ", 1) for part in parts)
        assert list(told) == list(names)
        for label, name in names.items():
            expected = model.history_[name][i]
            assert float(told[label]) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("learning_rate_init", [1e-3, 10.0])
def test_the_last_objective_can_be_compared_with_the_first(learning_rate_init, X, capsys):
    """Both are of a whole pass with the weights as they are, so the kept one is lower."""
    model = VariationalAutoencoder(
        max_iter=8, random_state=0, verbose=1, learning_rate_init=learning_rate_init
    ).fit(X)
    out = capsys.readouterr().out
    start, kept = map(
        float, re.findall(r"^(?:start|kept): .*objective (-?[\d.]+)", out, re.M)
    )
    if model.best_iter_:
        assert kept < start
        assert kept == pytest.approx(-model.score(X), abs=0.05)
    else:
        assert kept == start
    assert bool(model.best_iter_) == (learning_rate_init < 1)


def test_nothing_is_printed_by_default(X, capsys):
    VariationalAutoencoder(max_iter=3, random_state=0).fit(X)
    assert capsys.readouterr() == ("", "")


def test_printing_does_not_change_the_fit(X):
    curves = [
        VariationalAutoencoder(max_iter=3, random_state=0, verbose=v).fit(X).loss_curve_
        for v in (0, 1, 2)
    ]
    assert curves[0] == curves[1] == curves[2]


def test_a_warm_start_continues_to_count(X, clock, capsys):
    model = GaussianAutoencoder(max_iter=10, warm_start=True, random_state=0, verbose=1)
    model.fit(X)
    model.set_params(max_iter=5).fit(X)
    out = capsys.readouterr().out
    assert numbers(out) == [1, 10, 11, 15]
    assert "epoch 11 of 15:" in out
    assert "; epochs 11 to 15 of 120 samples;" in out


def test_the_last_line_of_a_fit_that_ends_early(X, clock, capsys):
    """Whatever ends a fit: a callback, an interrupt or a plateau."""
    model = GaussianAutoencoder(max_iter=100, random_state=0, verbose=1)
    model.set_callbacks(Recording(stop_after=3)).fit(X)
    assert numbers(capsys.readouterr().out) == [1, 3]
    model.set_callbacks(Recording(raise_at_begin=(5, KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert numbers(capsys.readouterr().out) == [1, 4]
    model.set_callbacks().set_params(tol=10.0, n_iter_no_change=2).fit(X)
    assert model.n_iter_ < 100
    assert numbers(capsys.readouterr().out) == [1, model.n_iter_]


@pytest.mark.parametrize("has_checkpoint", [False, True])
@pytest.mark.parametrize("verbose", [0, 1])
def test_an_interrupt_says_how_to_go_on(verbose, has_checkpoint, X, capsys, tmp_path):
    """The exception has a message, and with verbose a line says the same."""
    checkpoint = tmp_path / "fit.npz" if has_checkpoint else None
    model = GaussianAutoencoder(
        max_iter=12, random_state=0, verbose=verbose, checkpoint=checkpoint
    )
    model.set_callbacks(Recording(raise_at_begin=(6, KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt) as raised:
        model.fit(X)
    assert model.n_iter_ == 5
    how = "to go on as planned after an interrupt, set checkpoint=..."
    if has_checkpoint:
        how = "the same call of fit goes on from its checkpoint"
    message = f"interrupted after epoch 5 of 12; {how}"
    assert str(raised.value) == message
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:-1] == [message] * verbose
    # A warm start counts the epochs before; what ends as planned has no such line.
    model.set_params(warm_start=True, checkpoint=None).set_callbacks().fit(X)
    assert "interrupted" not in capsys.readouterr().out
    model.set_callbacks(Recording(raise_at_begin=(3, KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt, match=r"after epoch 19 of 29; to go on"):
        model.fit(X)


def test_an_interrupt_says_that_the_start_is_kept(X):
    """A large rate makes each epoch worse than the start."""
    model = GaussianAutoencoder(max_iter=12, random_state=0, learning_rate_init=10.0)
    model.set_callbacks(Recording(raise_at_begin=(3, KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt, match=r"\(kept: the start\)$"):
        model.fit(X)
    assert (model.best_iter_, model.n_iter_) == (0, 2)


def test_what_is_trained_comes_before_the_first_epoch(X, clock, capsys):
    """The first line is there before a long start or a long epoch has ended."""
    before = []

    class Look(Recording):
        def on_fit_task_begin(self, estimator, context, *, X=None):
            if context.parent is not None:
                before.append(capsys.readouterr().out)

    model = VariationalAutoencoder(max_iter=2, random_state=0, verbose=1)
    model.set_callbacks(Look()).fit(X)
    assert before[0].count("\n") == 2
    assert "2 epochs of 120 samples" in before[0]


def test_lines_of_a_search(X, clock, capsys):
    """Each line names its fit; that of the refit has no number."""
    model = VariationalAutoencoder(random_state=0, verbose=1)
    with joblib.parallel_config("skae"):
        GridSearchCV(model, {"max_iter": [2, 9]}, cv=2).fit(X)
    lines = capsys.readouterr().out.splitlines()
    of_fits = [re.match(r"\[fit (\d) of 4\] ", line) for line in lines]
    found = [(int(m[1]), *numbers(m.string)) for m in of_fits if m]
    ends = zip(range(1, 5), [2, 2, 9, 9], strict=True)
    # Without a number: what is trained, the start, and which epoch is kept.
    expected = [((i,), (i,), (i,), (i, 1), (i, last)) for i, last in ends]
    assert sorted(found) == sorted(itertools.chain.from_iterable(expected))
    assert [m is None for m in of_fits] == [False] * 20 + [True] * 5


def test_fits_of_later_parts_have_their_own_numbers(X, clock, capsys):
    """Fits of which only a few are under way at the same time."""
    model = GaussianAutoencoder(max_iter=1, random_state=0, verbose=1)
    run_in_lockstep([lambda: model.fit(X)] * 3, n_at_once=1)
    found = re.findall(r"\[fit (\d of \d)\] epoch", capsys.readouterr().out)
    assert found == ["1 of 3", "2 of 3", "3 of 3"]


@pytest.mark.parametrize("precision", ["float32", "float64", "bf16"])
def test_precision_is_the_one_of_the_fit(precision, X, capsys):
    model = GaussianAutoencoder(max_iter=1, random_state=0, precision=precision, verbose=1)
    model.fit(X, sample_weight=np.full(len(X), 2.0))
    assert f" 1 epoch of 240 samples; cpu, {precision};" in capsys.readouterr().out
