"""How a loss is minimised, without any model of skae."""

import math
import subprocess
import sys

import hypothesis
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from skae._optim import (
    Adam,
    CosineSchedule,
    Batches,
    FlatParameters,
    Plateau,
    TrainingSet,
    distinct_rows,
    train,
)

# ---------------------------------------------------------------------- distinct rows

# Few different values, both zeros among them, so that rows are often equal.
VALUES = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 0.5, 3.0, np.inf, -1e300, 5e-324])
SINGLE = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 0.5, 3.0])


@st.composite
def weighted_rows(draw, values=VALUES, dtype=np.float64):
    shape = (draw(st.integers(1, 14)), draw(st.integers(1, 4)))
    X = draw(hnp.arrays(dtype, shape, elements=values, fill=st.nothing()))
    whole = st.integers(1, 5).map(float)
    weight = draw(hnp.arrays(np.float64, shape[0], elements=whole, fill=st.nothing()))
    rows = draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, unique=True))
    return X, weight, np.array(rows)


properties = hypothesis.settings(deadline=None, max_examples=150, derandomize=True)


@properties
@hypothesis.given(st.one_of(weighted_rows(), weighted_rows(SINGLE, np.float32)))
def test_distinct_rows_are_numpys(case):
    X, weight, rows = case
    before = [a.copy() for a in case]
    index, total = distinct_rows(X, weight, rows)
    for array, copy in zip(case, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    # Adding 0 makes -0.0 a 0.0.
    expected, inverse = np.unique(X[rows] + 0.0, axis=0, return_inverse=True)
    np.testing.assert_array_equal(X[index] + 0.0, expected)
    np.testing.assert_array_equal(total, np.bincount(inverse.ravel(), weight[rows]))
    assert set(index) <= set(rows)


@properties
@hypothesis.given(weighted_rows(), st.randoms(use_true_random=False))
def test_distinct_rows_do_not_depend_on_the_order(case, random):
    X, weight, rows = case
    index, total = distinct_rows(X, weight, rows)
    shuffled = rows.copy()
    random.shuffle(shuffled)
    again, total_again = distinct_rows(X, weight, shuffled)
    np.testing.assert_array_equal(X[again], X[index])
    np.testing.assert_array_equal(total_again, total)
    # The order of X itself, too.
    order = np.array(random.sample(range(len(X)), len(X)))
    position = np.argsort(order)
    moved, total_moved = distinct_rows(X[order], weight[order], position[rows])
    np.testing.assert_array_equal(X[order][moved], X[index])
    np.testing.assert_array_equal(total_moved, total)


@properties
@hypothesis.given(
    weighted_rows(SINGLE),
    st.sampled_from([2.0**-20, 0.25, 3.0, 2.0**30]),
    st.integers(-9, 9),
)
def test_distinct_rows_keep_their_order_when_shifted_and_stretched(case, factor, shift):
    X, weight, rows = case
    index, total = distinct_rows(X, weight, rows)
    again, total_again = distinct_rows(factor * (X + shift), weight, rows)
    np.testing.assert_array_equal(again, index)
    np.testing.assert_array_equal(total_again, total)


@properties
@hypothesis.given(weighted_rows())
def test_an_integer_weight_is_a_repeated_row(case):
    X, weight, rows = case
    index, total = distinct_rows(X, weight, rows)
    repeated = np.repeat(rows, weight[rows].astype(int))
    again, count = distinct_rows(
        X[repeated], np.ones(len(repeated)), np.arange(len(repeated))
    )
    np.testing.assert_array_equal(X[repeated][again], X[index])
    np.testing.assert_array_equal(count, total)


def test_both_zeros_are_equal():
    X = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -0.0], [-0.0, 0.0]])
    index, total = distinct_rows(X, np.array([1.0, 2.0, 4.0, 8.0]), np.arange(4))
    np.testing.assert_array_equal(X[index] + 0.0, [[0, 0], [0, 1]])
    np.testing.assert_array_equal(total, [12, 3])


