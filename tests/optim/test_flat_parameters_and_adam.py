"""Flat parameters as views, and Adam against torch's."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from skae._optim import Adam, FlatParameters
from skae._optim.adam import update_norm, update_norms


def make_layers(seed=0):
    generator = torch.Generator().manual_seed(seed)
    layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    with torch.no_grad():
        for p in layers.parameters():
            p.normal_(generator=generator)
    return layers


def squared_error(layers, x):
    return (layers(x) - x[:, :2].square()).square().mean()


def without_padding(flat, buffer):
    """Copy a buffer without the padding between parameters."""
    return torch.cat([part.reshape(-1) for part in flat.views(buffer)])


def snapshots(adam):
    """Copy the state of all models."""
    snapshot = adam.snapshot()
    return snapshot.by_model(snapshot.finite_sums().tolist())


def test_flat_parameters_are_views():
    layers, x = make_layers(), torch.randn(9, 4, dtype=torch.float64)
    reference, expected = make_layers(), make_layers()(x)
    parameters = list(layers.parameters())
    flat = FlatParameters([parameters], penalized=parameters[:1])
    assert torch.equal(layers(x), expected)
    # Blocks of 20, 5, 10 and 2 numbers, padded to multiples of 16.
    assert flat.values.shape == flat.grads.shape == (32 + 16 + 16 + 16,)
    parts = [p.detach().reshape(-1) for p in reference.parameters()]
    assert torch.equal(without_padding(flat, flat.values), torch.cat(parts))
    assert torch.equal(flat.get(0), torch.cat(parts))
    assert flat.l2_factors([0.5]).tolist() == 20 * [0.5] + 60 * [0.0]

    squared_error(layers, x).backward()
    squared_error(reference, x).backward()
    parts = [p.grad.reshape(-1) for p in reference.parameters()]
    assert torch.equal(without_padding(flat, flat.grads), torch.cat(parts))
    flat.grads.zero_()
    assert all((p.grad == 0).all() for p in parameters)
    with torch.no_grad():
        flat.values.zero_()
    assert all((p == 0).all() for p in parameters)
    assert (layers(x) == 0).all()
    # A second backward pass also writes to the flat buffer.
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
    assert (without_padding(flat, flat.grads) == 1).all()
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
    assert torch.equal(
        penalty.views(penalty.l2_factors([1.0, 2.0, 3.0]))[1], expected.double()
    )


@pytest.mark.parametrize("may_transpose", [True, False])
def test_fused_parameters_are_one_block(may_transpose):
    """Two layers with the same input are one block, also after a move."""

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
        fused=pairs,
        may_transpose=may_transpose,
    )
    for pair, i, j in zip(pairs, (0, 1), (4, 5), strict=True):
        both = flat.stacked(*pair)
        expected = torch.stack([torch.cat([own[i], own[j]]) for own in before])
        assert torch.equal(both, expected)
    # A (16, 3) matrix has lines of a multiple of 16 numbers only if it lies transposed.
    assert flat.stacked(*pairs[0]).mT.is_contiguous() == may_transpose
    flat.stacked(*pairs[0]).grad += 1
    for model in models:
        assert (model[0].weight.grad == 1).all()
        assert (model[2].weight.grad == 1).all()
        assert (model[1].weight.grad == 0).all()
    penalty = flat.views(flat.l2_factors([1.0, 2.0, 3.0, 4.0]))
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
    run = some.of_models(some.values, 1, 2, multiplier=1.0)
    assert all(p.is_contiguous() and p.numel() % 16 == 0 for p in run)
    found = torch.cat([p.reshape(-1) for p in run])
    assert sorted(found[found != 0].tolist()) == sorted(kept[3].tolist())


def test_shared_parameter_is_penalized_once():
    layer = nn.Linear(2, 2)
    flat = FlatParameters([list(layer.parameters())], penalized=2 * [layer.weight])
    for some in (flat, flat.select([0])):
        assert without_padding(some, some.l2_factors([0.5])).tolist() == 4 * [0.5] + 2 * [
            0.0
        ]


def test_penalty_weights_are_factors_of_the_penalty():
    models = [make_layers(r) for r in range(3)]
    parameters = [list(model.parameters()) for model in models]
    first = parameters[0][0]
    factors = torch.rand(3, len(first), 1, dtype=torch.float64) + 1
    flat = FlatParameters(
        parameters, penalized=parameters[0][::2], penalty_weights={first: factors}
    )
    for chosen in ([0, 1, 2], [2, 0]):
        flat = flat if len(chosen) == 3 else flat.select(chosen)
        l2 = [0.5, 0.1, 2.0][: len(chosen)]
        views = flat.views(flat.l2_factors(l2))
        for r, model in enumerate(chosen):
            expected = l2[r] * factors[model].expand_as(first)
            assert torch.equal(views[0][r], expected)
            assert (views[2][r] == l2[r]).all()
            assert (views[1][r] == 0).all()


def watched_layers(n_models):
    """Return the flat parameters of models, whose last weight is watched, and Adam."""
    models = [make_layers(r) for r in range(n_models)]
    parameters = [list(model.parameters()) for model in models]
    flat = FlatParameters(parameters, watched=parameters[0][2])
    return flat, Adam(flat, n_models * [0.0])


def test_far_larger_gradients_are_clipped():
    """To three times the running norm of the watched gradient; others stay as they are."""
    flat, adam = watched_layers(2)
    generator = torch.Generator().manual_seed(0)
    usual = torch.randn(flat.grads.shape, dtype=torch.float64, generator=generator)
    # The first gradients have nothing to be compared to.
    for factor in [1e-9, 1.999999999, *47 * [1.0]]:
        flat.grads.copy_(factor * usual)
        adam.step([0.0, 0.0])
        assert torch.equal(flat.grads, factor * usual)
    flat.grads.copy_(usual)
    norm = torch.tensor(adam.norms, dtype=torch.float64)
    torch.testing.assert_close(norm, flat.watched_grads.flatten(1).norm(dim=1))
    flat.grads.copy_(2.9 * usual)
    adam.step([0.0, 0.0])
    assert torch.equal(flat.grads, 2.9 * usual)
    running = torch.tensor(adam.norms, dtype=torch.float64)
    torch.testing.assert_close(running, norm * (0.98 + 0.02 * 2.9))
    flat.grads.copy_(usual)
    for part in flat.blocks(flat.grads):
        part[1] *= 1000.0
    adam.step([0.0, 0.0])
    for part, whole in zip(flat.blocks(flat.grads), flat.blocks(usual), strict=True):
        assert torch.equal(part[0], whole[0])
        torch.testing.assert_close(part[1], whole[1] * 3 * running[1] / norm[1])


def test_norms_of_several_models_are_updated_like_one():
    running = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    norms = torch.tensor([0.0, 0.0, 2.0, 5.0, 7.0], dtype=torch.float64)
    for n_norms in (1, 7, 49, 50):
        updated, factors = update_norms(running, norms, n_norms)
        expected = [
            update_norm(r, n, n_norms)
            for r, n in zip(running.tolist(), norms.tolist(), strict=True)
        ]
        assert list(zip(updated.tolist(), factors.tolist(), strict=True)) == expected


def test_gradients_of_zero_do_not_stop_later_ones():
    flat, adam = watched_layers(1)
    for _ in range(60):
        flat.grads.zero_()
        adam.step([0.0])
    flat.grads.fill_(2.0)
    adam.step([0.0])
    assert (flat.watched_grads == 2.0).all()


def test_clipping_of_a_model_does_not_depend_on_the_others():
    def clipped(chosen):
        flat, adam = watched_layers(3)
        generator = torch.Generator().manual_seed(0)
        steps = 10 ** torch.randn(80, 3, dtype=torch.float64, generator=generator)
        if len(chosen) < 3:
            adam = adam.select(chosen)
            flat = adam.parameters
        for sizes in steps:
            for part in flat.blocks(flat.grads):
                line = torch.linspace(0, 1, part.shape[1], dtype=torch.float64)
                part.copy_(sizes[chosen][:, None] * line)
            adam.step(len(chosen) * [0.01])
        return [flat.get(r) for r in range(len(chosen))]

    together = clipped([0, 1, 2])
    for r in range(3):
        assert torch.equal(clipped([r])[0], together[r])


def test_empty_parameter():
    """A user's network may have a layer without outputs."""
    parameters = [nn.Parameter(torch.ones(2, 0)), nn.Parameter(torch.ones(3))]
    flat = FlatParameters([parameters])
    assert torch.equal(flat.get(0), torch.ones(3))
    assert [tuple(part.shape) for part in flat.views(flat.grads)] == [(1, 2, 0), (1, 3)]


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("sizes", [[], [0.2], [0.2, 1.0, 0.2, 3.0]])
def test_adam_equals_torch(l2, sizes):
    """Some parameters have a multiplier of the learning rate."""
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


