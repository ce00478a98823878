"""Convolutions for images."""

import copy
import pickle

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.nn import functional as F

from skae import VariationalAutoencoder
from skae._optim import learning_rate_multipliers
from skae.model_selection import BatchedGridSearchCV
from skae.networks import ACTIVATIONS, NETWORKS, Conv, Network, is_built_in
from skae.networks.layers import is_chain_of_layers, network_capabilities
from tests.helpers import assert_same_answers, every_estimator, models_in_turns, weights
from tests.surroundings import nothing_global_changes

SHAPES = [(1, 8, 8), (3, 5, 7), (2, 1, 1), (1, 1, 9), (4, 3, 2), (1, 13, 16)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
SIZES = [{"channels": 3}, {"channels": (4, 2, 3)}, {"channels": [2], "kernel_size": 5}]
SIZES += [{"channels": np.array([3, 2]), "kernel_size": 1, "hidden_layer_sizes": ()}]
SIZES += [{"channels": (2, 3), "hidden_layer_sizes": (5, 4), "activation": "tanh"}]
every_size = pytest.mark.parametrize("sizes", SIZES, ids=str)
SMALL = {"channels": (4, 3), "hidden_layer_sizes": (6,)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def size(shape):
    return int(np.prod(shape))


@pytest.fixture(scope="module", name="X")
def make_images():
    """Draw 90 images of 2 x 5 x 3 with blobs at several places."""
    rng = np.random.default_rng(0)
    row, column = rng.uniform(0, 4, size=90), rng.uniform(0, 2, size=90)
    rows, columns = np.arange(5)[:, None], np.arange(3)
    distance = (rows - row[:, None, None]) ** 2 + (columns - column[:, None, None]) ** 2
    blob = np.exp(-distance / 2)
    images = np.stack([blob, 1 - 0.5 * blob], axis=1) * rng.uniform(0.5, 1, (90, 2, 1, 1))
    return (images + 0.05 * rng.normal(size=images.shape)).reshape(90, 30)


def fit(X, model=VariationalAutoencoder, network=SMALL, **parameters):
    parameters = {"max_iter": 3, "random_state": 0} | parameters
    return model(network=Conv((2, 5, 3), **network), **parameters).fit(X)


# ------------------------------------------------------------------------- the modules


def test_the_contract():
    """Conv is a built-in network without a name."""
    network = Conv((1, 8, 8))
    assert isinstance(network, Network)
    assert is_built_in(network)
    assert Conv not in NETWORKS.values()
    assert clone(network).get_params() == network.get_params()
    assert repr(Conv((1, 8, 8), (4,))) == "Conv(channels=(4,), image_shape=(1, 8, 8))"


@every_shape
@every_size
def test_shapes(shape, sizes):
    """Input and output are 2-D, for one row and for several, with and without masks."""
    network, d = Conv(shape, **sizes), size(shape)
    for n_in in (d, 2 * d):
        encoder = network.encoder(n_in, 4)
        assert encoder(torch.randn(5, n_in)).shape == (5, 4)
        assert encoder(torch.randn(1, n_in)).shape == (1, 4)
    for n_outputs in (d, d + 1, 2 * d, 2 * d + 1, 7 * d, 10 * d + 1):
        decoder = network.decoder(3, n_outputs)
        assert decoder(torch.randn(5, 3)).shape == (5, n_outputs)
        assert decoder(torch.randn(1, 3)).shape == (1, n_outputs)


@every_shape
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_output_starts_at_zero(shape, activation):
    """The zeros are not a dead point: the output layers have gradients."""
    network = Conv(shape, (3, 4), hidden_layer_sizes=(9,), activation=activation)
    d = size(shape)
    for module, n_in in (
        (network.encoder(2 * d, 4, generator=generator(1)), 2 * d),
        (network.decoder(7, 3 * d, generator=generator(1)), 7),
        (network.decoder(7, 3 * d + 1, generator=generator(1)), 7),
    ):
        x = 100 * torch.randn(11, n_in, generator=generator())
        assert (module(x) == 0).all()
        module.double()
        output = module(x.double() / 100)
        assert output.dtype == torch.float64
        output.sum().backward()
        last = [p for p in module.parameters() if (p == 0).all()]
        assert last
        assert all(p.grad.abs().max() > 0 for p in last)


def test_encoder_is_a_chain_of_convolutions():
    """The output is computed again by one product for each patch of the image."""
    network = Conv((2, 5, 3), (4,), hidden_layer_sizes=(), activation="tanh")
    encoder = network.encoder(30, 2, generator=generator()).double()
    conv, last = encoder[1], encoder[-1]
    last.weight.data.normal_(generator=generator())
    x = torch.randn(7, 30, dtype=torch.float64, generator=generator())
    padded = F.pad(x.reshape(7, 2, 5, 3), (1, 1, 1, 1)).numpy()
    kernels = conv.weight.detach().numpy()
    maps = np.empty((7, 4, 3, 2))
    for i in range(3):
        for j in range(2):
            patch = padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            maps[:, :, i, j] = np.einsum("nchw,ochw->no", patch, kernels)
    hidden = np.tanh(maps + conv.bias.detach().numpy()[:, None, None])
    expected = hidden.reshape(7, -1) @ last.weight.detach().numpy().T
    np.testing.assert_allclose(encoder(x).detach().numpy(), expected, rtol=1e-10)


def test_masks_are_further_channels():
    """The second half of the inputs is the mask, channel by channel."""
    encoder = Conv((2, 5, 3), (4,), hidden_layer_sizes=()).encoder(60, 2)
    assert encoder[1].in_channels == 4
    seen = []
    encoder[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x, mask = torch.randn(7, 2, 5, 3), torch.randint(2, (7, 2, 5, 3)).float()
    encoder(torch.cat([x.flatten(1), mask.flatten(1)], dim=1))
    assert torch.equal(seen[0], torch.cat([x, mask], dim=1))


def test_outputs_of_the_decoder_are_images():
    """Locations, then what belongs to no pixel, then further images."""
    shape, d = (2, 5, 3), 30
    network = Conv(shape, (4, 3), hidden_layer_sizes=(), activation="logistic")
    decoder = network.decoder(2, 3 * d + 1, generator=generator())
    both = decoder[-1]
    conv = both.images[-4]
    assert conv.out_channels == 4 * 3 * 2
    # Each channel of the result has a constant of its own: four numbers of the layer.
    constants = torch.arange(6.0)
    conv.bias.data.copy_(constants.repeat_interleave(4))
    both.further.weight.data.fill_(1.0)
    outputs = decoder(torch.randn(7, 2, generator=generator())).detach()
    images = torch.cat([outputs[:, :d], outputs[:, d + 1 :]], dim=1).view(7, 6, 5, 3)
    assert (images == constants[:, None, None]).all()
    assert (outputs[:, d] > 0).all()
    assert outputs[:, d].unique().numel() == 7


def test_convolutions_of_the_decoder_are_local():
    """A unit before the last convolutions moves pixels near to it, and no others."""
    network = Conv((1, 16, 16), (2, 3), hidden_layer_sizes=(), activation="tanh")
    decoder = network.decoder(2, 256, generator=generator())
    conv = [m for m in decoder if isinstance(m, nn.Conv2d)][-1]
    conv.weight.data.normal_(generator=generator())
    first = next(i for i, m in enumerate(decoder) if isinstance(m, nn.Unflatten))
    features = torch.randn(1, 3 * 4 * 4, generator=generator())
    moved = features.view(1, 3, 4, 4).clone()
    moved[:, :, 0, 0] += 1
    one, other = (decoder[first:](f.flatten(1)) for f in (features, moved))
    changed = (one != other).view(16, 16)
    assert changed[:4, :4].any()
    assert not changed[10:].any()
    assert not changed[:, 10:].any()


def test_first_weights_are_those_of_torch():
    """They come from the generator alone, in the order of torch's constructor."""
    network = Conv((1, 8, 8), **SMALL)
    with nothing_global_changes():
        encoder = network.encoder(64, 4, generator=generator())
        decoder = network.decoder(2, 65, generator=generator())
        with torch.device("meta"):
            again = network.encoder(64, 4, generator=generator())
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        expected = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        torch.manual_seed(0)
        from_global = network.encoder(64, 4)
    assert type(encoder[1]) is nn.Conv2d
    assert repr(encoder[1]) == repr(expected)
    assert torch.equal(encoder[1].weight, expected.weight)
    assert torch.equal(encoder[1].bias, expected.bias)
    for one, two, three in zip(
        *(m.parameters() for m in (encoder, again, from_global)), strict=True
    ):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    assert all(p.dtype == torch.float32 for p in decoder.parameters())


def test_capabilities():
    """The modules are thread-safe, and trained by autograd."""
    network = Conv((1, 7, 7), **SMALL)
    for module in (network.encoder(49, 2), network.decoder(2, 50)):
        assert not is_chain_of_layers(module)
        assert network_capabilities(module).is_thread_safe
        assert not network_capabilities(module).has_analytic_gradient
        module[0].register_forward_hook(lambda *args: None)
        assert not network_capabilities(module).is_thread_safe


def test_all_parameters_take_a_fraction_of_the_learning_rate():
    """Those of the linear path take the whole rate."""
    network = Conv((1, 7, 7), **SMALL)
    for module in (network.encoder(49, 2), network.decoder(2, 50)):
        multipliers = learning_rate_multipliers(module)
        assert set(multipliers) == set(module.parameters())
        assert set(multipliers.values()) == {0.3}


# -------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_shape": (8, 8)}, r"image_shape must be three .*\(8, 8\)"),
        ({"image_shape": 64}, "image_shape must be three .* got 64"),
        ({"image_shape": None}, "image_shape must be three .* got None"),
        ({"image_shape": (1, 8, 0)}, "image_shape must be three positive integers"),
        ({"image_shape": (1, 8, 8.0)}, "image_shape must be three positive integers"),
        ({"image_shape": (True, 8, 8)}, "image_shape must be three positive integers"),
        ({"image_shape": "188"}, "image_shape must be three positive integers"),
        ({"channels": ()}, "channels must have at least one"),
        ({"channels": (4, 0)}, "channels must be positive integers"),
        ({"channels": "4"}, "channels must be positive integers"),
        ({"kernel_size": 2}, "kernel_size must be an odd number .* got 2"),
        ({"kernel_size": -1}, "kernel_size must be an odd"),
        ({"kernel_size": (3, 3)}, "kernel_size must be an odd"),
        ({"kernel_size": True}, "kernel_size must be an odd"),
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes must be positive"),
        ({"activation": "rleu"}, "activation must be one of .*'relu'"),
    ],
)
def test_bad_parameters(parameters, message):
    """The error names parameter and value, before the training."""
    network = Conv(**{"image_shape": (1, 8, 8)} | parameters)
    for build in (network.encoder, network.decoder):
        with pytest.raises(ValueError, match=message):
            build(64, 64)
    model = VariationalAutoencoder(network=network)
    with pytest.raises(ValueError, match=message):
        model.fit(load_digits().data[:50])
    assert not hasattr(model, "module_")


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 5, 3), r"1 x 5 x 3 = 15 features, but the data have 30 features"),
        ((2, 5, 6), r"2 x 5 x 6 = 60 features, but the data have 30 features"),
        ((1, 28, 28), r"1 x 28 x 28 = 784 features, but the data have 30 features"),
        ((1, 1, 1), r"1 x 1 x 1 = 1 features, but the data have 30 features"),
    ],
)
@pytest.mark.parametrize("holes", [False, True])
@every_estimator
def test_images_of_another_size(estimator, shape, text, holes, X, monkeypatch):
    """Half the features is an error too, although the masks of holes would fit."""
    monkeypatch.setattr("skae.estimators.base.train", lambda *args: pytest.fail("trained"))
    model = estimator(network=Conv(shape, **SMALL))
    if holes:
        X = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    with pytest.raises(ValueError, match=text):
        model.fit(X)
    assert not hasattr(model, "module_")


