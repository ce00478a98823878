"""All registered networks, and user-defined ones."""

import pickle

import numpy as np
import pytest
import scipy.special
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.neural_network import MLPRegressor
from torch import nn

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._optim import learning_rate_multipliers
from skae.networks import ACTIVATIONS, MLP, NETWORKS, Network

SIZES = [(), 5, (6,), [8, 5, 3], np.array([4, 7])]
# The formula of each activation, by the names of scikit-learn's MLPRegressor.
FORMULAS = {
    "identity": lambda a: a,
    "logistic": scipy.special.expit,
    "relu": lambda a: np.maximum(a, 0),
    "tanh": np.tanh,
}

every_network = pytest.mark.parametrize("name", sorted(NETWORKS))
every_size = pytest.mark.parametrize("sizes", SIZES, ids=str)


class Tiny(BaseEstimator):
    """User-defined specification that is an estimator."""

    def __init__(self, width=4, bias=True):
        self.width = width
        self.bias = bias

    def encoder(self, n_features, n_outputs):
        return self._make(n_features, n_outputs)

    def decoder(self, n_components, n_outputs):
        return self._make(n_components, n_outputs)

    def _make(self, n_in, n_out):
        return nn.Sequential(
            nn.Linear(n_in, self.width, bias=self.bias),
            nn.GELU(),
            nn.Linear(self.width, n_out),
        )


class Plain:
    """User-defined specification without a base class, and with mutable state."""

    def __init__(self):
        self.widths = {"hidden": 3}

    def encoder(self, n_features, n_outputs):
        return Tiny(self.widths["hidden"]).encoder(n_features, n_outputs)

    def decoder(self, n_components, n_outputs):
        return Tiny(self.widths["hidden"]).decoder(n_components, n_outputs)


def linear_sizes(module):
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return [(m.in_features, m.out_features) for m in layers]


@pytest.fixture(scope="module", name="X")
def make_data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) + 3


# ----------------------------------------------------------------------- the registry


@every_network
def test_registered_networks_fulfil_the_contract(name):
    network = NETWORKS[name](hidden_layer_sizes=(4,), activation="tanh")
    assert isinstance(network, Network)
    assert isinstance(network, BaseEstimator)
    assert clone(network).get_params() == network.get_params()


@every_network
@every_size
def test_shapes(name, sizes):
    network = NETWORKS[name](hidden_layer_sizes=sizes, activation="relu")
    assert network.encoder(7, 4)(torch.randn(11, 7)).shape == (11, 4)
    assert network.decoder(3, 9)(torch.randn(11, 3)).shape == (11, 9)
    assert network.decoder(3, 9)(torch.randn(1, 3)).shape == (1, 9)


@every_network
@every_size
def test_output_starts_at_zero(name, sizes):
    network = NETWORKS[name](hidden_layer_sizes=sizes, activation="logistic")
    for module in (network.encoder(7, 4), network.decoder(7, 9)):
        assert (module(100 * torch.randn(11, 7)) == 0).all()


@every_network
def test_hidden_layers_start_at_random(name):
    network = NETWORKS[name](hidden_layer_sizes=(6, 4), activation="relu")
    encoder = network.encoder(7, 2)
    *hidden, output = [p for p in encoder.parameters() if p.ndim > 1]
    assert all(p.std() > 0.01 for p in hidden)
    # The zeros are not a dead point: the output layer has a gradient.
    encoder(torch.randn(20, 7)).sum().backward()
    assert output.grad.abs().max() > 0


@every_network
def test_no_hidden_layer_is_no_correction(name):
    network = NETWORKS[name](hidden_layer_sizes=(), activation="relu")
    for module in (network.encoder(7, 4), network.decoder(3, 9)):
        assert not list(module.parameters())
        assert not list(module.buffers())


@every_network
@every_size
def test_double_precision(name, sizes):
    network = NETWORKS[name](hidden_layer_sizes=sizes, activation="tanh")
    encoder = network.encoder(7, 4).double()
    assert encoder(torch.randn(11, 7, dtype=torch.float64)).dtype == torch.float64


# ------------------------------------------------------------------------------- MLP


def test_widths_are_mirrored():
    network = MLP([8, 5, 3])
    assert linear_sizes(network.encoder(7, 4)) == [(7, 8), (8, 5), (5, 3), (3, 4)]
    assert linear_sizes(network.decoder(2, 9)) == [(2, 3), (3, 5), (5, 8), (8, 9)]
    assert linear_sizes(MLP(6).encoder(7, 4)) == [(7, 6), (6, 4)]
    assert linear_sizes(MLP(6).decoder(2, 9)) == [(2, 6), (6, 9)]


