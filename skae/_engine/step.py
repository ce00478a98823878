"""The step of R models: compiled where their parts allow it, by autograd elsewhere."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skae._engine.analytic_step import AnalyticStep
from skae._engine.coder import fused_parameters
from skae._engine.cuda_graph import GraphedStep
from skae._module import AutoencoderModule
from skae._optim import FlatParameters, Step, learning_rate_multipliers
from skae.objectives import Objective


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
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """See `skae._optim.Step`."""
        self.parameters.grads.zero_()
        metrics = []
        for r, (module, objective) in enumerate(
            zip(self.modules, self.objectives, strict=True)
        ):
            with torch.autocast(
                y.device.type, self.autocast, enabled=self.autocast is not None
            ):
                loss, m = objective.loss(module, y[r], row_weight[r], noise[r], progress[r])
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
    compiled = _is_analytic(first, objective, autocast)
    paths = [first.linear_encoder, first.linear_decoder]
    networks = [first.encoder, first.decoder]
    halves = zip(paths, networks, strict=True) if compiled else ()
    return FlatParameters(
        [_trained(module) for module in modules],
        # The penalty pulls the networks' correction towards 0, so the model towards its
        # linear path; biases go free.
        penalized=[p for network in networks for p in _trained(network) if p.ndim > 1],
        fused=[pair for half in halves for pair in fused_parameters(*half)],
        may_transpose=compiled,
        learning_rate_multipliers={
            p: size
            for network in networks
            for p, size in learning_rate_multipliers(network).items()
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
    if _is_analytic(modules[0], objectives[0], autocast):
        compiled = AnalyticStep(modules, objectives, parameters, n)
        if parameters.values.device.type == "cuda":
            return GraphedStep(compiled)
        return compiled
    return AutogradStep(modules, objectives, parameters, autocast)


def _is_analytic(
    module: AutoencoderModule, objective: Objective, autocast: torch.dtype | None
) -> bool:
    """Whether the step of a model is written out."""
    capabilities = module.capabilities & objective.capabilities
    return autocast is None and capabilities.has_analytic_gradient


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]