# --------------------------------------------------------------------- in an estimator


@every_estimator
def test_a_fit_begins_at_its_linear_path(estimator, X):
    """A fit without a step is that without a network."""
    parameters = {"max_iter": 1, "learning_rate_init": 1e-12, "random_state": 0}
    model = fit(X, estimator, **parameters)
    linear = estimator(hidden_layer_sizes=(), **parameters).fit(X)
    assert model.score(X) == pytest.approx(linear.score(X), abs=1e-4)


@models_in_turns
def test_every_likelihood_and_variance(likelihood, variance_mode, covariance_type, X):
    """Conv trains and scores in all modes, with holes too; it sees the holes."""
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    settings = {
        "likelihood": likelihood,
        "variance_mode": variance_mode,
        "covariance_type": covariance_type,
    }
    for data, n_channels in ((X, 2), (holes, 4)):
        model = fit(data, **settings)
        assert model.module_.encoder[1].in_channels == n_channels
        assert np.isfinite(model.score(data))
        assert np.isfinite(model.impute(data)).all()
        assert np.isfinite(model.sample(5, random_state=0)).all()


@every_estimator
@pytest.mark.parametrize(
    "settings",
    [
        {"early_stopping": True},
        {"n_init": 2},
        {"precision": "float64"},
        {"precision": "bf16"},
        {"warm_start": True},
        {"gradient_balance": True},
    ],
    ids=str,
)
def test_fits_are_reproducible_and_copies_are_equal(estimator, settings, X):
    """Fits of one seed are equal; clones, copies and pickles give the same results."""
    if estimator is not VariationalAutoencoder and "gradient_balance" in settings:
        settings = {"shuffle": False}
    with nothing_global_changes():
        model = fit(X, estimator, **settings)
        other = fit(X, estimator, **settings)
        if "warm_start" in settings:
            model.fit(X)
            other.fit(X)
        assert weights(model) == weights(other)
        assert_same_answers(model, copy.deepcopy(model), X)
        assert_same_answers(model, pickle.loads(pickle.dumps(model)), X)


