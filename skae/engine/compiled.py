"""The step of the built-in parts: forward and backward without autograd."""

from collections.abc import Sequence

import torch
from torch import Tensor

from skae._module import AutoencoderModule
from skae.engine.latents import LATENTS
from skae.engine.layers import Dense, Half, is_known, make_layer
from skae.likelihoods import LocationScale
from skae.objectives import Objective
from skae.scales import Scale
from skae.training import FlatParameters


class CompiledStep:
    r"""One step of R models of the same shapes, over memory that is allocated once.

    With standardised rows y, :math:`x = \mathrm{ratio} \cdot y`, decoded values v, location
    :math:`\mu = \mathrm{gain} \cdot v`, residual r and scale s,

    .. math::
        t &= r/s, \quad
        L = -\sum_n w_n \sum_i (\log f(t_{ni}) - \log s_{ni}) + \beta \sum_n w_n KL_n \\
        \bar v &= -w\, \mathrm{gain}\, \psi(t)/s, \quad
        \overline{\log s} = w\, (1 - t\, \psi(t))

    where :math:`\psi = -(\log f)'` is the likelihood's influence function and w what a row
    counts. A scale in closed form has no gradient: by the envelope theorem its own
    derivative vanishes where it is optimal.

    Parameters
    ----------
    modules : sequence of R AutoencoderModule
        The models, alike but for their numbers; the first one must be one that
        :func:`is_compilable`.
    objectives : sequence of R Objective
        What they minimise, alike but for the weight of the KL.
    parameters : FlatParameters
        Their parameters.
    n : int
        Rows of a batch.
    """

    def __init__(
        self,
        modules: Sequence[AutoencoderModule],
        objectives: Sequence[Objective],
        parameters: FlatParameters,
        n: int,
    ) -> None:
        first, objective = modules[0], objectives[0]
        R, d, k = len(modules), first.spec.n_features, first.spec.n_components
        self.d = d
        self.objectives = objectives
        assert isinstance(first.spec.likelihood, LocationScale)
        self.likelihood = first.spec.likelihood
        stacked = parameters.stacked

        def empty(*shape: int) -> Tensor:
            return parameters.values.new_empty(R, *shape)

        def per_model(name: str) -> Tensor:
            return torch.stack([m.get_buffer(name) for m in modules])[:, None]

        self.ratio, self.gain = per_model("ratio"), per_model("loc_gain")  # (R, 1, d)
        self.code_gain = per_model("code_gain")
        self.scale = stack_scales([m.scale for m in modules], parameters)
        self.latents = LATENTS[type(objective)](n, k, objective.n_mc_samples, empty)
        n_draws = self.n_draws = self.latents.n_draws
        self.encoder = Half(
            Dense(first.linear_encoder, n, stacked, empty),
            make_layer(first.encoder, n, stacked, empty),
        )
        self.decoder = Half(
            Dense(first.linear_decoder, n_draws * n, stacked, empty),
            make_layer(first.decoder, n_draws * n, stacked, empty),
        )
        self.x = empty(n, d)
        self.grad = empty(n_draws * n, d + self.scale.n_outputs)
        self.scratch = empty(n_draws * n, d)
        self.by_feature = empty(1, d)
        self.kl_weights = empty(1, 1)
        self.kl_share = empty(n, 1)
        self.metrics = empty(1 + (k if objective.n_heads == 2 else 0))
        self._kl_weights: list[float] = []

    def __call__(
        self, y: Tensor, share: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """See `skae.training.Step`."""
        with torch.inference_mode():
            self._set_kl_weights(progress)
            heads = self.encoder.forward(y).mul_(self.code_gain)
            z = self.latents.forward(heads, noise)
            grad_decoded = self._reconstruct(y, share, self.decoder.forward(z))
            self.metrics[:, 1:] = self.latents.kl(share)
            grad_z = self.decoder.backward(grad_decoded, wants_input=True)
            assert grad_z is not None
            torch.mul(share, self.kl_weights, out=self.kl_share)
            grad_heads = self.latents.backward(grad_z, self.kl_share)
            self.encoder.backward(grad_heads.mul_(self.code_gain), wants_input=False)
            return self.metrics

    def _set_kl_weights(self, progress: Sequence[float]) -> None:
        weights = [o.kl_weight(p) for o, p in zip(self.objectives, progress, strict=True)]
        if weights != self._kl_weights:
            self.kl_weights.copy_(self.kl_weights.new_tensor(weights).view(-1, 1, 1))
            self._kl_weights = weights

    def _reconstruct(self, y: Tensor, share: Tensor, decoded: Tensor) -> Tensor:
        """The log-likelihood, and the derivative with respect to what was decoded."""
        n, d = y.shape[1], self.d
        v, outputs = decoded[..., :d], decoded[..., d:]
        t, grad_outputs = self.grad[..., :d], self.grad[..., d:]
        torch.mul(y, self.ratio, out=self.x)
        by_draw = (-1, self.n_draws, n, d)
        torch.addcmul(
            self.x[:, None],
            v.view(by_draw),
            self.gain[:, None],
            value=-1.0,
            out=t.view(by_draw),
        )
        log_scale = self.scale.training_log_scale(t, outputs, share, self.scratch)
        precision = torch.exp(-log_scale)
        t.mul_(precision)

        weight = share if self.n_draws == 1 else share.repeat(1, self.n_draws, 1)
        if self.n_draws > 1:
            weight.div_(self.n_draws)
        self.likelihood.standard_log_prob(t, out=self.scratch)
        if log_scale.shape[1] > 1:
            self.scratch.sub_(log_scale)
        torch.bmm(weight.mT, self.scratch, out=self.by_feature)
        total = self.by_feature.sum(dim=2)  # (R, 1)
        if log_scale.shape[1] == 1:
            shared = log_scale.sum(dim=2) * (d / log_scale.shape[2])
            total -= shared * share.sum(dim=1)
        self.metrics[:, :1] = total

        if self.scale.is_trained:
            self.scratch.copy_(t)
            self.likelihood.influence_(self.scratch)
            # w (1 - t psi(t))
            self.scratch.mul_(t).sub_(1.0).mul_(weight).neg_()
            self.scale.backward(self.scratch, outputs, grad_outputs)
        psi = self.likelihood.influence_(t)
        if log_scale.shape[1] == 1:
            psi.mul_(weight).mul_(-precision * self.gain)
        else:
            psi.mul_(weight * -precision).mul_(self.gain)
        return self.grad


def is_compilable(module: AutoencoderModule, objective: Objective) -> bool:
    """Whether all parts of a model have a backward pass written by hand.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        What it minimises.

    Returns
    -------
    bool
        Whether :class:`CompiledStep` can train it.
    """
    likelihood = type(module.spec.likelihood)
    return (
        type(objective) in LATENTS
        and issubclass(likelihood, LocationScale)
        and likelihood.has_influence()
        and is_known(module.encoder)
        and is_known(module.decoder)
    )


def stack_scales(scales: Sequence[Scale], parameters: FlatParameters) -> Scale:
    """The scales of R models as one, which shares its numbers with them.

    Parameters
    ----------
    scales : sequence of R Scale
        The scales; the memory of their buffers moves.
    parameters : FlatParameters
        Where their parameters are.

    Returns
    -------
    Scale
        One scale, with a leading axis of size R.
    """
    first = scales[0]
    # A copy that shares its tensors, which then are replaced.
    stacked = first.__new__(type(first))
    stacked.__dict__.update(first.__dict__)
    stacked._parameters = {
        name: parameters.stacked(p) for name, p in first.named_parameters(recurse=False)
    }
    stacked._buffers = {}
    for name in first._buffers:
        together = torch.stack([scale.get_buffer(name) for scale in scales])
        stacked._buffers[name] = together
        for scale, own in zip(scales, together, strict=True):
            scale._buffers[name] = own
    return stacked
