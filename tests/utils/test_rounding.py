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


@pytest.mark.parametrize("has_tag_of_sums", [True, False])
def test_a_sum_over_all_numbers_depends_on_threads(has_tag_of_sums, monkeypatch):
    """Torch divides it between threads, and each has a sum of its own."""
    if not has_tag_of_sums:
        # As in versions of torch that have no such tag.
        monkeypatch.setattr(rounding, "_SIMPLE", {torch.Tag.pointwise})
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
    asked, original = [], rounding._compare

    def compare(*args):
        asked.append(args)
        return original(*args)

    monkeypatch.setattr(rounding, "_compare", compare)
    a, b = torch.ones(20, 30), torch.ones(30, 20)
    for _ in range(3):
        agrees(torch.mm, a, b)
    assert len(asked) == 1
    agrees(torch.mm, a, b, n_threads=3)
    agrees(torch.mm, a, a.mT)
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("function", "is_exact"),
    [
        (torch.sigmoid, False),
        (torch.nn.functional.softplus, False),
        (lambda x: torch.ops.aten.gelu_backward(x, x.flip(0)), None),
        (torch.exp, True),
        (lambda x: torch.addcmul(x, x.flip(0), x, value=-1.3), True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_of_single_numbers(function, is_exact, dtype):
    """Some round otherwise where threads leave few numbers for a vector."""
    n = 100_003
    x = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=dtype)
    found = agrees(function, x, n_threads=3)
    if is_exact is not None and torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert found == is_exact
    results = []
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        results.append([function(x.roll(7 * i)) for i in range(20)])
    torch.set_num_threads(1)
    # An answer that there is no difference is true.
    if found:
        assert all(map(torch.equal, *results))
    # So few numbers are not divided.
    assert agrees(function, x[:1000])


def test_memory_that_repeats():
    """One row for all rows, as of parameters that they share."""
    x = torch.ones(30).expand(2000, 30)
    assert agrees(lambda x: torch.cat([x, x]) @ x.mT, x) in (True, False)
    assert agrees(lambda x: torch.exp(x).sum(dim=1), x)


def test_a_function_that_takes_no_other_numbers_does_not_agree():
    x = torch.eye(20)
    assert not agrees(torch.linalg.cholesky, x)


def test_nothing_is_asked_of_functions_without_arithmetic(monkeypatch):
    """They would take as long as a product."""
    monkeypatch.setattr(rounding, "_compare", None)
    x, out = torch.ones(300, 300), torch.empty(300, 300)
    for function in (
        lambda x: x.clone().copy_(x)[:10].contiguous(),
        lambda x: x.new_full((x.dim(), 2), 1.0),
        lambda x: torch.cat([x, x]).index_select(0, torch.arange(3)),
        lambda x: out.zero_().view(-1),
        # Few numbers are not divided between threads.
        lambda x: x[:100, :100].sigmoid(),
        *([lambda x: x[:100].sum(dim=1)] if hasattr(torch.Tag, "reduction") else []),
    ):
        assert agrees(function, x)


def test_random_numbers_are_not_drawn_twice():
    generator = torch.Generator().manual_seed(0)
    with RoundingProbe(2) as probe:
        x = torch.randn(100_000, generator=generator)
    assert torch.equal(x, torch.randn(100_000, generator=generator.manual_seed(0)))
    assert probe.agrees