def test_adam_in_float32_equals_torch():
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
    """Each model is updated as it would be alone, with its own rate and penalty.

    During the training, rates become different, and one model is removed.
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
                adam = adam.select(others)
                flat = adam.parameters
            flat.grads.zero_()
            sum(squared_error(model, x) for model in models).backward()
            adam.step([rates[r] * (0.5 if step > 9 and r == 1 else 1.0) for r in left])
        return ends | {r: flat.get(i) for i, r in enumerate(left)}

    together = trained([0, 1, 2, 3])
    assert set(together) == {0, 1, 2, 3}
    for r in range(4):
        torch.testing.assert_close(together[r], trained([r])[r], rtol=1e-12, atol=1e-13)


def advance(flat, adam, generator, n_steps=4):
    """Make some steps with gradients from a generator."""
    for _ in range(n_steps):
        for part in flat.views(flat.grads):
            part.normal_(generator=generator)
        adam.step(len(adam._l2_of_models) * [0.01])


@pytest.mark.parametrize("place", ["same", "after a selection", "new"])
def test_a_restored_state_goes_on(place):
    """A model goes back, and then makes the same steps: also at another place."""
    flat, adam = watched_layers(3)
    generator = torch.Generator().manual_seed(0)
    advance(flat, adam, generator)
    snapshot = snapshots(adam)[1]
    before, kept = generator.get_state(), snapshot.state()
    advance(flat, adam, generator)
    expected, mean = flat.get(1), flat.get(1, adam.mean)
    assert torch.equal(kept.values, snapshot.values())
    assert not torch.equal(kept.values, expected)
    r = 1
    if place == "after a selection":
        adam, r = adam.select([1, 2]), 0
    elif place == "new":
        _, adam = watched_layers(3)
    flat = adam.parameters
    adam.restore(r, kept.state())
    adam.resume(4)
    generator.set_state(before)
    if place == "after a selection":
        # The gradients of the first model are drawn before those of the second one.
        flat.grads.zero_()
        other, _ = watched_layers(3)
        for _ in range(4):
            for part, source in zip(
                flat.views(flat.grads), other.views(other.grads), strict=True
            ):
                part.copy_(source.normal_(generator=generator)[1:])
            adam.step([0.01, 0.01])
    else:
        advance(flat, adam, generator)
    assert torch.equal(flat.get(r), expected)
    assert torch.equal(flat.get(r, adam.mean), mean)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", ["values", "mean_square"])
def test_a_snapshot_says_what_is_finite(bad, where):
    """A model with a number that is not finite is found, and numbers of any size pass."""
    flat, adam = watched_layers(3)
    assert [each.is_finite() for each in snapshots(adam)] == [True] * 3
    largest = torch.finfo(flat.values.dtype).max
    for part in flat.views(flat.values):
        part[0].fill_(largest)
    assert not snapshots(adam)[0].has_finite_sum
    assert [each.is_finite() for each in snapshots(adam)] == [True] * 3
    buffer = flat.values if where == "values" else adam.mean_square
    flat.views(buffer)[1][2].view(-1)[0] = bad
    assert [each.is_finite() for each in snapshots(adam)] == [True, True, False]
