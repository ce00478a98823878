"""Tests of checkpoints: a fit that goes on equals one without a break, to the bit."""

import errno
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from torch import nn

import skae
from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._fitting import checkpoint as checkpoint_module
from skae._fitting.lockstep import run_in_lockstep
from skae._utils import files
from skae._utils.errors import InvalidFileError
from skae.model_selection import BatchedGridSearchCV
from skae.networks import MLP
from tests.callbacks import Callback
from tests.helpers import (
    Recording,
    assert_same_answers,
    ignore_divergence,
    ignore_floor,
    weights,
)
from tests.surroundings import nothing_global_changes

N_EPOCHS = 12


class StopAt(Callback):
    """A callback that raises at the begin of an epoch, counted from 1 in each fit."""

    def __init__(self, epoch, error=KeyboardInterrupt):
        self.epoch, self.error = epoch, error

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch" and context.task_id + 1 == self.epoch:
            raise self.error


def assert_same_fit(one, other, X):
    """Assert that two fits have equal weights, histories and answers."""
    assert weights(one) == weights(other)
    assert one.history_.keys() == other.history_.keys()
    for name, values in one.history_.items():
        assert values.dtype == other.history_[name].dtype
        np.testing.assert_array_equal(values, other.history_[name], err_msg=name)
    assert (one.n_iter_, one.best_iter_) == (other.n_iter_, other.best_iter_)
    assert_same_answers(one, other, X)


class Noisy(BaseEstimator):
    """A network that draws from all global generators, and has running means."""

    def encoder(self, n_features, n_outputs):
        return nn.Sequential(
            nn.BatchNorm1d(n_features), _Jitter(), nn.Linear(n_features, n_outputs)
        )

    def decoder(self, n_components, n_outputs):
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(n_components, n_outputs))


class _Jitter(nn.Module):
    """A layer that adds draws of numpy and Python in training."""

    def forward(self, x):
        if self.training:
            noise = np.random.normal(size=x.shape)  # noqa: NPY002  (of a user)
            x = x + 0.01 * torch.from_numpy(noise).to(x) + 0.01 * random.gauss(0, 1)
        return x


FITS = {
    "defaults": {},
    "n_init": {"n_init": 3},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "tol": 1.0},
    "plateau": {"n_iter_no_change": 2, "tol": 100.0},
    "validation": {"early_stopping": True, "n_iter_no_change": 50},
    "learned": {"variance_mode": "learned", "covariance_type": "diag", "batch_size": 16},
    "predicted": {"variance_mode": "predicted"},
    "float64": {"precision": "float64"},
    "bf16": {"precision": "bf16"},
    "random start": {"init": "random", "shuffle": False},
    "constant": {"learning_rate": "constant"},
    "balance": {"gradient_balance": True},
    "schedule": {"kl_schedule": "cyclical"},
    "noisy network": {"network": Noisy()},
    "wide": {"network": MLP((5, 7), layer_norm=True, dropout=0.1)},
    "prior": {"prior": "mixture", "n_mc_samples": 2},
    "student": {"likelihood": "student_t"},
    "counts": {"likelihood": "negative_binomial"},
    "random state": {"random_state": np.random.RandomState(3)},
}


def make(estimator=VariationalAutoencoder, **parameters):
    """Make an estimator; the same parameters make the same fit."""
    return clone(estimator(**{"max_iter": N_EPOCHS, "random_state": 0} | parameters))


def interrupted(model, path, X, epoch=6, **parameters):
    """Fit until an epoch, with a checkpoint."""
    model = clone(model).set_params(checkpoint=path, checkpoint_interval=1, **parameters)
    with pytest.raises(KeyboardInterrupt):
        model.set_callbacks(StopAt(epoch)).fit(X)
    return model


