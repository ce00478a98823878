"""The step of R models: analytic if all their parts allow it, else by autograd."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skae._engine.analytic_step import AnalyticStep
from skae._engine.coder import fused_parameters
from skae._engine.graphed_step import Captures, GraphedStep
from skae._engine.tuned_step import TunedStep
from skae._module import AutoencoderModule
from skae._optim import FlatParameters, Step, learning_rate_multipliers
from skae._utils.device import has_graphs
from skae._utils.peers import ALONE, Peers
from skae._utils.random import Stream, replaced_global_generators
from skae.objectives import Objective


class AutogradStep:
    """The step of any models, computed one model after another.

    Parameters
    ----------
    modules : sequence of R AutoencoderModule
        The models.
    objectives : sequence of R Objective
        The objective of each model.
    parameters : FlatParameters
        The parameters of the models.
    autocast : torch.dtype, default=None
        Lower precision of the products, by :class:`torch.autocast`.
    streams : sequence of R sequences of Stream, default=()
        Sources of what each model draws from the global generators, for example dropout.
    """

    def __init__(
        self,
        modules: Sequence[AutoencoderModule],
        objectives: Sequence[Objective],
        parameters: FlatParameters,
        autocast: torch.dtype | None = None,
        streams: Sequence[Sequence[Stream]] = (),
    ) -> None:
        self.modules = modules
        self.objectives = objectives
        self.parameters = parameters
        self.autocast = autocast
        self.streams = streams or [()] * len(modules)

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """Compute the gradients and return the metrics; see `skae._optim.Step`."""
        self.parameters.grads.zero_()
        metrics = []
        models = zip(self.modules, self.objectives, self.streams, strict=True)
        for r, (module, objective, streams) in enumerate(models):
            lower_precision = torch.autocast(
                y.device.type, self.autocast, enabled=self.autocast is not None
            )
            with replaced_global_generators(*streams):
                with lower_precision:
                    loss, m = objective.loss(
                        module, y[r], row_weight[r], noise[r], progress[r]
                    )
                loss.backward()
            if self.autocast is not None:
                # Within an autocast of the user, torch would keep the rounded parameters.
                torch.clear_autocast_cache()
            metrics.append(m)
        return torch.stack(metrics)


class SummedStep:
    """A step of which each process computes a part: its gradients are summed.

    The metrics stay those of this process.

    Parameters
    ----------
    step : callable
        The step of this process.
    parameters : FlatParameters
        The parameters of the models.
    peers : Peers
        The processes.
    """

    def __init__(self, step: Step, parameters: FlatParameters, peers: Peers) -> None:
        self.step = step
        self.parameters = parameters
        self.peers = peers

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """Compute the gradients and return the metrics; see `skae._optim.Step`."""
        metrics = self.step(y, row_weight, noise, progress)
        self.peers.sum_(self.parameters.grads)
        return metrics


def flatten(
    modules: Sequence[AutoencoderModule],
    objective: Objective,
    autocast: torch.dtype | None = None,
) -> FlatParameters:
    """Move the parameters of R models into one buffer, in the layout of their step.

    The models differ only in the values of their parameters; frozen parameters do not move.
    The objective is that of the first model; ``autocast`` is that of :func:`make_step`.
    """
    first = modules[0]
    watched = first.linear_decoder.weight
    is_analytic = _is_analytic(first, objective, autocast)
    paths = [first.linear_encoder, first.linear_decoder]
    networks = [first.encoder, first.decoder]
    coders = zip(paths, networks, strict=True) if is_analytic else ()
    return FlatParameters(
        [_trainable_parameters(module) for module in modules],
        # The penalty pulls the corrections of the networks towards 0, and so the model
        # towards its linear path. Biases are not penalised.
        penalized=[
            p for network in networks for p in _trainable_parameters(network) if p.ndim > 1
        ],
        fused=[pair for coder in coders for pair in fused_parameters(*coder)],
        may_transpose=is_analytic,
        learning_rate_multipliers={
            p: multiplier
            for network in networks
            for p, multiplier in learning_rate_multipliers(network).items()
            if p.requires_grad
        },
        penalty_weights=_penalty_weights(modules),
        # The linear path of the decoder is part of every model, and a row that the
        # likelihood finds very unlikely shows there.
        watched=watched if watched.requires_grad else None,
    )


def make_step(
    modules: Sequence[AutoencoderModule],
    objectives: Sequence[Objective],
    parameters: FlatParameters,
    n: int,
    autocast: torch.dtype | None = None,
    streams: Sequence[Sequence[Stream]] = (),
    most_threads: int = 1,
    peers: Peers = ALONE,
    captures: Captures | None = None,
) -> Step:
    """Make the fastest step that these models allow.

    The models differ in the values of their parameters only, and their objectives in the
    weight of the KL only. ``n`` is the number of rows of a batch. ``autocast`` is a lower
    precision of the products, for which the step is an :class:`AutogradStep`. ``streams``
    are those of an :class:`AutogradStep`. On a CPU an analytic step may use up to
    ``most_threads``, whatever number of threads is set. ``peers`` are the processes that
    compute a step. ``captures`` are those of the training that the step belongs to.
    """
    if not peers.is_alone:
        # Without a graph, and without trials of a step: the step may communicate.
        own: Step = AutogradStep(modules, objectives, parameters, autocast, streams)
        if _is_analytic(modules[0], objectives[0], autocast):
            own = AnalyticStep(modules, objectives, parameters, n)
        return SummedStep(own, parameters, peers)
    if _is_analytic(modules[0], objectives[0], autocast):
        step = AnalyticStep(modules, objectives, parameters, n)
        device = parameters.values.device
        captures = captures or Captures()
        if has_graphs(device) and captures.error is None:
            return GraphedStep(step, captures)
        # Threads of the host compute nothing for another device.
        if device.type == "cpu" and most_threads > 1:
            return TunedStep(step, most_threads)
        return step
    return AutogradStep(modules, objectives, parameters, autocast, streams)


def _is_analytic(
    module: AutoencoderModule, objective: Objective, autocast: torch.dtype | None
) -> bool:
    """Whether the step of a model is analytic."""
    capabilities = module.capabilities & objective.capabilities
    return autocast is None and capabilities.has_analytic_gradient


def _penalty_weights(modules: Sequence[AutoencoderModule]) -> dict[Tensor, Tensor]:
    """Return the factors of the penalty of the decoder's last layer, ``(R, n_outputs, 1)``.

    A network other than a chain of layers has none.
    """
    first, decoder = modules[0], modules[0].decoder
    last = list(decoder)[-1:] if type(decoder) is nn.Sequential else []
    width = first.linear_decoder.out_features
    if not last or type(last[0]) is not nn.Linear or last[0].out_features != width:
        return {}
    weights = first.loc_penalty.new_ones(len(modules), width, 1)
    for r, module in enumerate(modules):
        weights[r, : len(module.loc_penalty), 0] = module.loc_penalty
    return {last[0].weight: weights} if last[0].weight.requires_grad else {}


def _trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module that are not frozen."""
    return [p for p in module.parameters() if p.requires_grad]