def test_distinct_rows_of_many():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, size=(20_000, 4)).astype(np.float32)
    index, total = distinct_rows(X, np.ones(len(X)), np.arange(len(X)))
    expected, count = np.unique(X, axis=0, return_counts=True)
    np.testing.assert_array_equal(X[index], expected)
    np.testing.assert_array_equal(total, count)


# ---------------------------------------------------------------------------- batches


def make_batches(X, rows=None, weight=None, mean=None, std=None, seed=0, **settings):
    return batches_of([make_set(X, rows, weight, mean, std)], seeds=[seed], **settings)


def make_set(X, rows=None, weight=None, mean=None, std=None):
    rows = np.arange(len(X)) if rows is None else rows
    return TrainingSet(
        X,
        rows,
        np.ones(len(rows)) if weight is None else weight,
        np.zeros(X.shape[1]) if mean is None else mean,
        np.ones(X.shape[1]) if std is None else std,
    )


def batches_of(sets, seeds, **settings):
    settings = {
        "batch_size": 32,
        "shuffle": True,
        "noise_shape": (1, 2),
        "dtype": torch.float64,
        "device": torch.device("cpu"),
        **settings,
    }
    return Batches(
        sets,
        order=[torch.Generator().manual_seed(s) for s in seeds],
        noise=[torch.Generator().manual_seed(s) for s in seeds],
        **settings,
    )


def one_epoch(batches, r=0):
    """Rows that count, times the size of their batch what they count, and the noise."""
    parts = []
    for y, row_weight, noise in batches.epoch():
        counts = row_weight[r, :, 0] > 0
        n = int(counts.sum())
        parts.append(
            (y[r][counts].clone(), n * row_weight[r][counts], noise[r][:, counts].clone())
        )
    return parts


def numbered(n, d=3):
    """Rows that say which they are."""
    return np.arange(n, dtype=float)[:, None] * [1.0, -1.0, 0.5][:d]


@pytest.fixture(params=["resident", "streamed", "in small blocks"])
def kept(request, monkeypatch):
    """Where the rows come from."""
    data = sys.modules["skae._data.batches"]
    if request.param != "resident":
        monkeypatch.setattr(data, "_RESIDENT_BYTES", 0)
    if request.param == "in small blocks":
        monkeypatch.setattr(data, "_BLOCK_NUMBERS", 50)
        # Of two batches, and an odd one at the end.
        monkeypatch.setattr(data, "_NOISE_NUMBERS", 140)


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 64, 65, 100])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_row_once_an_epoch(n, batch_size, shuffle, kept):
    batches = make_batches(numbered(n), batch_size=batch_size, shuffle=shuffle)
    assert batches.n_batches == math.ceil(n / batch_size)
    for _ in range(2):
        parts = one_epoch(batches)
        sizes = [len(y) for y, _, _ in parts]
        assert len(sizes) == batches.n_batches
        largest = max(sizes)
        assert largest <= batch_size
        assert batches.size == (largest if largest < 32 else math.ceil(largest / 8) * 8)
        assert max(sizes) - min(sizes) <= 1
        assert all(len(y) == len(w) for y, w, _ in parts)
        seen = np.concatenate([y for y, _, _ in parts])
        np.testing.assert_array_equal(np.sort(seen[:, 0]), np.arange(n))
        np.testing.assert_array_equal(seen, numbered(n)[seen[:, 0].astype(int)])
        if not shuffle:
            np.testing.assert_array_equal(seen[:, 0], np.arange(n))


def test_shares_make_means_over_a_batch(kept):
    batches = make_batches(numbered(65), batch_size=32)
    for y, row_weight, _ in batches.epoch():
        assert y.shape == (1, 22, 3)
        assert row_weight.shape == (1, 22, 1)
        assert row_weight.sum().item() == pytest.approx(1, rel=1e-14)


def test_shuffling_is_uniform_and_from_the_generator():
    before = torch.get_rng_state()
    batches = make_batches(numbered(6), batch_size=6)
    orders = [next(batches.epoch())[0][0, :, 0].tolist() for _ in range(2000)]
    assert torch.equal(torch.get_rng_state(), before)
    assert orders[0] != orders[1]
    again = make_batches(numbered(6), batch_size=6)
    assert orders[0] == one_epoch(again)[0][0][:, 0].tolist()
    counts = np.array([[o[p] for o in orders].count(r) for p in range(6) for r in range(6)])
    assert np.abs(counts - 2000 / 6).max() < 5 * math.sqrt(2000 / 6)


