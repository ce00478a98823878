"""The step of R models: compiled where their parts allow it, by autograd elsewhere."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skae._module import AutoencoderModule
from skae.engine.compiled import CompiledStep, is_compilable
from skae.engine.graph import GraphedStep
from skae.engine.halves import joined
from skae.networks.mlp import step_sizes
from skae.objectives import Objective
from skae.training import FlatParameters, Step


class AutogradStep:
    """The step of any models, one after the other.

    Parameters
    ----------
    modules : sequence of R AutoencoderModule
        The models.
    objectives : sequence of R Objective
        What they minimise.
    parameters : FlatParameters
        Their parameters.
    autocast : torch.dtype, default=None
        Lower precision for the products, by :class:`torch.autocast`.
    """

    def __init__(
        self,
        modules: Sequence[AutoencoderModule],
        objectives: Sequence[Objective],
        parameters: FlatParameters,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.modules = modules
        self.objectives = objectives
        self.parameters = parameters
        self.autocast = autocast

    def __call__(
        self, y: Tensor, share: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """See `skae.training.Step`."""
        self.parameters.grads.zero_()
        metrics = []
        for r, (module, objective) in enumerate(
            zip(self.modules, self.objectives, strict=True)
        ):
            with torch.autocast(
                y.device.type, self.autocast, enabled=self.autocast is not None
            ):
                loss, m = objective.loss(module, y[r], share[r], noise[r], progress[r])
            loss.backward()
            metrics.append(m)
        return torch.stack(metrics)


def flatten(
    modules: Sequence[AutoencoderModule],
    objective: Objective,
    autocast: torch.dtype | None = None,
) -> FlatParameters:
    """The parameters of some models in one buffer, laid out as their step wants them.

    Parameters
    ----------
    modules : sequence of R AutoencoderModule
        The models, alike but for their numbers; parameters that are frozen stay outside.
    objective : Objective
        What the first one minimises.
    autocast : torch.dtype, default=None
        Lower precision of the products, as for :func:`make_step`.

    Returns
    -------
    FlatParameters
        The parameters.
    """
    first = modules[0]
    compiled = _compiles(first, objective, autocast)
    paths = [first.linear_encoder, first.linear_decoder]
    networks = [first.encoder, first.decoder]
    halves = zip(paths, networks, strict=True) if compiled else ()
    return FlatParameters(
        [_trained(module) for module in modules],
        # The penalty pulls the networks' correction towards 0, so the model towards its
        # linear path; biases go free.
        penalized=[p for network in networks for p in _trained(network) if p.ndim > 1],
        joined=[pair for half in halves for pair in joined(*half)],
        may_transpose=compiled,
        step_sizes={
            p: size
            for network in networks
            for p, size in step_sizes(network).items()
            if p.requires_grad
        },
    )


def make_step(
    modules: Sequence[AutoencoderModule],
    objectives: Sequence[Objective],
    parameters: FlatParameters,
    n: int,
    autocast: torch.dtype | None = None,
) -> Step:
    """The fastest step that these models allow.

    Parameters
    ----------
    modules : sequence of R AutoencoderModule
        The models, alike but for their numbers.
    objectives : sequence of R Objective
        What they minimise, alike but for the weight of the KL.
    parameters : FlatParameters
        Their parameters.
    n : int
        Rows of a batch.
    autocast : torch.dtype, default=None
        Lower precision for the products; that is left to autograd.

    Returns
    -------
    Step
        A compiled step, on a GPU the CUDA graph of one, or an
        :class:`AutogradStep`.
    """
    if _compiles(modules[0], objectives[0], autocast):
        compiled = CompiledStep(modules, objectives, parameters, n)
        if parameters.values.device.type == "cuda":
            return GraphedStep(compiled)
        return compiled
    return AutogradStep(modules, objectives, parameters, autocast)


def _compiles(
    module: AutoencoderModule, objective: Objective, autocast: torch.dtype | None
) -> bool:
    return autocast is None and is_compilable(module, objective)


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]
