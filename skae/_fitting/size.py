"""The memory that a training needs at least, checked before a model is built."""

from itertools import pairwise

import torch

from skae._fitting.problem import TrainingOptions
from skae._module import Spec
from skae._utils.memory import require_memory
from skae.networks import MLP
from skae.networks.mlp import hidden_widths
from skae.objectives import Objective

# Further numbers that a training keeps for each parameter: the gradient and two moments of
# Adam.
_FURTHER = 3


def check_memory(
    spec: Spec,
    objective: Objective,
    options: TrainingOptions,
    epoch_size: int,
    n_init: int,
    device: torch.device,
    n_processes: int = 1,
) -> None:
    """Raise MemoryError if the parameters or a batch need more than this machine has.

    The numbers are lower bounds, so that no training that is possible is refused. Nothing
    is known of the parameters of a user's network. The processes of a fit divide a batch.
    """
    d, k = spec.n_features, spec.n_components
    widths: tuple[int, ...] = ()
    if type(spec.network) is MLP:
        widths = hidden_widths(spec.network.hidden_layer_sizes)
    n_codes, itemsize = spec.n_heads * k, options.dtype.itemsize
    n_weights = d * (n_codes + k)
    if widths:
        layers = *pairwise((d, *widths, n_codes)), *pairwise((d, *widths, k))
        n_weights += sum(a * b for a, b in layers)
    require_memory(
        (int(n_init) + _FURTHER) * n_weights * itemsize,
        f"A model of {n_weights:.3g} parameters, with n_init={n_init},",
        "Lower hidden_layer_sizes, n_components or n_init.",
    )
    n_rows = -(-min(options.rows_per_batch(epoch_size), epoch_size) // n_processes)
    n_draws, width = max(int(objective.n_mc_samples), 1), max(d, n_codes, *widths)
    require_memory(
        n_rows * n_draws * width * itemsize,
        f"A batch of {n_rows} rows, {n_draws:.3g} draws for each and {width:.3g} units",
        "Lower batch_size, n_mc_samples or hidden_layer_sizes.",
        device,
    )