def test_noise_is_normal_and_from_the_generator():
    before = torch.get_rng_state()
    parts = one_epoch(make_batches(numbered(3000), batch_size=300, noise_shape=(5, 2)))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(e.shape == (5, 300, 2) for _, _, e in parts)
    noise = torch.stack([e for _, _, e in parts])
    assert scipy.stats.kstest(noise.numpy().ravel(), scipy.stats.norm.cdf).pvalue > 1e-3
    assert len(noise.unique()) == noise.numel()
    again = one_epoch(make_batches(numbered(3000), batch_size=300, noise_shape=(5, 2)))
    assert torch.equal(noise, torch.stack([e for _, _, e in again]))


@pytest.mark.parametrize("shuffle", [True, False])
def test_weights_follow_their_rows(shuffle, kept):
    rng = np.random.default_rng(0)
    X, rows = numbered(50), rng.permutation(50)[:37]
    weight = 1 / (1 + rows)
    parts = one_epoch(make_batches(X, rows, weight, batch_size=10, shuffle=shuffle))
    y, w = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    assert w.shape == (37, 1)
    np.testing.assert_allclose(w[:, 0], 1 / (1 + y[:, 0]), rtol=1e-14)
    np.testing.assert_array_equal(np.sort(y[:, 0]), np.sort(rows))
    if not shuffle:
        np.testing.assert_array_equal(y[:, 0], rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("data", [np.float32, np.float64])
def test_standardisation_in_double_precision(dtype, data, kept):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(70, 3)) * [1, 3, 0.1] * 100 + 1e6).astype(data)
    exact = X.astype(np.float64)
    # float32 could not even hold this mean: its numbers lie 1/16 apart there.
    mean, std = exact.mean(axis=0) + 1 / 64, exact.std(axis=0)
    batches = make_batches(X, mean=mean, std=std, shuffle=False, dtype=dtype)
    parts = one_epoch(batches)
    y = np.concatenate([part[0] for part in parts])
    assert {part.dtype for part in parts[0]} == {dtype}
    rtol = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    np.testing.assert_allclose(y, (exact - mean) / std, rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("order", ["C", "F"])
def test_data_are_only_read(order, kept):
    X = np.asarray(np.random.default_rng(0).normal(size=(40, 3)), order=order)
    copy = X.copy()
    X.setflags(write=False)
    parts = one_epoch(make_batches(X, mean=X.mean(axis=0), std=X.std(axis=0), batch_size=9))
    np.testing.assert_array_equal(X, copy)
    y = np.concatenate([part[0] for part in parts])
    expected = (copy - copy.mean(axis=0)) / copy.std(axis=0)
    order_y, order_x = np.argsort(y[:, 0]), np.argsort(expected[:, 0])
    np.testing.assert_allclose(y[order_y], expected[order_x], rtol=1e-12)


def test_a_step_of_a_larger_array_is_fine(kept):
    X = np.random.default_rng(0).normal(size=(40, 6))[::2, 1::2]
    parts = one_epoch(make_batches(X, shuffle=False, batch_size=9))
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), X)