# The likelihood has no part in what is kept: both deterministic estimators train alike.
@ignore_floor
@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (estimator, name)
        for estimator in (GaussianAutoencoder, VariationalAutoencoder)
        for name, parameters in FITS.items()
        if parameters.keys() <= estimator().get_params().keys()
    ],
)
def test_a_fit_goes_on_to_the_bit(estimator, name, X, tmp_path):
    """For each way of training: an interrupted fit goes on, and a finished one returns."""
    counts = "likelihood" in FITS[name] and FITS[name]["likelihood"] != "student_t"
    X = np.abs(X).round() if counts else X
    model = make(estimator, **FITS[name])
    path = tmp_path / "fit.npz"
    stopped = interrupted(model, path, X, 3 if name in {"early stopping", "plateau"} else 6)
    assert path.exists()
    assert stopped.n_iter_ >= 2
    expected = clone(model).fit(X)
    assert stopped.n_iter_ < expected.n_iter_
    resumed = clone(model).set_params(checkpoint=path).fit(X)
    assert_same_fit(resumed, expected, X)
    # The file now has the whole fit.
    again = clone(model).set_params(checkpoint=str(path))
    assert_same_fit(again.set_callbacks(StopAt(1, ZeroDivisionError)).fit(X), expected, X)


def test_callbacks_count_from_the_first_epoch(X, tmp_path, capsys, monkeypatch):
    """They see the epochs that are trained now, by their numbers; a bar ends at 100%."""
    bar = pytest.importorskip("sklearn.callback").ProgressBar()
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    recording = Recording()
    model = make().set_params(checkpoint=path).set_callbacks(recording, bar)
    model.fit(X)
    assert recording.begun == list(range(5, N_EPOCHS))
    assert re.findall(r"\b\d+%", capsys.readouterr().out) == ["100%"]
    assert_same_fit(model, make().fit(X), X)


def test_holes_and_weights_go_on(X, tmp_path):
    """Data with missing entries, sample weights and validation data."""
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    data = {"sample_weight": np.arange(len(X)) % 3 + 0.5, "X_val": X[:30]}
    model = make(covariance_type="diag")
    path = tmp_path / "fit.npz"
    first = clone(model).set_params(checkpoint=path, checkpoint_interval=1)
    with pytest.raises(KeyboardInterrupt):
        first.set_callbacks(StopAt(5)).fit(X, **data)
    resumed = clone(model).set_params(checkpoint=path).fit(X, **data)
    assert_same_fit(resumed, clone(model).fit(X, **data), X)


def test_a_seed_of_the_system_goes_on(X, tmp_path):
    """With random_state=None, the draws of the first call go on, its split among them."""
    path = tmp_path / "fit.npz"
    model = make(random_state=None, early_stopping=True, n_iter_no_change=50)
    first = interrupted(model, path, X)
    resumed = clone(first).set_callbacks().fit(X)
    np.testing.assert_array_equal(
        resumed.history_["validation_score"][: first.n_iter_],
        first.history_["validation_score"],
    )
    assert resumed.n_iter_ == N_EPOCHS
    assert_same_fit(clone(first).set_callbacks().fit(X), resumed, X)


def test_a_generator_of_the_caller_is_advanced_as_without_a_break(X, tmp_path):
    """What a script draws after a fit is the same."""
    path = tmp_path / "fit.npz"
    interrupted(make(random_state=np.random.RandomState(5)), path, X)
    states = []
    for checkpoint in (path, None):
        random_state = np.random.RandomState(5)
        model = VariationalAutoencoder(
            max_iter=N_EPOCHS, random_state=random_state, checkpoint=checkpoint
        )
        model.fit(X)
        states.append(random_state.randint(1000, size=5).tolist())
    assert states[0] == states[1]


def test_a_search_needs_a_folder(X, tmp_path):
    """Before any training, because its fits would write over each other's file."""
    path = tmp_path / "fit.npz"
    model = make(checkpoint=path, checkpoint_interval=1)
    search = BatchedGridSearchCV(model, {"beta": [1, 2]}, cv=2, error_score="raise")
    with pytest.raises(ValueError, match=r"Several fits have the checkpoint .* a folder"):
        search.fit(X)
    assert not path.exists()