def test_activations_have_the_names_of_scikit_learn():
    assert set(ACTIVATIONS) == set(FORMULAS)
    for name in ACTIVATIONS:
        MLPRegressor(activation=name)._validate_params()


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("coder", ["encoder", "decoder"])
def test_forward_equals_numpy(activation, coder):
    rng = np.random.default_rng(0)
    module = getattr(MLP((6, 3), activation=activation), coder)(4, 2).double()
    weights = [p for p in module.parameters() if p.ndim == 2]
    biases = [p for p in module.parameters() if p.ndim == 1]
    widths = {"encoder": [4, 6, 3, 2], "decoder": [4, 3, 6, 2]}[coder]
    assert [tuple(w.shape) for w in weights] == list(
        zip(widths[1:], widths[:-1], strict=True)
    )
    x = values = rng.normal(size=(10, 4))
    # The output layer is linear and has no bias, since the linear path has one.
    assert len(biases) == 2
    for weight, bias in zip(weights, [*biases, None], strict=True):
        W = rng.normal(size=weight.shape)
        with torch.no_grad():
            weight.copy_(torch.tensor(W))
        values = values @ W.T
        if bias is not None:
            b = rng.normal(size=bias.shape)
            with torch.no_grad():
                bias.copy_(torch.tensor(b))
            values = FORMULAS[activation](values + b)
    np.testing.assert_allclose(module(torch.tensor(x)).detach(), values, rtol=1e-10)


def test_multipliers_are_for_weights_between_wide_hidden_layers():
    network = MLP((64, 8, 160, 16)).encoder(500, 2)
    multipliers = learning_rate_multipliers(network)
    assert [network[i].weight for i in (2, 4, 6)] == list(multipliers)
    assert list(multipliers.values()) == [2 / 64, 2 / 8, 2 / 160]
    for narrow in (MLP((200,)), MLP(()), MLP((2, 200))):
        assert learning_rate_multipliers(narrow.encoder(500, 2)) == {}
    assert learning_rate_multipliers(nn.Linear(3, 3)) == {}


class Parametrized(MLP):
    """Network with weights that are computed from other parameters."""

    def _layers(self, sizes, n_outputs, generator):
        layers = super()._layers(sizes, n_outputs, generator)
        nn.utils.parametrizations.weight_norm(layers[2])
        return layers


def test_parametrized_layers_take_the_whole_rate(X):
    network = Parametrized((40, 30))
    assert learning_rate_multipliers(network.encoder(6, 2)) == {}
    vae = VariationalAutoencoder(2, network=network, max_iter=2, random_state=0).fit(X)
    assert np.isfinite(vae.score(X))


def test_wide_hidden_layers_stay_alive():
    """With one learning rate for all weights, nine in ten rectifiers would die."""
    rng = np.random.default_rng(0)
    bent = np.sin(rng.normal(size=(1500, 3)) @ rng.normal(size=(3, 20)))
    X = bent @ rng.normal(size=(20, 30)) + 0.3 * rng.normal(size=(1500, 30))
    vae = VariationalAutoencoder(3, hidden_layer_sizes=(256, 256), max_iter=10)
    module = vae.set_params(random_state=0, precision="float64").fit(X).module_
    y = torch.from_numpy((X - X.mean(axis=0)) / X.std(axis=0))
    codes = torch.from_numpy(vae.transform(X))
    for network, inputs in ((module.encoder, y), (module.decoder, codes)):
        hidden = network[:4](inputs)
        assert (hidden > 0).any(dim=0).double().mean() > 0.65


@pytest.mark.parametrize(
    "sizes", [0, -1, 2.5, (3, 0), (3, -2), (3.5,), "wide", ("3",), None, [[3, 4]]], ids=str
)
@pytest.mark.parametrize("coder", ["encoder", "decoder"])
def test_bad_sizes_raise(sizes, coder):
    with pytest.raises(ValueError, match="hidden_layer_sizes must be positive integers"):
        getattr(MLP(sizes), coder)(4, 2)


@pytest.mark.parametrize("sizes", [0, (3, 0), (3.5,), "wide", None], ids=str)
def test_bad_sizes_raise_at_fit(sizes, X):
    model = VariationalAutoencoder(hidden_layer_sizes=sizes)
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        model.fit(X)
    assert not hasattr(model, "module_")


def test_bad_activation_raises():
    with pytest.raises(ValueError, match=r"activation must be one of .*'softplus'"):
        MLP(activation="softplus").encoder(4, 2)


# ---------------------------------------------------------------------- user-defined