def test_models_side_by_side_see_what_they_would_alone(kept):
    X = np.random.default_rng(0).normal(size=(80, 3))
    # Of 3 batches each, but of different sizes: 24, 27 and 28.
    sets = [
        make_set(X, np.arange(72), np.linspace(0.5, 1.5, 72)),
        make_set(X, np.arange(0, 80), mean=np.array([1.0, 2, 3])),
        make_set(X, np.arange(82) % 80, std=np.array([0.5, 2, 3])),
    ]
    together = batches_of(sets, seeds=[3, 4, 5])
    assert together.size == 28
    alone = [batches_of([s], seeds=[seed]) for s, seed in zip(sets, [3, 4, 5], strict=True)]
    for _ in range(2):
        # One after the other, since what an epoch yields is overwritten.
        side_by_side = [
            [(y[r], row_weight[r], noise[r]) for r in range(3)]
            for y, row_weight, noise in (tuple(map(torch.clone, b)) for b in together.epoch())
        ]
        for r, batches in enumerate(alone):
            for theirs, own in zip(side_by_side, batches.epoch(), strict=True):
                n = own[0].shape[1]
                counts = own[1][0, :, 0] > 0
                for got, expected in zip(theirs[r], own, strict=True):
                    rows = got[:, :n] if got.ndim == 3 else got[:n]
                    mask = counts if got.ndim == 2 else (slice(None), counts)
                    torch.testing.assert_close(
                        rows[mask], expected[0][mask], rtol=1e-13, atol=0
                    )
                assert (theirs[r][1][n:] == 0).all()


def test_models_with_other_numbers_of_batches_are_refused():
    sets = [make_set(numbered(n)) for n in (64, 65)]
    with pytest.raises(ValueError, match="number of batches"):
        batches_of(sets, seeds=[0, 1])


# ------------------------------------------------------------- parameters and updates


def make_layers(seed=0):
    generator = torch.Generator().manual_seed(seed)
    layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    with torch.no_grad():
        for p in layers.parameters():
            p.normal_(generator=generator)
    return layers


def squared_error(layers, x):
    return (layers(x) - x[:, :2].square()).square().mean()


def numbers(flat, buffer):
    """A buffer without what is left over between parameters."""
    return torch.cat([part.reshape(-1) for part in flat.views(buffer)])


def test_flat_parameters_are_views():
    layers, x = make_layers(), torch.randn(9, 4, dtype=torch.float64)
    reference, expected = make_layers(), make_layers()(x)
    parameters = list(layers.parameters())
    flat = FlatParameters([parameters], penalized=parameters[:1])
    assert torch.equal(layers(x), expected)
    # Parameters of 20, 5, 10 and 2 numbers.
    assert flat.values.shape == flat.grads.shape == (32 + 16 + 16 + 16,)
    pieces = [p.detach().reshape(-1) for p in reference.parameters()]
    assert torch.equal(numbers(flat, flat.values), torch.cat(pieces))
    assert torch.equal(flat.get(0), torch.cat(pieces))
    assert flat.l2([0.5]).tolist() == 20 * [0.5] + 60 * [0.0]

    squared_error(layers, x).backward()
    squared_error(reference, x).backward()
    pieces = [p.grad.reshape(-1) for p in reference.parameters()]
    assert torch.equal(numbers(flat, flat.grads), torch.cat(pieces))
    flat.grads.zero_()
    assert all((p.grad == 0).all() for p in parameters)
    with torch.no_grad():
        flat.values.zero_()
    assert all((p == 0).all() for p in parameters)
    assert (layers(x) == 0).all()
    # A second backward pass still lands in the flat buffer.
    squared_error(layers, x).backward()
    assert flat.grads.abs().max() > 0


def test_flat_parameters_of_several_models():
    models = [make_layers(seed) for seed in range(3)]
    before = [[p.detach().clone() for p in model.parameters()] for model in models]
    flat = FlatParameters([list(model.parameters()) for model in models])
    assert flat.values.shape == (3 * 80,)
    for i, first in enumerate(models[0].parameters()):
        stacked = flat.stacked(first)
        assert torch.equal(stacked, torch.stack([own[i] for own in before]))
        stacked.grad += 1
        for model in models:
            assert (list(model.parameters())[i].grad == 1).all()
        assert all(own.is_contiguous() for own in stacked)
    assert (numbers(flat, flat.grads) == 1).all()
    for r, own in enumerate(before):
        assert torch.equal(flat.get(r), torch.cat([p.reshape(-1) for p in own]))
    kept = flat.get(1)
    flat.put(1, torch.zeros(37))
    assert all((p == 0).all() for p in models[1].parameters())
    for model, own in ((models[0], before[0]), (models[2], before[2])):
        assert all(map(torch.equal, model.parameters(), own))
    flat.put(1, kept)
    assert all(map(torch.equal, models[1].parameters(), before[1]))
    penalty = FlatParameters([list(m.parameters()) for m in models], [models[0][0].bias])
    expected = torch.zeros(3, 5) + torch.tensor([[1.0], [2.0], [3.0]])
    assert torch.equal(penalty.views(penalty.l2([1.0, 2.0, 3.0]))[1], expected.double())