@pytest.mark.parametrize("search", [GridSearchCV, BatchedGridSearchCV])
def test_searches_have_a_file_for_each_fit(search, X, tmp_path):
    """A search that was ended goes on with all its fits, the refit among them."""
    grid = {"beta": [0.5, 1, 2], "n_init": [1, 2]}
    model = make(max_iter=8)
    expected = search(model, grid, cv=2).fit(X)
    folder = f"{tmp_path / 'search'}/"
    own = clone(model).set_params(checkpoint=folder, checkpoint_interval=1)
    with pytest.raises(KeyboardInterrupt):
        search(clone(own).set_callbacks(StopAt(5)), grid, cv=2).fit(X)
    n_files = len(os.listdir(folder))
    assert n_files == (12 if search is BatchedGridSearchCV else 1)
    trained = []

    class Count(Callback):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch":
                trained.append(context.task_id)

    found = search(clone(own).set_callbacks(Count()), grid, cv=2).fit(X)
    assert len(os.listdir(folder)) == 13
    assert sorted(os.path.splitext(name)[1] for name in os.listdir(folder)) == 13 * [".npz"]
    # Four epochs of the fits that have a file were not trained again.
    assert len(trained) == 13 * 8 - n_files * 4
    scores = "mean_test_score"
    np.testing.assert_array_equal(found.cv_results_[scores], expected.cv_results_[scores])
    assert_same_fit(found.best_estimator_, expected.best_estimator_, X)


def test_models_side_by_side_go_on_from_different_epochs(X, tmp_path):
    """One after 3 epochs, one after 7, one that is over and one that has no file."""
    models = [make(beta=beta) for beta in (0.5, 1, 2, 3)]
    paths = [tmp_path / f"{i}.npz" for i in range(4)]
    interrupted(models[0], paths[0], X, epoch=4)
    interrupted(models[1], paths[1], X, epoch=8)
    clone(models[2]).set_params(checkpoint=paths[2]).fit(X)
    own = [clone(m).set_params(checkpoint=p) for m, p in zip(models, paths, strict=True)]
    run_in_lockstep([partial(model.fit, X) for model in own], 4)
    for model, expected in zip(own, models, strict=True):
        assert_same_fit(model, clone(expected).fit(X), X)


def test_starts_go_on_from_different_epochs(X, tmp_path):
    """A start in training, one that has not begun, and one that is over."""
    path = tmp_path / "fit.npz"
    interrupted(make(n_init=3), path, X)
    arrays, meta = files.unpack(path.read_bytes())
    over = tmp_path / "over.npz"
    make(n_init=3).set_params(checkpoint=over).fit(X)
    last, last_meta = files.unpack(over.read_bytes())
    kept = {k: v for k, v in arrays.items() if not k.startswith(("1/", "2/"))}
    kept |= {k: v for k, v in last.items() if k.startswith("2/")}
    meta["starts"] = {"0": meta["starts"]["0"], "2": last_meta["starts"]["2"]}
    path.write_bytes(files.pack(kept, meta))
    resumed = make(n_init=3).set_params(checkpoint=path).fit(X)
    assert_same_fit(resumed, make(n_init=3).fit(X), X)


@ignore_divergence
def test_a_divergence_goes_on(X, tmp_path):
    """The halved rate and the number of tries are part of the state."""
    model = make(learning_rate_init=1e25, max_iter=4)
    expected = clone(model).fit(X)
    path = tmp_path / "fit.npz"
    stopped = interrupted(model, path, X, epoch=3)
    assert stopped.n_iter_ == 0
    _, meta = files.unpack(path.read_bytes())
    state = meta["starts"]["0"]
    assert (state["epoch"], state["n_divergences"]) == (2, 2)
    assert state["schedule"]["learning_rate"] == 1e25 / 4
    assert_same_fit(clone(model).set_params(checkpoint=path).fit(X), expected, X)


# What may differ, and what may not


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"beta": 2.5}, "beta is 1 there and 2.5 here"),
        ({"likelihood": "laplace"}, "likelihood is 'gaussian' there"),
        ({"max_iter": 20}, "max_iter is 12 there and 20 here"),
        ({"random_state": 1}, "random_state is 0 there and 1 here"),
        ({"hidden_layer_sizes": (3,)}, r"hidden_layer_sizes is \[64\] there and \[3\]"),
        ({"n_init": 2}, "n_init is 1 there and 2 here"),
        ({"network": MLP((3,))}, r"network is 'mlp' there and MLP\("),
    ],
)
def test_other_parameters_are_refused(changed, name, X, tmp_path):
    """The message names what differs, and the file is as before."""
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    before = path.read_bytes()
    other = make().set_params(checkpoint=path, **changed)
    with pytest.raises(ValueError, match=f"is of another fit: {name}"):
        other.fit(X)
    assert path.read_bytes() == before
    assert not hasattr(other, "module_")


