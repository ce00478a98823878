"""A step with a changing number of threads, whose results do not change."""

import numpy as np
import pytest
import torch

from skae import VariationalAutoencoder
from skae._utils import rounding, tuning
from skae._utils import threads as threads_module
from skae._utils.tuning import ThreadTuner
from skae.likelihoods import StudentTLikelihood
from tests.helpers import assert_same_answers
from tests.surroundings import nothing_global_changes


class Restless(ThreadTuner):
    """Takes another number of threads for each step, and notes what is used."""

    used: list[int]

    def add(self, seconds):
        self.used.append(torch.get_num_threads())
        self.n_threads = self._counts[len(self.used) % len(self._counts)]


@pytest.fixture
def threads(monkeypatch):
    """Allow four threads; return the numbers of threads of the steps."""
    monkeypatch.setattr(tuning, "ThreadTuner", Restless)
    monkeypatch.setattr(Restless, "used", [], raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield Restless.used
    torch.set_num_threads(before)


def model(**parameters):
    return VariationalAutoencoder(max_iter=2, random_state=0, **parameters)


@pytest.mark.parametrize(
    ("likelihood", "mode"),
    [("gaussian", "optimal"), ("gaussian", "predicted"), ("poisson", "auto")],
)
def test_the_model_does_not_depend_on_threads(threads, mode, likelihood):
    """To the bit, though the number of threads changes from step to step."""
    X = np.random.default_rng(0).poisson(3.0, size=(1500, 64)).astype(float)
    parameters = {"likelihood": likelihood, "variance_mode": mode, "batch_size": 128}
    with nothing_global_changes():
        changing = model(**parameters).fit(X)
    # Of this size, libraries give equal bits for some numbers of threads at least.
    assert len(set(threads)) > 1
    torch.set_num_threads(1)
    assert_same_answers(model(**parameters).fit(X), changing, X)


@pytest.mark.parametrize("first", [1, 4])
def test_a_number_of_threads_that_rounds_otherwise_is_not_used(
    threads, monkeypatch, X, first
):
    """As with a library whose sums depend on threads: the size decides."""
    monkeypatch.setattr(threads_module, "_WORTH_A_THREAD", 0 if first == 4 else 2**26)
    monkeypatch.setattr(rounding, "_compare", lambda *args: False)
    rounding._answers.cache_clear()
    model(batch_size=10).fit(X)
    rounding._answers.cache_clear()
    assert set(threads) == {first}


def test_a_stream_does_not_depend_on_threads(threads):
    """Blocks of a stream are trained as a fit is."""
    X = np.random.default_rng(0).normal(size=(2000, 64))
    parameters = {"batch_size": 128, "hidden_layer_sizes": (128,)}
    changing = model(**parameters).partial_fit(X[:1000])
    with nothing_global_changes():
        changing.partial_fit(X[1000:])
    assert len(set(threads)) > 1
    torch.set_num_threads(1)
    still = model(**parameters).partial_fit(X[:1000]).partial_fit(X[1000:])
    assert_same_answers(still, changing, X)


def test_parameters_that_rows_share(threads, X):
    """Their memory repeats for all rows, and is probed as such."""
    likelihood = StudentTLikelihood(df="learned")
    changing = model(likelihood=likelihood, batch_size=32).fit(X)
    assert len(set(threads)) > 1
    torch.set_num_threads(1)
    assert_same_answers(model(likelihood=likelihood, batch_size=32).fit(X), changing, X)