@pytest.mark.parametrize("may_transpose", [True, False])
def test_flat_parameters_that_lie_side_by_side(may_transpose):
    """Two layers of one input are one block; whatever moves, they are what they were."""

    def layers(seed):
        torch.manual_seed(seed)
        return nn.ModuleList([nn.Linear(3, 12), nn.Linear(12, 4), nn.Linear(3, 4)]).double()

    models = [layers(seed) for seed in range(4)]
    before = [[p.detach().clone() for p in model.parameters()] for model in models]
    first, _, path = models[0]
    pairs = [(first.weight, path.weight), (first.bias, path.bias)]
    flat = FlatParameters(
        [list(model.parameters()) for model in models],
        penalized=[path.weight],
        joined=pairs,
        may_transpose=may_transpose,
    )
    for pair, i, j in zip(pairs, (0, 1), (4, 5), strict=True):
        both = flat.stacked(*pair)
        expected = torch.stack([torch.cat([own[i], own[j]]) for own in before])
        assert torch.equal(both, expected)
    # (16, 3): the length of its lines is round only if it lies transposed.
    assert flat.stacked(*pairs[0]).mT.is_contiguous() == may_transpose
    flat.stacked(*pairs[0]).grad += 1
    for model in models:
        assert (model[0].weight.grad == 1).all()
        assert (model[2].weight.grad == 1).all()
        assert (model[1].weight.grad == 0).all()
    penalty = flat.views(flat.l2([1.0, 2.0, 3.0, 4.0]))
    for i, part in enumerate(penalty):
        expected = torch.arange(1.0, 5.0) if i == 4 else torch.zeros(4)
        assert torch.equal(
            part, expected.double().view(4, *(part.ndim - 1) * [1]) + 0 * part
        )
    kept = [flat.get(r) for r in range(4)]
    some = flat.select([1, 3])
    for r, own in ((0, 1), (1, 3)):
        assert torch.equal(some.get(r), kept[own])
        assert all(map(torch.equal, models[own].parameters(), before[own]))
    some.put(0, kept[3])
    assert all(map(torch.equal, models[1].parameters(), before[3]))
    run = some.of_models(some.values, 1, 2, step_size=1.0)
    assert all(p.is_contiguous() and p.numel() % 16 == 0 for p in run)
    found = torch.cat([p.reshape(-1) for p in run])
    assert sorted(found[found != 0].tolist()) == sorted(kept[3].tolist())


def test_a_shared_parameter_is_penalized_once():
    layer = nn.Linear(2, 2)
    flat = FlatParameters([list(layer.parameters())], penalized=2 * [layer.weight])
    for some in (flat, flat.select([0])):
        assert numbers(some, some.l2([0.5])).tolist() == 4 * [0.5] + 2 * [0.0]


def test_parameters_without_numbers():
    """A layer without outputs, in a network that a user wrote."""
    parameters = [nn.Parameter(torch.ones(2, 0)), nn.Parameter(torch.ones(3))]
    flat = FlatParameters([parameters])
    assert torch.equal(flat.get(0), torch.ones(3))
    assert [tuple(part.shape) for part in flat.views(flat.grads)] == [(1, 2, 0), (1, 3)]


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("sizes", [[], [0.2], [0.2, 1.0, 0.2, 3.0]])
def test_adam_is_torchs(l2, sizes):
    """Also with steps of another size for some parameters."""
    x = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = make_layers(), make_layers()
    weights = [p for p in ours.parameters() if p.ndim > 1]
    flat = FlatParameters(
        [list(ours.parameters())],
        penalized=weights,
        learning_rate_multipliers=dict(zip(ours.parameters(), sizes, strict=False)),
    )
    adam = Adam(flat, l2=[l2])
    sizes = [*sizes, *4 * [1.0]]
    groups = [
        {"params": [p], "weight_decay": l2 if p.ndim > 1 else 0.0}
        for p in theirs.parameters()
    ]
    reference = torch.optim.Adam(groups, lr=1.0)
    for step in range(50):
        rate = 0.1 * math.cos(step / 40)
        for group, size in zip(reference.param_groups, sizes, strict=False):
            group["lr"] = rate * size
        reference.zero_grad()
        squared_error(theirs, x).backward()
        reference.step()
        flat.grads.zero_()
        squared_error(ours, x).backward()
        adam.step([rate])
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.detach(), q.detach(), rtol=1e-12, atol=1e-12)


