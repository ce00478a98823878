"""Residual blocks, layer normalisation and dropout of the multilayer perceptron."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skae import VariationalAutoencoder
from skae._engine.analytic_step import AnalyticStep
from skae._engine.step import AutogradStep, flatten, make_step
from skae._optim import learning_rate_multipliers
from skae.model_selection import BatchedGridSearchCV
from skae.networks import ACTIVATIONS, MLP
from skae.networks.layers import is_chain_of_layers, network_capabilities
from skae.networks.mlp import Residual
from tests.helpers import assert_same_answers, every_estimator, models_in_turns, weights
from tests.surroundings import nothing_global_changes

OPTIONS = {
    "residual": {"residual": True},
    "norm": {"layer_norm": True},
    "dropout": {"dropout": 0.2},
    "all": {"residual": True, "layer_norm": True, "dropout": 0.2},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fit(X, options, model=VariationalAutoencoder, **parameters):
    parameters = {"max_iter": 4, "random_state": 0} | parameters
    return model(network=MLP((8, 8), **options), **parameters).fit(X)


def test_defaults_are_the_plain_chain(X):
    """Without options the module is that of torch's layers, with the same draws."""
    network = MLP((5, 4), activation="tanh").encoder(7, 3, generator=generator())
    assert [type(layer) for layer in network] == [
        *(nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear),
    ]
    assert is_chain_of_layers(network)
    source = generator()
    for linear, sizes in zip(network[::2], [(5, 7), (4, 5)], strict=False):
        for parameter in (linear.weight, linear.bias):
            bound = sizes[1] ** -0.5
            expected = torch.empty(parameter.shape).uniform_(
                -bound, bound, generator=source
            )
            torch.testing.assert_close(parameter.detach(), expected)
    plain = VariationalAutoencoder(
        hidden_layer_sizes=(8, 8), max_iter=4, random_state=0
    ).fit(X)
    explicit = {"residual": False, "layer_norm": False, "dropout": 0.0}
    assert weights(fit(X, explicit)) == weights(plain)


@pytest.mark.parametrize("sizes", [(), (6,)])
def test_residual_blocks_begin_at_the_second_layer(sizes):
    """With one hidden layer the linear path is the only shortcut."""
    one, other = (MLP(sizes, residual=r).encoder(7, 3) for r in (True, False))
    assert list(map(type, one.modules())) == list(map(type, other.modules()))


@every_option
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("sizes", [(6,), (6, 6), (6, 4, 4, 6)])
def test_forward_is_the_formula(options, activation, sizes):
    """The output in evaluation mode is computed again with numpy."""
    mlp = MLP(sizes, activation=activation, **options)
    network = mlp.encoder(7, 3, generator=generator()).double().eval()
    rng = np.random.default_rng(0)
    for parameter in network.parameters():
        values = torch.from_numpy(rng.normal(size=parameter.shape))
        parameter.data.copy_(values)
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in network.modules() if isinstance(m, nn.LayerNorm)]
    chain = [m for m in linears if m.bias is not None] + linears[-1:]
    shortcuts = [m for m in linears[:-1] if m.bias is None]
    formulas = {
        "identity": lambda h: h,
        "logistic": lambda h: 1 / (1 + np.exp(-h)),
        "relu": lambda h: np.maximum(h, 0),
        "tanh": np.tanh,
    }

    def affine(layer, h):
        bias = 0 if layer.bias is None else layer.bias.detach().numpy()
        return h @ layer.weight.detach().numpy().T + bias

    x = rng.normal(size=(5, 7))
    h = affine(chain[0], x)
    for layer in chain[1:]:
        inner = h
        if norms:
            norm = norms.pop(0)
            centred = h - h.mean(axis=1, keepdims=True)
            inner = centred / np.sqrt(h.var(axis=1, keepdims=True) + norm.eps)
            inner = inner * norm.weight.detach().numpy() + norm.bias.detach().numpy()
        update = affine(layer, formulas[activation](inner))
        if layer is chain[-1] or not options.get("residual"):
            h = update
        elif update.shape == h.shape:
            h = h + update
        else:
            h = affine(shortcuts.pop(0), h) + update
    assert not shortcuts
    assert not norms
    found = network(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, h, rtol=1e-9)


@every_option
def test_first_weights_come_from_the_generator(options):
    """Nothing global is drawn, whatever torch's defaults are; the output starts at 0."""
    with nothing_global_changes():
        mlp = MLP((6, 4), **options)
        one = mlp.encoder(7, 3, generator=generator())
        with torch.device("meta"):
            other = mlp.encoder(7, 3, generator=generator())
    assert (one.eval()(100 * torch.ones(11, 7)) == 0).all()
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.dtype == torch.float32
    source = generator()
    first = mlp.encoder(7, 3, generator=source)
    second = mlp.encoder(7, 3, generator=source)
    assert not torch.equal(first[0].weight, second[0].weight)


