"""A small model for the tests of the objectives."""

import torch

from skae._module import AutoencoderModule, Spec
from skae.likelihoods import LIKELIHOODS
from skae.networks import MLP

D, K = 4, 2


def make_module(combination, n_heads=2, *, network=None, spread=0.5):
    """Make a module whose parameters are all different, and none of them 0 or 1."""
    name, mode, covariance_type = combination
    network = network or MLP((5,), activation="tanh")
    spec = Spec(D, K, n_heads, network, LIKELIHOODS[name](), mode, covariance_type)
    n_scales = D if covariance_type == "diag" else 1
    module = AutoencoderModule(
        spec,
        std_in_units=torch.tensor([0.5, 1.0, 2.0, 1.5], dtype=torch.float64),
        floor=torch.full((1, n_scales), 1e-4, dtype=torch.float64),
        generator=torch.Generator().manual_seed(0),
    ).double()
    generator = torch.Generator().manual_seed(0)
    module.scale.start(torch.linspace(0.6, 1.1, n_scales, dtype=torch.float64)[None])
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(0, spread, generator=generator)
        module.code_gain.uniform_(0.5, 1.5, generator=generator)
        module.latent_gain.uniform_(0.5, 1.5, generator=generator)
        module.loc_gain.uniform_(0.5, 1.5, generator=generator)
    return module