def test_other_data_are_refused(X, tmp_path):
    """Rows, weights, validation data, missing entries, the estimator."""
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    other = X.copy()
    other[3, 2] = np.nextafter(other[3, 2], 9)
    model = make().set_params(checkpoint=path)
    for data in (X[:-1], X.astype(np.float32)):
        with pytest.raises(ValueError, match=r"fit: X is float64 \(120, 6\) there and fl"):
            model.fit(data)
    for data in (other, np.where(X > 2, np.nan, X)):
        with pytest.raises(ValueError, match="another fit: X has other values"):
            model.fit(data)
    with pytest.raises(ValueError, match="another fit: sample_weight is None there and"):
        model.fit(X, sample_weight=np.ones(len(X)))
    with pytest.raises(ValueError, match="another fit: X_val is None there and"):
        model.fit(X, X_val=X)
    with pytest.raises(ValueError, match=r"estimator is .*Variational.* there"):
        make(GaussianAutoencoder).set_params(checkpoint=path).fit(X)


def test_how_loud_and_how_often_may_differ(X, tmp_path, capsys):
    """They change no result; the epoch from which a fit goes on is printed."""
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    model = make(verbose=2, warm_start=True)
    model.set_params(checkpoint=path, checkpoint_interval=3.5).fit(X)
    assert_same_fit(model, make().fit(X), X)
    out = capsys.readouterr().out
    assert "resumed: after epoch 5" in out
    assert "epoch  6 of 12" in out
    assert "epoch  5 of 12" not in out


def test_more_epochs_at_a_constant_rate(X, tmp_path):
    """They are those of one longer fit; fewer than were done are refused."""
    path = tmp_path / "fit.npz"
    model = make(learning_rate="constant", n_iter_no_change=50)
    clone(model).set_params(checkpoint=path).fit(X)
    longer = clone(model).set_params(max_iter=20)
    resumed = clone(longer).set_params(checkpoint=path).fit(X)
    assert resumed.n_iter_ == 20
    assert_same_fit(resumed, clone(longer).fit(X), X)
    fewer = clone(model).set_params(max_iter=15, checkpoint=path)
    with pytest.raises(ValueError, match="has 20 epochs, which is more than max_iter=15"):
        fewer.fit(X)
    scheduled = make(learning_rate="constant", kl_schedule="linear")
    path = tmp_path / "scheduled.npz"
    clone(scheduled).set_params(checkpoint=path).fit(X)
    with pytest.raises(ValueError, match="max_iter is 12 there and 20 here"):
        clone(scheduled).set_params(checkpoint=path, max_iter=20).fit(X)


def test_an_older_version_is_refused(X, tmp_path, monkeypatch):
    """The file stays, so that the version that wrote it can go on."""
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    before = path.read_bytes()
    monkeypatch.setattr(skae, "__version__", "99.0")
    with pytest.raises(InvalidFileError, match=r"written by skae .*, and this is 99.0"):
        make().set_params(checkpoint=path).fit(X)
    assert path.read_bytes() == before


def test_another_torch_warns(X, tmp_path, monkeypatch):
    """The fit goes on, and says that it may round otherwise."""
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    arrays, meta = files.unpack(path.read_bytes())
    path.write_bytes(files.pack(arrays, meta | {"torch": "1.0"}))
    with pytest.warns(UserWarning, match=r"written with torch 1.0, and this is"):
        model = make().set_params(checkpoint=path).fit(X)
    assert_same_fit(model, make().fit(X), X)


# Files


def test_a_file_opens_without_skae(X, tmp_path):
    """It is an archive of numpy, with JSON, and without pickles."""
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    with np.load(path) as arrays:
        names = [name for name in arrays if not name.endswith("json")]
        assert all(arrays[name].dtype != object for name in names)
        assert arrays["0/history"].shape[0] == 5
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("meta.json"))["skae"] == skae.__version__


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + 100 * b"\0"])
def test_a_broken_file_is_refused(content, X, tmp_path):
    """Before any training, with what to do; the file is not written over."""
    path = tmp_path / "fit.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidFileError, match=r"cannot be read. .* damaged checkpoint, "):
        make().set_params(checkpoint=path).fit(X)
    assert path.read_bytes() == content


