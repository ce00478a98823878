"""The torch module: its copy in another precision, and the capabilities of its parts."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.networks import MLP, ModelPart


@pytest.fixture(name="model")
def fitted_model(X):
    return GaussianAutoencoder(2, max_iter=3, random_state=0).fit(X)


def in_double(model):
    exact = model._standardization.module_buffers
    return model.module_.in_precision(torch.float64, exact)


def test_own_precision_needs_no_copy(model):
    exact = model._standardization.module_buffers
    assert model.module_.in_precision(torch.float32, exact) is model.module_


def test_the_copy_in_double_precision_is_kept(model, X):
    model.transform(X)
    double = in_double(model)
    assert double.dtype == torch.float64
    model.score(X)
    assert in_double(model) is double
    expected = torch.tensor(model._standardization.std_in_units)
    torch.testing.assert_close(double.std_in_units, expected, rtol=0, atol=0)


def change_in_place(module):
    with torch.no_grad():
        module.linear_decoder.bias += 1


def replace_memory(module):
    module.linear_decoder.bias.data = module.linear_decoder.bias.data + 1


def change_a_buffer(module):
    module.loc_gain.mul_(2)


def load_a_state(module):
    module.load_state_dict({k: v + 1 for k, v in module.state_dict().items()})


def change_behind_versions(module):
    module.linear_decoder.bias.data.add_(1)


def change_through_numpy(module):
    module.linear_decoder.bias.numpy()[:] += 1


def replace_a_layer(module):
    module.encoder[1] = nn.Tanh()
    with torch.no_grad():
        module.encoder[2].weight += 1


CHANGES = [
    change_in_place,
    replace_memory,
    change_a_buffer,
    load_a_state,
    change_behind_versions,
    change_through_numpy,
    replace_a_layer,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_module_has_a_current_copy(change, model, X):
    """Codes and reconstructions in double precision are those of the changed module."""
    before = model.reconstruct(X)
    change(model.module_)
    after = model.reconstruct(X)
    assert np.abs(after - before).max() > 1e-3
    module = copy.deepcopy(model.module_).double()
    module.std_in_units.copy_(torch.tensor(model._standardization.std_in_units))
    standardization = model._standardization
    y = torch.tensor(standardization.standardize(X))
    loc = module.decode(module.encode(y))[0].detach().numpy()
    expected = loc * standardization.likelihood_unit + standardization.mean
    np.testing.assert_allclose(after, expected, rtol=1e-12)


def test_a_hook_sees_calls_in_double_precision(model, X):
    """A hook that is added after a first call is called in both precisions."""
    model.transform(X)
    dtypes = []
    model.module_.linear_encoder.register_forward_hook(
        lambda module, inputs, output: dtypes.append(output.dtype)
    )
    model.transform(X)
    model.transform(X.astype(np.float32))
    assert dtypes == [torch.float64, torch.float32]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_the_copy_is_not_part_of_the_state(copied, model, X):
    """Neither a pickle nor a deep copy of module or estimator holds the double copy."""
    size, keys = len(pickle.dumps(model)), set(model.module_.state_dict())
    names, attributes = list(model.module_.named_modules()), set(vars(model))
    model.transform(X)
    assert len(pickle.dumps(model)) == size
    assert set(model.module_.state_dict()) == keys
    assert list(model.module_.named_modules()) == names
    assert set(vars(model)) == attributes
    module = copied(model.module_)
    assert "_copy" not in vars(module)
    assert module.dtype == torch.float32
    assert isinstance(module, nn.Module)


def test_a_refit_drops_the_copy(model, X):
    model.transform(X)
    double = in_double(model)
    model.fit(X[:60])
    assert in_double(model) is not double


def test_a_module_that_was_loaded_in_inference_mode(model, X):
    """The copy can be made and refreshed in any mode of torch."""
    with torch.inference_mode():
        loaded = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))


class Squared(nn.Module):
    """A network of the user's own, which declares nothing."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, x):
        return 0.1 * self.linear(x) ** 2


class ThreadSafe(Squared, ModelPart):
    """The same network, declared to be thread-safe."""

    is_thread_safe = True


class Changed(ThreadSafe):
    """A subclass, which has to declare for itself."""


class Recipe(MLP):
    """A recipe for networks of one class."""

    def __init__(self, kind=Squared):
        self.kind = kind

    def encoder(self, n_features, n_outputs):
        return self.kind(n_features, n_outputs)

    def decoder(self, n_components, n_outputs):
        return self.kind(n_components, n_outputs)


def capabilities_in_training(**parameters):
    """Those of a module whose weights are trained."""
    X = np.random.default_rng(0).normal(size=(40, 4))
    vae = VariationalAutoencoder(2, max_iter=1, random_state=0, **parameters).fit(X)
    return copy.deepcopy(vae.module_).requires_grad_().capabilities


def test_the_built_in_parts_have_all_capabilities():
    for network in (MLP((5,)), MLP((4, 3)), MLP(())):
        capabilities = capabilities_in_training(network=network)
        assert capabilities.has_analytic_gradient
        assert capabilities.is_thread_safe
        assert capabilities.batch_key is not None


@pytest.mark.parametrize("kind", [Squared, ThreadSafe, Changed])
def test_a_network_declares_its_capabilities(kind):
    capabilities = capabilities_in_training(network=Recipe(kind))
    assert capabilities.is_thread_safe == (kind is ThreadSafe)
    assert not capabilities.has_analytic_gradient
    assert capabilities.batch_key is None


def test_batch_keys_tell_shapes_and_densities_apart():
    """Models with equal keys are interchangeable but for their numbers."""
    keys = [
        capabilities_in_training(**parameters).batch_key
        for parameters in (
            {},
            {"hidden_layer_sizes": (5,)},
            {"activation": "tanh"},
            {"likelihood": "laplace"},
            {"covariance_type": "diag"},
            {"variance_mode": "learned"},
        )
    ]
    assert len(set(keys)) == len(keys)
    assert capabilities_in_training(beta=3.0, alpha=0.1).batch_key == keys[0]


def test_a_frozen_weight_has_no_analytic_gradient(model):
    module = copy.deepcopy(model.module_).requires_grad_()
    assert module.capabilities.has_analytic_gradient
    module.decoder[0].weight.requires_grad_(False)
    assert not module.capabilities.has_analytic_gradient