@every_option
def test_fits_use_autograd(options, X):
    """With an option the network is no chain, and only dropout is not thread-safe."""
    module = fit(X, options).module_.requires_grad_()
    assert not is_chain_of_layers(module.encoder)
    capabilities = network_capabilities(module.decoder)
    assert not capabilities.has_analytic_gradient
    assert capabilities.is_thread_safe == ("dropout" not in options)
    objective = VariationalAutoencoder()._make_objective()
    step = make_step([module], [objective], flatten([module], objective), 10)
    assert isinstance(step, AutogradStep)
    plain = fit(X, {}).module_.requires_grad_()
    step = make_step([plain], [objective], flatten([plain], objective), 10)
    assert isinstance(step, AnalyticStep)


@every_estimator
@every_option
def test_a_fit_begins_at_its_linear_path(estimator, options, X):
    """A fit without a step is that without a network."""
    parameters = {"max_iter": 1, "learning_rate_init": 1e-12, "random_state": 0}
    model = fit(X, options, estimator, **parameters)
    linear = estimator(hidden_layer_sizes=(), **parameters).fit(X)
    assert model.score(X) == pytest.approx(linear.score(X), abs=1e-5)


@every_estimator
@every_option
def test_fits_are_reproducible_and_copies_are_equal(estimator, options, X):
    """Fits of one seed are equal; clones, copies and pickles give the same results."""
    with nothing_global_changes():
        model = fit(X, options, estimator, early_stopping=True)
        assert weights(model) == weights(clone(model).fit(X))
        assert_same_answers(model, copy.deepcopy(model), X)
        assert_same_answers(model, pickle.loads(pickle.dumps(model)), X)
    assert model.get_params()["network__layer_norm"] == options.get("layer_norm", False)


@models_in_turns
def test_every_likelihood_and_variance(likelihood, variance_mode, covariance_type, X):
    """All options at once train and score, with holes in the data too."""
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    for data in (X, holes):
        model = fit(
            data,
            OPTIONS["all"],
            likelihood=likelihood,
            variance_mode=variance_mode,
            covariance_type=covariance_type,
            max_iter=2,
        )
        assert np.isfinite(model.score(data))
        assert np.isfinite(model.impute(data)).all()


def test_options_can_be_searched(X):
    """Candidates differ, and a search side by side has the results of one by one."""
    grid = {
        "network__dropout": [0.0, 0.5],
        "network__residual": [False, True],
        "network__layer_norm": [False, True],
    }
    model = VariationalAutoencoder(network=MLP((8, 8)), max_iter=3, random_state=0)
    model.set_params(init="random")
    one = GridSearchCV(model, grid, cv=2).fit(X).cv_results_["mean_test_score"]
    other = BatchedGridSearchCV(model, grid, cv=2).fit(X).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(one, other)
    assert len(set(one)) == 8


def test_dropout_is_that_of_training_only(X):
    """A hidden unit is 0 with the given probability, and scores have no dropout."""
    seen = []
    model = VariationalAutoencoder(
        network=MLP((64,), activation="identity", dropout=0.25),
        max_iter=1,
        random_state=0,
    )

    def watch(layer, args, output):
        if isinstance(layer, nn.Dropout):
            seen.append((layer.training, float((output == 0).double().mean())))

    handle = nn.modules.module.register_module_forward_hook(watch)
    try:
        model.fit(X).score(X)
    finally:
        handle.remove()
    shares = [share for training, share in seen if training]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.02)
    assert {share for training, share in seen if not training} == {0.0}


def test_multipliers_are_for_weights_between_hidden_layers():
    """Those inside of residual blocks, too."""
    network = MLP((64, 8, 160), residual=True, layer_norm=True).encoder(500, 2)
    multipliers = learning_rate_multipliers(network)
    blocks = [m for m in network if isinstance(m, Residual)]
    first, second = (block.layers[-1].weight for block in blocks)
    assert multipliers == {
        first: 2 / 64,
        blocks[0].shortcut.weight: 2 / 64,
        second: 2 / 8,
        blocks[1].shortcut.weight: 2 / 8,
    }
    assert second.shape == (160, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(["dropout"], [-0.1, 1.0, 1, np.nan, "0.1", None, True]),
        *itertools.product(["residual", "layer_norm"], [1, 0, None, "yes"]),
    ],
)
def test_bad_options_raise_before_training(name, value, X):
    """The error names the parameter and the value."""
    network = MLP(**{name: value})
    for build in (network.encoder, network.decoder):
        with pytest.raises(ValueError, match=rf"{name} must be .*{value!r}"):
            build(4, 2)
    model = VariationalAutoencoder(network=network)
    with pytest.raises(ValueError, match=f"{name} must be"):
        model.fit(X)
    assert not hasattr(model, "module_")


def test_good_options():
    """numpy's numbers and bools are numbers and bools."""
    MLP((3, 3), residual=np.True_, layer_norm=np.False_, dropout=np.float32(0.5)).encoder(
        4, 2
    )
    assert isinstance(MLP((3,), dropout=0).encoder(4, 2)[-1], nn.Linear)


def test_pickles_of_former_versions(X):
    """They have no options, which then have their defaults."""
    model = fit(X, {})
    expected = model.score_samples(X)
    for network in (model.network, model.module_.spec.network):
        for name in ("residual", "layer_norm", "dropout"):
            del vars(network)[name]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(X), expected)
    assert again.network.get_params() == MLP((8, 8)).get_params()