def test_searches(X):
    """Parameters of the network can be searched, side by side too."""
    grid = {"network__channels": [(2,), (4, 3)], "network__kernel_size": [1, 3]}
    model = VariationalAutoencoder(
        network=Conv((2, 5, 3), **SMALL), init="random", max_iter=3, random_state=0
    )
    expected = GridSearchCV(model, grid, cv=2).fit(X)
    batched = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    with parallel_config("skae"):
        side_by_side = GridSearchCV(model, grid, cv=2).fit(X)
    scores = expected.cv_results_["mean_test_score"]
    assert len(set(scores)) == 4
    for search in (batched, side_by_side):
        np.testing.assert_array_equal(search.cv_results_["mean_test_score"], scores)
        assert weights(search.best_estimator_) == weights(expected.best_estimator_)


def test_a_fit_does_not_depend_on_later_changes(X):
    """The fitted model has its own copy of the specification."""
    channels = [4, 3]
    model = fit(X, network=SMALL | {"channels": channels})
    expected = model.score_samples(X)
    channels[0] = 50
    model.network.image_shape = (1, 1, 1)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(X), expected)


def test_convolutions_learn_what_moves(X):
    """Blobs at several places are no linear function of a code, but near to one of Conv."""
    settings = {"max_iter": 60, "learning_rate_init": 0.01, "alpha": 0.1}
    model = fit(X, network={"channels": (8, 8)}, **settings)
    linear = VariationalAutoencoder(hidden_layer_sizes=(), random_state=0).fit(X)
    assert model.score(X) > linear.score(X) + 1.0