def test_adam_in_single_precision_is_torchs():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    ours, theirs = make_layers().float(), make_layers().float()
    flat = FlatParameters([list(ours.parameters())])
    adam, reference = Adam(flat, [0.0]), torch.optim.Adam(theirs.parameters(), lr=0.01)
    for _ in range(50):
        reference.zero_grad()
        squared_error(theirs, x).backward()
        reference.step()
        flat.grads.zero_()
        squared_error(ours, x).backward()
        adam.step([0.01])
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.detach(), q.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "rates",
    [
        [0.01, 0.01, 0.01, 0.01],
        [0.01, 0.0, 0.1, 0.1],
        [0.01, 0.01, 0.1, 0.1],
        [0.1, 0.01, 0.01, 0.1],
    ],
)
def test_adam_of_several_models(rates):
    """With a rate and a penalty of its own, each is updated as it would be alone.

    Which of them have the same rate changes on the way, and so does who is there.
    """
    x = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    l2 = [0.0, 0.2, 0.5, 0.1]

    def trained(chosen):
        models = [make_layers(r) for r in chosen]
        parameters = [list(model.parameters()) for model in models]
        flat = FlatParameters(
            parameters,
            penalized=parameters[0][::2],
            learning_rate_multipliers={parameters[0][2]: 0.3},
        )
        adam = Adam(flat, [l2[r] for r in chosen])
        left, ends = list(chosen), {}
        for step in range(30):
            if step == 20 and 3 in left:
                place = left.index(3)
                ends[3] = flat.get(place)
                left.pop(place)
                others = [i for i in range(len(chosen)) if i != place]
                if not left:
                    break
                flat = flat.select(others)
                adam = adam.select(others, flat)
            flat.grads.zero_()
            sum(squared_error(model, x) for model in models).backward()
            adam.step([rates[r] * (0.5 if step > 9 and r == 1 else 1.0) for r in left])
        return ends | {r: flat.get(i) for i, r in enumerate(left)}

    together = trained([0, 1, 2, 3])
    assert set(together) == {0, 1, 2, 3}
    for r in range(4):
        torch.testing.assert_close(together[r], trained([r])[r], rtol=1e-12, atol=1e-13)


# -------------------------------------------------------------------------- annealing


@pytest.mark.parametrize("n_epochs", [1, 7, 100])
def test_the_rate_is_half_a_cosine(n_epochs):
    schedule = CosineSchedule(0.02, n_epochs)
    times = np.linspace(0, n_epochs, 57)
    rates = [schedule.rate(t) for t in times]
    expected = 0.02 * np.cos(np.pi * times / n_epochs / 2) ** 2
    np.testing.assert_allclose(rates, expected, atol=1e-16)
    assert rates[0] == 0.02
    assert rates[-1] == pytest.approx(0, abs=1e-18)
    assert not schedule.is_cooling


@pytest.mark.parametrize(
    ("epoch", "length"), [(10, 5), (1, 3), (50, 10), (97, 10), (99, 1)]
)
def test_cooling_down_is_a_straight_line_to_the_end(epoch, length):
    schedule = CosineSchedule(0.02, 100)
    before = schedule.rate(epoch)
    schedule.start_cooldown(epoch, length)
    assert schedule.is_cooling
    assert schedule.n_epochs == min(100, epoch + length)
    times = np.linspace(epoch, schedule.n_epochs, 23)
    rates = [schedule.rate(t) for t in times]
    np.testing.assert_allclose(rates, before * np.linspace(1, 0, 23), atol=1e-17)
    assert rates[-1] == 0


