"""Which operations round otherwise with another number of threads."""

import pytest
import torch

from skae._utils import rounding
from skae._utils.rounding import RoundingProbe


@pytest.fixture(autouse=True)
def no_answers():
    """Forget the answers of other tests."""
    rounding._answers.cache_clear()
    yield
    rounding._answers.cache_clear()


def agrees(function, *inputs, n_threads=2):
    """Whether a function agrees; check that it computes what it computes alone."""
    expected = function(*inputs)
    with RoundingProbe(n_threads) as probe:
        found = function(*inputs)
    assert torch.equal(expected, found)
    assert torch.get_num_threads() == 1
    return probe.agrees


def test_a_sum_over_all_numbers_depends_on_threads():
    """Torch divides it between threads, and each has a sum of its own."""
    x = torch.ones(10**6)
    assert not agrees(torch.sum, x)
    # Too few numbers for two threads.
    assert agrees(torch.sum, x[:1000])


def test_sums_that_threads_do_not_divide_agree():
    x = torch.ones(1000, 1000)
    assert agrees(lambda x: x.sum(dim=1), x)
    assert agrees(lambda x: torch.exp(x).mul_(2.0), x)
    out = torch.empty(1000, 1)
    assert agrees(lambda x: torch.sum(x, dim=1, keepdim=True, out=out), x)


@pytest.mark.parametrize("n_threads", [2, 3, 4])
@pytest.mark.parametrize(
    "shapes", [((1, 96, 1008), (1, 1008, 10)), ((1, 64, 32), (1, 32, 64))]
)
def test_products(shapes, n_threads):
    """The answer for a product is what many products of other numbers show."""
    generator = torch.Generator().manual_seed(1)
    results = []
    for _ in range(5):
        a, b = (torch.randn(shape, generator=generator) for shape in shapes)
        results.append([])
        for n in (1, n_threads):
            torch.set_num_threads(n)
            results[-1].append(torch.bmm(a, b))
        torch.set_num_threads(1)
    equal = all(torch.equal(*pair) for pair in results)
    assert agrees(torch.bmm, a, b, n_threads=n_threads) == equal


def test_an_answer_is_kept(monkeypatch):
    """For the same shapes, layouts and numbers of threads."""
    asked, original = [], rounding._agree

    def agree(*args):
        asked.append(args)
        return original(*args)

    monkeypatch.setattr(rounding, "_agree", agree)
    a, b = torch.ones(20, 30), torch.ones(30, 20)
    for _ in range(3):
        agrees(torch.mm, a, b)
    assert len(asked) == 1
    agrees(torch.mm, a, b, n_threads=3)
    agrees(torch.mm, a, a.mT)
    assert len(asked) == 3


def test_random_numbers_are_not_drawn_twice():
    generator = torch.Generator().manual_seed(0)
    with RoundingProbe(2) as probe:
        x = torch.randn(100_000, generator=generator)
    assert torch.equal(x, torch.randn(100_000, generator=generator.manual_seed(0)))
    assert probe.agrees
