"""The step of the built-in parts: forward and backward without autograd."""

from collections.abc import Sequence

import torch
from torch import Tensor

from skae._engine.coder import Coder
from skae._engine.latents import LATENTS, Latents
from skae._module import AutoencoderModule
from skae._optim import FlatParameters
from skae.likelihoods import LocationScale
from skae.objectives import Objective
from skae.scales import Scale


class AnalyticStep:
    r"""One step of R models of the same shapes, over memory that is allocated once.

    With standardised rows y, :math:`x = \sigma \cdot y`, decoded values v, location
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
        The models, with equal batch keys, whose parts all have an analytic gradient.
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
        R, d = len(modules), first.spec.n_features
        self.d = d
        self.objectives = objectives
        assert isinstance(first.spec.likelihood, LocationScale)
        self.likelihood = first.spec.likelihood
        stacked = parameters.stacked

        def empty(n: int, width: int) -> Tensor:
            # Feature by feature: see skae._engine.layers.
            return parameters.values.new_empty(R, width, n).mT

        def per_model(name: str) -> Tensor:
            return torch.stack([m.get_buffer(name) for m in modules])[:, None]

        self.std_in_units, self.gain = (
            per_model("std_in_units"),
            per_model("loc_gain"),
        )  # (R, 1, d)
        self.code_gain = per_model("code_gain")
        self.scale = stack_scales([m.scale for m in modules], parameters)
        n_draws = max(objective.n_mc_samples, 1)
        self.encoder = Coder(first.linear_encoder, first.encoder, n, stacked, empty)
        self.latents: Latents = LATENTS[type(objective)](self.encoder.out, n_draws, empty)
        self.decoder = Coder(
            first.linear_decoder, first.decoder, n_draws * n, stacked, empty
        )

        self.n_draws = n_draws
        self.x = empty(n, d)
        # Standardised residuals first, then derivatives with respect to what was decoded.
        self.t, self.grad_outputs = self.decoder.grad_out.tensor_split([d], dim=2)
        v, self.outputs = self.decoder.out.tensor_split([d], dim=2)
        by_draw = (n_draws, n)
        self._v, self._t = v.unflatten(1, by_draw), self.t.unflatten(1, by_draw)
        self._x, self._gain = self.x[:, None], self.gain[:, None]
        self.minus_gain = -self.gain
        self.scratch = empty(n_draws * n, d)
        self.kl_weights = empty(1, 1)
        self.kl_row_weight = empty(n, 1)
        # What rows count for each draw; the batch's own shares if there is one draw.
        self._draw_weight = empty(n_draws * n, 1)
        self._by_draw = self._draw_weight.unflatten(1, by_draw)
        # The log-likelihood of each row, and its KL: what metrics are means of.
        by_row = empty(n, 1 + self.latents.n_kl)
        self._by_row = by_row.mT
        self._row_log_likelihood = by_row[..., :1]
        self._draw_log_likelihood = self._row_log_likelihood
        if n_draws > 1:
            self._draw_log_likelihood = empty(n_draws * n, 1)
        self._log_likelihoods = self._draw_log_likelihood.unflatten(1, by_draw)
        self.latents.bind(self.decoder.grad_input, by_row[..., 1:])
        self._means = parameters.values.new_empty(R, by_row.shape[2], 1)
        self.metrics = self._means[..., 0]
        self._kl_weights: list[float] = []

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """See `skae._optim.Step`."""
        self.set_progress(progress)
        return self.run(y, row_weight, noise)

    def run(self, y: Tensor, row_weight: Tensor, noise: Tensor) -> Tensor:
        """The step itself: a list of operations that depends on shapes alone.

        Parameters
        ----------
        y, share, noise : Tensor
            See :class:`skae._optim.Step`.

        Returns
        -------
        Tensor of shape (R, n_metrics)
            Metrics of the batch; overwritten by the next call.
        """
        with torch.inference_mode():
            self.encoder.forward(y).mul_(self.code_gain)
            self.latents.forward(noise)
            self.decoder.forward(self.latents.z)
            self._reconstruct(y, row_weight)
            torch.bmm(self._by_row, row_weight, out=self._means)
            self.decoder.backward(wants_input=True)
            torch.mul(row_weight, self.kl_weights, out=self.kl_row_weight)
            grad_heads = self.latents.backward(self.kl_row_weight)
            torch.mul(grad_heads, self.code_gain, out=self.encoder.grad_out)
            self.encoder.backward(wants_input=False)
            return self.metrics

    def set_progress(self, progress: Sequence[float]) -> None:
        """Take note of how far the training is, where the weight of the KL depends on it.

        Parameters
        ----------
        progress : sequence of R floats
            Share of each model's training that is done, the next step included.
        """
        weights = [o.kl_weight(p) for o, p in zip(self.objectives, progress, strict=True)]
        if weights != self._kl_weights:
            self.kl_weights.copy_(self.kl_weights.new_tensor(weights).view(-1, 1, 1))
            self._kl_weights = weights

    def _reconstruct(self, y: Tensor, row_weight: Tensor) -> None:
        """The log-likelihood, and the derivative with respect to what was decoded."""
        t, scratch, likelihood = self.t, self.scratch, self.likelihood
        torch.mul(y, self.std_in_units, out=self.x)
        torch.addcmul(self._x, self._v, self._gain, value=-1.0, out=self._t)
        log_scale = self.scale.training_log_scale(t, self.outputs, row_weight, scratch)
        precision = torch.exp(-log_scale)
        t.mul_(precision)

        weight = row_weight
        if self.n_draws > 1:
            self._by_draw.copy_(row_weight[:, None]).div_(self.n_draws)
            weight = self._draw_weight
        likelihood.standard_log_prob(t, out=scratch)
        torch.sum(scratch, dim=2, keepdim=True, out=self._draw_log_likelihood)
        # One log-scale may stand for all features.
        log_scales = log_scale.sum(dim=2, keepdim=True)
        self._draw_log_likelihood.sub_(log_scales, alpha=self.d / log_scale.shape[2])
        if self.n_draws > 1:
            torch.mean(self._log_likelihoods, dim=1, out=self._row_log_likelihood)

        if self.scale.is_trained:
            # w (1 - t psi(t))
            likelihood.influence_(scratch.copy_(t)).mul_(t).neg_().add_(1.0).mul_(weight)
            self.scale.backward(scratch, self.outputs, self.grad_outputs)
        # -w gain psi(t) / s
        grad = likelihood.influence_(t)
        if log_scale.shape[1] == 1:
            grad.mul_(weight).mul_(precision.mul(self.minus_gain))
        else:
            grad.mul_(precision.mul_(weight)).mul_(self.minus_gain)


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