def test_a_model_with_a_checkpoint_is_saved(X, tmp_path):
    """Its path is saved as text, and the state of a warm start goes along."""
    model = make(learning_rate="constant", warm_start=True, checkpoint=tmp_path / "a.npz")
    model.fit(X).save(tmp_path / "model.skops")
    for loaded in (
        skae.load(tmp_path / "model.skops"),
        pickle.loads(pickle.dumps(model)),
    ):
        assert loaded.checkpoint == str(tmp_path / "a.npz")
        assert_same_fit(loaded, model, X)
        again = clone(model).set_params(max_iter=2 * N_EPOCHS, checkpoint=None).fit(X)
        assert_same_fit(loaded.set_params(checkpoint=None).fit(X), again, X)


def test_each_changed_byte_is_noticed(X, tmp_path):
    """Every byte of a file counts: a changed or missing one is refused."""
    path = tmp_path / "fit.npz"
    interrupted(make(hidden_layer_sizes=2, n_components=1), path, X, epoch=2)
    content, generator = path.read_bytes(), random.Random(0)
    model = make(hidden_layer_sizes=2, n_components=1).set_params(checkpoint=path)
    for _ in range(100):
        position = generator.randrange(len(content))
        changed = bytearray(content)
        changed[position] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(InvalidFileError):
            model.fit(X)
        path.write_bytes(content[:position])
        with pytest.raises(InvalidFileError):
            model.fit(X)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays, meta: arrays.pop("0/values"),
        lambda arrays, meta: arrays.update({"0/values": np.zeros(3)}),
        lambda arrays, meta: arrays.update({"0/start": np.zeros(3)}),
        lambda arrays, meta: arrays.update({"0/mean": np.zeros(3)}),
        lambda arrays, meta: arrays.update({"0/generators/0": np.zeros(3)}),
        lambda arrays, meta: arrays.pop("0/generators/1"),
        lambda arrays, meta: arrays.update({"0/buffers/scale.none": np.zeros(3)}),
        lambda arrays, meta: arrays.update({"0/history": np.zeros((2, 2))}),
        lambda arrays, meta: meta.update(starts=3),
        lambda arrays, meta: meta["starts"].update({"0": {}}),
        lambda arrays, meta: meta["starts"]["0"].update(epoch="five"),
        lambda arrays, meta: meta["starts"]["0"].update(schedule=None),
        lambda arrays, meta: meta["starts"]["0"].update(plateau={}),
        lambda arrays, meta: meta.update(random_state=None),
        lambda arrays, meta: meta.pop("fingerprint"),
    ],
)
def test_a_sealed_file_with_nonsense_is_refused(change, X, tmp_path):
    """A file may have a true hash and be hostile."""
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    arrays, meta = files.unpack(path.read_bytes())
    change(arrays, meta)
    path.write_bytes(files.pack(arrays, meta))
    with pytest.raises(InvalidFileError):
        make().set_params(checkpoint=path).fit(X)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()]
)
def test_a_full_disk_warns_once(error, X, tmp_path, monkeypatch):
    """Training goes on, and the last good file is intact."""
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    before, tries = path.read_bytes(), []

    def fail(path, content):
        tries.append(path)
        raise error

    monkeypatch.setattr(checkpoint_module, "write_atomically", fail)
    model = make().set_params(checkpoint=path, checkpoint_interval=1)
    with pytest.warns(RuntimeWarning, match="could not be written") as warned:
        model.fit(X)
    assert len(warned) == 1
    assert len(tries) == N_EPOCHS - 5
    assert path.read_bytes() == before
    assert_same_fit(model, make().fit(X), X)


def test_a_full_disk_warns_once_for_a_folder(X, tmp_path, monkeypatch):
    """And not for each fit of a search; at the line of the user."""

    def fail(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "write_atomically", fail)
    model = make(checkpoint=f"{tmp_path}/", checkpoint_interval=1, max_iter=3)
    with pytest.warns(RuntimeWarning, match=r"written: .* tries again\.$") as warned:
        BatchedGridSearchCV(model, {"beta": [1, 2]}, cv=2).fit(X)
    (about_files,) = [w for w in warned if w.category is RuntimeWarning]
    assert about_files.filename == __file__