def test_cooling_down_after_the_last_epoch_ends_it():
    schedule = CosineSchedule(0.02, 20)
    schedule.start_cooldown(20, 10)
    assert schedule.n_epochs == 20


# ---------------------------------------------------------------------------- plateau


@properties
@hypothesis.given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=40),
    st.floats(0, 1),
    st.integers(1, 6),
)
def test_plateau_by_its_definition(values, tol, patience):
    plateau = Plateau(tol, patience)
    means = pd.Series(values).ewm(span=patience, adjust=False).mean().tolist()
    below = [
        (min(means[:t], default=math.inf) - tol) - mean for t, mean in enumerate(means)
    ]
    # Not where rounding decides.
    hypothesis.assume(all(b > 1e-9 or b < -1e-9 for b in below))
    for t, value in enumerate(values):
        is_best = plateau.update(value)
        assert is_best == (value < min(values[:t], default=math.inf))
        recent = below[max(0, t + 1 - patience) : t + 1]
        assert plateau.reached == (len(recent) == patience and max(recent) < 0)
    assert plateau.best == min(values)


def test_noise_does_not_end_what_still_improves():
    rng = np.random.default_rng(0)
    falling = Plateau(tol=1e-4, patience=10)
    for t in range(300):
        falling.update(-0.2 * t + rng.normal())
        assert not falling.reached
    for _ in range(100):
        falling.update(-60.0 + rng.normal())
    assert falling.reached


def test_plateau_needs_patience_in_a_row():
    plateau = Plateau(tol=0.1, patience=2)
    reached = []
    for value in (5.0, 5.0, 4.0, 4.0, 4.0, 4.0, 4.0):
        plateau.update(value)
        reached.append(plateau.reached)
    # Means over about two: 5, 5, 4.33, 4.11, 4.04, 4.01, 4.004.
    assert reached == [False, False, False, False, False, True, True]
    assert plateau.best == 4


# ------------------------------------------------------------------------------ train


class Hooks:
    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.calls, self.metrics, self.progress = [], [], []

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self, metrics, progress):
        self.calls.append("end")
        self.metrics.append(metrics)
        self.progress.append(progress)
        return len(self.metrics) == self.stop_after


def linear_regression(n=101, d=4):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, d))
    b = A @ [1, -2, 3, 0.5] + 4 + rng.normal(size=n)
    weight = rng.uniform(0.2, 3, size=n)
    return A, b, weight / weight.mean()


def run(batch_size, n_epochs, hooks=None, l2=0.0, rate=0.1, schedule=None):
    A, b, weight = linear_regression()
    layer = nn.Linear(4, 1).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    flat = FlatParameters([list(layer.parameters())], penalized=[layer.weight])
    batches = make_batches(np.column_stack([A, b]), weight=weight, batch_size=batch_size)
    hooks = hooks or Hooks()
    seen = []

    def step(y, row_weight, noise, progress):
        seen.append(progress[0])
        flat.grads.zero_()
        error = y[0, :, 4:] - layer(y[0, :, :4])
        value = 0.5 * (row_weight[0] * error.square()).sum()
        value.backward()
        mean = (row_weight[0, :, 0] * y[0, :, 0]).sum()
        return torch.stack([value.detach(), mean])[None]

    schedule = schedule or CosineSchedule(rate, n_epochs)
    train(step, batches, Adam(flat, [l2]), [schedule], [hooks])
    return flat.get(0).numpy(), hooks, seen


def solution(l2=0.0):
    A, b, weight = linear_regression()
    A1, root = np.column_stack([A, np.ones(len(A))]), np.sqrt(weight)[:, None]
    ridge = math.sqrt(l2 * len(A)) * np.eye(5)[:4]
    rows = np.vstack([root * A1, ridge])
    return np.linalg.lstsq(rows, np.append(root[:, 0] * b, np.zeros(4)))[0]