@pytest.mark.parametrize("network", [Tiny(), Plain()], ids=["estimator", "plain"])
@pytest.mark.parametrize("Model", [GaussianAutoencoder, VariationalAutoencoder])
def test_a_user_defined_network_works(Model, network, X):
    model = Model(network=network, max_iter=3, random_state=0).fit(X)
    assert model.transform(X).shape == (60, 2)
    assert model.inverse_transform(model.transform(X)).shape == (60, 5)
    assert np.isfinite(model.score(X))
    layers = [m for m in model.module_.modules() if isinstance(m, nn.GELU)]
    assert len(layers) == 2


def test_a_user_defined_network_is_trained_and_used(X):
    """The fit changes its weights, and the location depends on them."""
    model = VariationalAutoencoder(network=Tiny(), max_iter=20, random_state=0).fit(X)
    Z = np.random.default_rng(0).normal(size=(50, 2))
    on_a_line = model.inverse_transform(np.vstack([Z, -Z, 0 * Z])).reshape(3, 50, 5)
    curvature = on_a_line[0] + on_a_line[1] - 2 * on_a_line[2]  # 0 if it is linear
    assert np.abs(curvature).max() > 1e-3


def test_a_user_defined_network_has_the_extra_outputs_of_the_scale(X):
    model = VariationalAutoencoder(
        network=Tiny(width=3),
        variance_mode="predicted",
        covariance_type="diag",
        max_iter=2,
        random_state=0,
    ).fit(X)
    # The heads are 2 k outputs of the encoder; d locations and d scales those of the
    # decoder.
    assert linear_sizes(model.module_.encoder) == [(5, 3), (3, 4)]
    assert linear_sizes(model.module_.decoder) == [(2, 3), (3, 10)]


def test_parameters_of_a_network_can_be_searched(X):
    model = VariationalAutoencoder(network=MLP((4,)), max_iter=2, random_state=0)
    assert model.get_params()["network__hidden_layer_sizes"] == (4,)
    model.set_params(network__hidden_layer_sizes=(7, 3), network__activation="tanh")
    model.fit(X)
    assert linear_sizes(model.module_.encoder) == [(5, 7), (7, 3), (3, 4)]
    assert any(isinstance(m, nn.Tanh) for m in model.module_.modules())


def test_clone_copies_the_specification(X):
    model = VariationalAutoencoder(network=Tiny(width=3), max_iter=2, random_state=0)
    copy = clone(model).set_params(network__width=6)
    assert model.network.width == 3
    assert linear_sizes(copy.fit(X).module_.encoder) == [(5, 6), (6, 4)]
    assert linear_sizes(model.fit(X).module_.encoder) == [(5, 3), (3, 4)]


@pytest.mark.parametrize(
    "network", [Tiny(), Plain(), MLP((4,))], ids=["estimator", "plain", "mlp"]
)
def test_a_fit_does_not_depend_on_later_changes(network, X):
    model = VariationalAutoencoder(network=network, max_iter=2, random_state=0).fit(X)
    expected = model.score_samples(X)
    if isinstance(network, Plain):
        network.widths["hidden"] = 50
    elif isinstance(network, Tiny):
        network.width = 50
    else:
        network.hidden_layer_sizes = (50, 50)
    np.testing.assert_array_equal(model.score_samples(X), expected)
    # Unpickling builds the module anew from what was fitted.
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(X), expected)


def test_an_object_without_a_decoder_is_refused(X):
    class Coder:
        def encoder(self, n_features, n_outputs):
            """Return nothing: the fit must refuse the object before this call."""

    with pytest.raises(ValueError, match="'network' parameter"):
        VariationalAutoencoder(network=Coder()).fit(X)


def test_an_mlp_object_is_the_same_as_its_name(X):
    settings = {"max_iter": 5, "random_state": 3}
    by_name = VariationalAutoencoder(
        network="mlp", hidden_layer_sizes=(6, 4), activation="tanh", **settings
    )
    by_object = VariationalAutoencoder(network=MLP((6, 4), activation="tanh"), **settings)
    np.testing.assert_array_equal(
        by_name.fit(X).score_samples(X), by_object.fit(X).score_samples(X)
    )


class Flattened(nn.Module):
    """Linear map whose weight must be contiguous."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, n_inputs) / 4)
        self.last = nn.Linear(16, n_outputs)

    def forward(self, x):
        return self.last(x @ self.weight.view(-1).view(self.weight.shape).T)


class Viewing(BaseEstimator):
    """Specification of such maps."""

    def encoder(self, n_features, n_outputs):
        return Flattened(n_features, n_outputs)

    def decoder(self, n_components, n_outputs):
        return Flattened(n_components, n_outputs)


def test_user_defined_weights_keep_their_layout(X):
    """Only the weights of plain chains of layers are transposed in training."""
    model = VariationalAutoencoder(2, network=Viewing(), max_iter=2, random_state=0).fit(X)
    assert np.isfinite(model.score(X))