def test_writes_of_many_fits_add_up(monkeypatch):
    """The time of each counts, also if they come one after the other."""
    now = [100.0]
    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: now[0])
    budget = checkpoint_module._Budget()
    for _ in range(10):
        now[0] += 0.1
        budget.spend(0.1)
    assert not budget.allows()
    now[0] = 100 + 10 * 0.1 / 0.02
    assert not budget.allows()
    now[0] += 0.2
    assert budget.allows()


def test_each_kind_of_file_says_what_it_is(X, tmp_path):
    """A checkpoint is no model, and a model is no checkpoint."""
    model = make().set_params(checkpoint=tmp_path / "fit.npz").fit(X)
    model.save(tmp_path / "model.skops")
    with pytest.raises(InvalidFileError, match="It is a checkpoint: pass its path"):
        skae.load(tmp_path / "fit.npz")
    with pytest.raises(InvalidFileError, match="It is the file of a model") as caught:
        make().set_params(checkpoint=tmp_path / "model.skops").fit(X)
    # A model is worth more than a checkpoint: no advice to delete it.
    assert str(caught.value).endswith("Pass another path as checkpoint.")


def test_a_missing_folder_is_an_error(X, tmp_path):
    """A wrong path is noticed before any training."""
    model = make().set_params(checkpoint=tmp_path / "none" / "fit.npz")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        model.fit(X)
    with pytest.raises(ValueError, match="checkpoint='' is no path"):
        make().set_params(checkpoint="").fit(X)
    with pytest.raises(ValueError, match="'checkpoint' parameter"):
        make().set_params(checkpoint=3).fit(X)
    for interval in (0, -1.0, "often"):
        with pytest.raises(ValueError, match="'checkpoint_interval' parameter"):
            make().set_params(checkpoint_interval=interval).fit(X)


def test_leftovers_of_killed_processes_are_removed(X, tmp_path):
    """A half-written file does not stay."""
    (tmp_path / "fit.npz.123-4.tmp").write_bytes(b"half")
    make().set_params(checkpoint=tmp_path / "fit.npz").fit(X)
    assert os.listdir(tmp_path) == ["fit.npz"]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_an_interrupt_at_the_end_of_an_epoch(early_stopping, X, tmp_path):
    """The estimator has this epoch, and the file at least the one before."""
    path = tmp_path / "fit.npz"
    model = make(early_stopping=early_stopping, n_iter_no_change=50)
    own = clone(model).set_params(checkpoint=path, checkpoint_interval=30.0)
    with pytest.raises(KeyboardInterrupt):
        own.set_callbacks(Recording(raise_at_end=(5, KeyboardInterrupt()))).fit(X)
    assert own.n_iter_ == 5
    arrays, _ = files.unpack(path.read_bytes())
    assert len(arrays["0/history"]) == 4
    resumed = clone(model).set_params(checkpoint=path).fit(X)
    assert_same_fit(resumed, clone(model).fit(X), X)


def test_a_bad_file_does_not_touch_the_models_beside(X, tmp_path):
    """Side by side, only the fit with the file fails."""
    path = tmp_path / "fit.npz"
    interrupted(make(), path, X)
    arrays, meta = files.unpack(path.read_bytes())
    arrays["0/values"] = np.full_like(arrays["0/values"], np.nan)
    path.write_bytes(files.pack(arrays, meta))
    models = [make(beta=2), make().set_params(checkpoint=path)]
    ends = []

    def fit(model):
        try:
            ends.append(weights(model.fit(X)))
        except InvalidFileError as error:
            ends.append(str(error))

    run_in_lockstep([partial(fit, model) for model in models], 2)
    assert weights(make(beta=2).fit(X)) in ends
    assert any("not finite" in str(end) for end in ends)


def test_an_error_of_a_callback_keeps_what_was_trained(X, tmp_path):
    """Nothing is lost by an error of the user."""
    path = tmp_path / "fit.npz"
    model = make().set_params(checkpoint=path, checkpoint_interval=2)
    with pytest.raises(ZeroDivisionError):
        model.set_callbacks(StopAt(6, ZeroDivisionError("mine"))).fit(X)
    arrays, _ = files.unpack(path.read_bytes())
    assert len(arrays["0/history"]) == 4
    assert_same_fit(make().set_params(checkpoint=path).fit(X), make().fit(X), X)