@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_training_on_all_rows_solves_least_squares(l2):
    values, hooks, _ = run(batch_size=200, n_epochs=600, l2=l2)
    np.testing.assert_allclose(values, solution(l2), atol=1e-6)
    A, b, weight = linear_regression()
    error = b - A @ values[:4] - values[4]
    final = 0.5 * np.mean(weight * error**2)
    assert hooks.metrics[-1][0] == pytest.approx(final, rel=1e-9)
    assert hooks.metrics[-1].dtype == np.float64


def test_training_on_batches_comes_near():
    values, _, _ = run(batch_size=16, n_epochs=300)
    np.testing.assert_allclose(values, solution(), atol=0.02)


@pytest.mark.parametrize(("batch_size", "n_epochs"), [(200, 1), (200, 3), (16, 1), (25, 6)])
def test_progress_ends_at_one(batch_size, n_epochs):
    _, hooks, seen = run(batch_size, n_epochs)
    n_steps = n_epochs * math.ceil(101 / batch_size)
    np.testing.assert_allclose(seen, np.arange(1, n_steps + 1) / n_steps, rtol=1e-15)
    assert seen[-1] == hooks.progress[-1] == 1
    assert hooks.calls == n_epochs * ["begin", "end"]


def test_metrics_are_means_over_the_batches():
    A, _, weight = linear_regression()
    _, hooks, _ = run(batch_size=200, n_epochs=2)
    for metrics in hooks.metrics:
        assert metrics[1] == pytest.approx(np.mean(weight * A[:, 0]), rel=1e-12)
    _, hooks, _ = run(batch_size=25, n_epochs=2)  # batches of 20 and 21
    for metrics in hooks.metrics:
        assert metrics[1] == pytest.approx(np.mean(weight * A[:, 0]), abs=0.01)


def test_a_hook_may_stop_it():
    _, hooks, seen = run(25, 10, Hooks(stop_after=3))
    assert hooks.calls == 3 * ["begin", "end"]
    assert len(seen) == 3 * 5
    assert seen[-1] == pytest.approx(0.3)


def test_an_early_cool_down_shortens_it():
    schedule = CosineSchedule(0.1, 50)

    class Cooling(Hooks):
        def on_epoch_end(self, metrics, progress):
            super().on_epoch_end(metrics, progress)
            if len(self.metrics) == 10:
                schedule.start_cooldown(10, 4)
            return False

    _, hooks, seen = run(25, 50, Cooling(), schedule=schedule)
    assert len(hooks.metrics) == 14
    assert len(seen) == 14 * 5


def test_a_rate_of_zero_changes_nothing():
    values, _, _ = run(batch_size=25, n_epochs=2, rate=0.0)
    np.testing.assert_array_equal(values, 0)


# -------------------------------------------------------------------- a fresh process


def in_a_fresh_process(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_skae_does_not_import_torch():
    modules = in_a_fresh_process(
        "import sys, skae\n"
        "assert 'VariationalAutoencoder' in dir(skae)\n"
        "print(*sys.modules)"
    )
    assert "skae" in modules
    assert not {m for m in modules if m.split(".")[0] in {"torch", "sklearn"}}


def test_a_fit_does_not_import_compilers():
    """torch.optim does so at its first step, and takes seconds."""
    before, after = (
        in_a_fresh_process(
            "import sys, numpy as np, torch\n"
            "from skae import VariationalAutoencoder\n"
            "X = np.random.RandomState(0).randn(60, 4)\n" + fit + "print(*sys.modules)"
        )
        for fit in (
            "",
            "VariationalAutoencoder(max_iter=3, alpha=0.1).fit(X).score(X)\n",
        )
    )
    assert "torch" in before
    new = after - before
    assert "torch._dynamo" not in after
    assert "torch._inductor" not in after
    assert "sympy" not in after
    assert not {m for m in new if m.startswith(("torch._", "torch.fx", "torch.optim"))}


def test_sizes_that_are_not_filled_up():
    """Every row of a batch of 33 is one of the data, each of them once."""
    batches = make_batches(numbered(99), batch_size=33, fill_up=False)
    for y, row_weight, _ in batches.epoch():
        assert len(y[0].unique(dim=0)) == y.shape[1] == 33
        assert (row_weight > 0).all()
    assert batches.select([0]).size == 33