def test_seconds_between_writes(X, tmp_path, monkeypatch):
    """A float counts seconds, which a slow disk makes longer."""
    now, written, cost = [100.0], [], 0.0

    def write(path, content):
        written.append(now[0])
        now[0] += cost

    class Clock(Callback):
        def on_fit_task_end(self, estimator, context):
            now[0] += 1.0

    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint_module, "write_atomically", write)
    monkeypatch.setattr(checkpoint_module, "_budget", checkpoint_module._Budget())
    model = make(max_iter=300, n_iter_no_change=300, checkpoint=tmp_path / "fit.npz")
    model.set_params(checkpoint_interval=10.0).set_callbacks(Clock()).fit(X)
    assert set(np.diff(written[:-1])) == {10.0}
    written.clear()
    cost = 1.0
    model.set_params(random_state=1).fit(X)
    # Writing takes at most 2% of the time.
    assert np.diff(written[:-1]).min() >= 50.0


def test_nothing_global_changes(X, tmp_path):
    """Neither signal handlers nor threads, after success and interrupt."""
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    threads = threading.enumerate()
    with nothing_global_changes():
        interrupted(make(), tmp_path / "fit.npz", X)
        make().set_params(checkpoint=tmp_path / "fit.npz").fit(X)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert threading.enumerate() == threads


# Each kind of fit is that of a process of its own, which has the imports of this one.
TERMINATED = """
    import json, os, signal, sys, threading
    import numpy as np
    from skae import GaussianAutoencoder, VariationalAutoencoder
    from skae.model_selection import BatchedGridSearchCV
    from tests.callbacks import Callback

    class Terminate(Callback):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch" and context.task_id == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    def fit(path, kind):
        X = np.random.default_rng(0).normal(size=(60, 4))
        model = VariationalAutoencoder(
            max_iter=8, random_state=0, checkpoint=path, checkpoint_interval=1000.0
        )
        if kind == "handler":
            signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
        if kind == "ignored":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        model.set_callbacks(Terminate())
        if kind == "search":
            model = BatchedGridSearchCV(model, {"beta": [1, 2]}, cv=2, refit=False)
        if kind == "thread":
            thread = threading.Thread(target=model.fit, args=(X,))
            thread.start()
            thread.join()
        else:
            try:
                model.fit(X)
            except KeyboardInterrupt:
                print("fitted", model.n_iter_, flush=True)
        if kind == "ignored":
            print("fitted", model.n_iter_, flush=True)

    folder, *kinds = sys.argv[1:]
    codes = {}
    for kind in kinds:
        if (child := os.fork()) == 0:
            signal.alarm(100)
            with open(f"{folder}/{kind}.txt", "w") as sys.stdout:
                fit(f"{folder}/{kind}/" + ("" if kind == "search" else "fit.npz"), kind)
            os._exit(0)
        codes[kind] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps(codes))
"""
KINDS_OF_TERMINATED = ["fit", "search", "handler", "thread", "ignored"]


@pytest.fixture(scope="module")
def terminated(tmp_path_factory):
    """Return a folder with what each process left and printed, and their exit codes."""
    folder = tmp_path_factory.mktemp("terminated")
    for kind in KINDS_OF_TERMINATED:
        (folder / kind).mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(TERMINATED), folder,
         *KINDS_OF_TERMINATED],
        capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", KINDS_OF_TERMINATED)
def test_sigterm_writes_a_checkpoint(kind, terminated):
    """Before the process ends as it would; in other threads the signal is not handled."""
    folder, codes, err = terminated
    found = sorted(os.listdir(folder / kind))
    printed = (folder / f"{kind}.txt").read_text().split()
    if kind == "handler":
        assert (codes[kind], printed) == (0, ["handled", "fitted", "4"])
    elif kind == "ignored":
        assert (codes[kind], printed) == (0, ["fitted", "8"])
        return
    else:
        assert codes[kind] == -signal.SIGTERM, err
    assert len(found) == {"search": 4, "thread": 0}.get(kind, 1)
    for name in found:
        arrays, _ = files.unpack((folder / kind / name).read_bytes())
        assert len(arrays["0/history"]) == 4
