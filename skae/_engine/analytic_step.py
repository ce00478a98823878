"""The analytic step of the built-in parts: forward and backward without autograd."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skae._engine.coder import Coder
from skae._engine.latents import LATENTS, Latents
from skae._module import LINK_BUFFERS, AutoencoderModule, from_inputs
from skae._optim import FlatParameters
from skae._utils.device import send_into
from skae._utils.matmul import weighted_sum
from skae.likelihoods import LocationScale
from skae.objectives import Objective
from skae.scales import MixedScale, Scale


class AnalyticStep:
    r"""One step of R models of the same shapes, in memory that is allocated once.

    With standardised rows y, :math:`x = \sigma \cdot y`, decoder outputs v, location
    :math:`\mu = \mathrm{gain} \cdot v`, residual r and scale s,

    .. math::
        t &= r/s, \quad
        L = -\sum_n w_n \sum_i (\log f(t_{ni}) - \log s_{ni}) + \beta \sum_n w_n KL_n \\
        \bar v &= -w\, \mathrm{gain}\, \psi(t)/s, \quad
        \overline{\log s} = w\, (1 - t\, \psi(t))

    where :math:`\psi = -(\log f)'` is the likelihood's influence function and w the row
    weight. Further outputs a of a likelihood have the gradient
    :math:`\bar a = -w\, \partial_a \log f(t)`. A scale in closed form has no gradient: at
    its optimum its own derivative vanishes, by the envelope theorem.

    With missing entries, in rows that `AutoencoderModule.prepare` returns, the sum over i
    and the weights in the gradients are over the observed entries.

    Parameters
    ----------
    modules : sequence of R AutoencoderModule
        Models with equal batch keys, whose parts all have an analytic gradient.
    objectives : sequence of R Objective
        The objective of each model; they differ in the weight of the KL only.
    parameters : FlatParameters
        The parameters of the models.
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
        stacked = parameters.stacked

        has_missing = first.spec.has_missing
        n_inputs = first.spec.n_network_inputs
        self._parts = slice(d), slice(n_inputs), slice(d, 2 * d), slice(2 * d, None)

        def empty(n: int, width: int) -> Tensor:
            # The features are the rows in memory: see skae._engine.layers.
            return parameters.values.new_empty(R, width, n).mT

        def per_model(name: str) -> Tensor:
            return torch.stack([m.get_buffer(name) for m in modules])[:, None]

        self.std_in_units, self.gain = (
            per_model("std_in_units"),
            per_model("loc_gain"),
        )  # (R, 1, d)
        self.code_gain = per_model("code_gain")
        latent_gain = per_model("latent_gain")  # (R, 1, k)
        # Most models decode all of the code.
        self.latent_gain = latent_gain if bool((latent_gain != 1).any()) else None
        self.scale = stack_scales([m.scale for m in modules], parameters)
        n_draws = max(objective.n_mc_samples, 1)
        self.encoder = Coder(first.linear_encoder, first.encoder, n, stacked, empty)
        self.latents: Latents = LATENTS[type(objective)](self.encoder.out, n_draws, empty)
        self.decoder = Coder(
            first.linear_decoder, first.decoder, n_draws * n, stacked, empty
        )

        self.n_draws = n_draws
        self._scaled_z = empty(n_draws * n, k if self.latent_gain is not None else 0)
        self.x = empty(n, d)
        # 1 for what is observed, and that times the weight of its row and draw.
        self.observed = empty(n_draws * n, d) if has_missing else None
        self.entry_weight = empty(n_draws * n, d) if has_missing else None
        # The decoder's outputs are those of the location, the scale and the likelihood.
        parts = [d, d + first.scale.n_outputs]
        v, self.outputs, further = self.decoder.out.tensor_split(parts, dim=2)
        self.likelihood = first.spec.likelihood
        # A location-scale density of the data takes operations in place; others, and those
        # with parameters that all rows share, go by `Likelihood.derivatives`.
        self.parameters: Tensor | None = None
        if first.shape is not None:
            self.parameters = stacked(first.shape)
        self.location_scale: LocationScale | None = None
        if isinstance(self.likelihood, LocationScale) and self.parameters is None:
            likelihood = self.likelihood.given(further)
            assert isinstance(likelihood, LocationScale)
            self.location_scale = likelihood
        self.further = further
        self.linked = first.linked
        if self.linked:
            self.offset, self.input_mean, self.input_std = map(per_model, LINK_BUFFERS)
        # First the standardised residuals, then the gradient of the location's outputs.
        self.t, self.grad_outputs, self.grad_further = self.decoder.grad_out.tensor_split(
            parts, dim=2
        )
        by_draw = (n_draws, n)
        self._v, self._t = v.unflatten(1, by_draw), self.t.unflatten(1, by_draw)
        self._x, self._gain = self.x[:, None], self.gain[:, None]
        self.minus_gain = -self.gain
        self.scratch = empty(n_draws * n, d)
        # The residuals, for the derivative with respect to a trained scale.
        self.kept_t = empty(n_draws * n, d if self.scale.is_trained else 0)
        self.kl_weights = empty(1, 1)
        self.kl_row_weight = empty(n, 1)
        # Row weights for each draw; with one draw those of the batch are used.
        self._draw_weight = empty(n_draws * n, 1)
        self._weight_by_draw = self._draw_weight.unflatten(1, by_draw)
        # The metrics of each row: its log-likelihood and its KL of each component.
        row_metrics = empty(n, 1 + self.latents.n_kl)
        self._row_metrics = row_metrics
        self._row_log_likelihood = row_metrics[..., :1]
        self._draw_log_likelihood = self._row_log_likelihood
        if n_draws > 1:
            self._draw_log_likelihood = empty(n_draws * n, 1)
        self._log_likelihoods = self._draw_log_likelihood.unflatten(1, by_draw)
        self.latents.bind(self.decoder.grad_input, row_metrics[..., 1:])
        self._mean_metrics = parameters.values.new_empty(R, 1, row_metrics.shape[2])
        self.metrics = self._mean_metrics[:, 0]
        self._kl_weights: list[float] = []

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """Compute the gradients and return the metrics; see `skae._optim.Step`."""
        self.set_progress(progress)
        return self.run(y, row_weight, noise)

    def run(self, y: Tensor, row_weight: Tensor, noise: Tensor) -> Tensor:
        """Compute the gradients by operations that depend on shapes alone.

        ``y``, ``row_weight`` and ``noise`` are those of `skae._optim.Step`. Returns the
        metrics ``(R, n_metrics)`` of the batch, which the next call overwrites.
        """
        with torch.inference_mode():
            self._encode(y)
            self.latents.forward(noise)
            self.decoder.forward(self._decoded())
            self._reconstruct(y, row_weight)
            weighted_sum(row_weight, self._row_metrics, out=self._mean_metrics)
            self.decoder.backward(needs_input_grad=True)
            if self.latent_gain is not None:
                self.decoder.grad_input.mul_(self.latent_gain)
            torch.mul(row_weight, self.kl_weights, out=self.kl_row_weight)
            grad_heads = self.latents.backward(self.kl_row_weight)
            torch.mul(grad_heads, self.code_gain, out=self.encoder.grad_out)
            self.encoder.backward(needs_input_grad=False)
            return self.metrics

    def set_progress(self, progress: Sequence[float]) -> None:
        """Set the weight of the KL for the training progress of each model.

        The progress includes the next step.
        """
        weights = [o.kl_weight(p) for o, p in zip(self.objectives, progress, strict=True)]
        if weights != self._kl_weights:
            new = torch.tensor(weights, dtype=self.kl_weights.dtype, device="cpu")
            send_into(self.kl_weights, new.view(-1, 1, 1))
            self._kl_weights = weights

    def _encode(self, y: Tensor) -> None:
        """Compute the encoder's outputs from prepared rows ``(R, n, d or n_row)``."""
        if self.observed is None:
            self.encoder.forward(y).mul_(self.code_gain)
            return
        features, network_inputs, observed, widening = (y[..., p] for p in self._parts)
        self.encoder.forward(features, network_inputs).mul_(self.code_gain)
        heads = self.encoder.out
        if widening.shape[2] > 0:
            heads[..., -widening.shape[2] :].add_(widening)
        if self.n_draws == 1:
            self.observed = observed
        else:
            self.observed.unflatten(1, (self.n_draws, -1)).copy_(observed[:, None])

    def _decoded(self) -> Tensor:
        """Return what the decoder sees of the codes, ``(R, n_draws * n, k)``."""
        if self.latent_gain is None:
            return self.latents.z
        return torch.mul(self.latents.z, self.latent_gain, out=self._scaled_z)

    def _reconstruct(self, y: Tensor, row_weight: Tensor) -> None:
        """Compute the log-likelihood and the gradient of the decoder's outputs."""
        if self.location_scale is None:
            self._reconstruct_by_derivatives(y[..., self._parts[0]], row_weight)
        else:
            self._reconstruct_in_place(y, row_weight, self.location_scale)

    def _reconstruct_by_derivatives(self, y: Tensor, row_weight: Tensor) -> None:
        """Do the same by `Likelihood.derivatives`, for features ``(R, n, d)``."""
        torch.mul(self._v, self._gain, out=self._t)
        if self.linked:
            x = torch.addcmul(self.input_mean, y, self.input_std)
            from_inputs(self.linked, x)
            self.t.add_(self.offset)
        else:
            x = y * self.std_in_units
        loc, weight = self.t.clone(), row_weight
        if self.n_draws > 1:
            x = x.repeat(1, self.n_draws, 1)
            self._weight_by_draw.copy_(row_weight[:, None]).div_(self.n_draws)
            weight = self._draw_weight
        log_scale = self.scale.training_log_scale(
            x - loc, self.outputs, row_weight, observed=self.observed
        )
        further = self.further
        if self.parameters is not None:
            shared = self.parameters.expand(-1, further.shape[1], -1)
            further = torch.cat([further, shared], dim=2)
        if self.observed is not None:
            weight = self.observed * weight
        found = self.likelihood.given(further).derivatives(x, loc, log_scale, weight)
        log_prob = found.log_prob
        if self.observed is not None:
            log_prob = log_prob * self.observed
        torch.sum(log_prob, dim=2, keepdim=True, out=self._draw_log_likelihood)
        if self.n_draws > 1:
            torch.mean(self._log_likelihoods, dim=1, out=self._row_log_likelihood)
        if self.scale.is_trained:
            assert found.log_scale is not None
            self.scale.backward(-found.log_scale, self.outputs, self.grad_outputs)
        if found.outputs is not None:
            m = self.grad_further.shape[2]
            torch.neg(found.outputs[..., :m], out=self.grad_further)
            if self.parameters is not None:
                assert self.parameters.grad is not None
                total = found.outputs[..., m:].sum(dim=1, keepdim=True)
                torch.neg(total, out=self.parameters.grad)
        torch.mul(found.loc, self.minus_gain, out=self.t)

    def _reconstruct_in_place(
        self, y: Tensor, row_weight: Tensor, likelihood: LocationScale
    ) -> None:
        """Do the same for a location-scale density, in memory that exists."""
        t, scratch = self.t, self.scratch
        torch.mul(y[..., self._parts[0]], self.std_in_units, out=self.x)
        torch.addcmul(self._x, self._v, self._gain, value=-1.0, out=self._t)
        log_scale = self.scale.training_log_scale(
            t, self.outputs, row_weight, scratch, self.observed
        )
        precision = torch.exp(-log_scale)
        t.mul_(precision)

        weight = row_weight
        if self.n_draws > 1:
            self._weight_by_draw.copy_(row_weight[:, None]).div_(self.n_draws)
            weight = self._draw_weight
        if self.scale.is_trained:
            self.kept_t.copy_(t)
        influence = likelihood.differentiate_(
            t, out=scratch, grad_outputs=self.grad_further
        )
        if self.observed is None:
            torch.sum(scratch, dim=2, keepdim=True, out=self._draw_log_likelihood)
            if log_scale.shape[2] == 1:  # shared by all features
                self._draw_log_likelihood.sub_(log_scale, alpha=self.d)
            else:
                self._draw_log_likelihood.sub_(log_scale.sum(dim=2, keepdim=True))
        else:
            assert self.entry_weight is not None
            scratch.sub_(log_scale).mul_(self.observed)
            torch.sum(scratch, dim=2, keepdim=True, out=self._draw_log_likelihood)
            weight = torch.mul(self.observed, weight, out=self.entry_weight)
        if self.n_draws > 1:
            torch.mean(self._log_likelihoods, dim=1, out=self._row_log_likelihood)

        if self.scale.is_trained:
            # w (1 - t psi(t))
            grad = self.kept_t.mul_(influence).neg_().add_(1.0).mul_(weight)
            self.scale.backward(grad, self.outputs, self.grad_outputs)
        if self.grad_further.shape[2] > 0:
            # The features are the last axis of each group of outputs.
            by_group = self.grad_further.unflatten(2, (-1, self.d))
            by_group.mul_(weight[:, :, None]).neg_()
        # -w gain psi(t) / s
        grad = influence
        if log_scale.shape[1] == 1 or self.observed is not None:
            grad.mul_(weight).mul_(precision.mul(self.minus_gain))
        else:
            grad.mul_(precision.mul_(weight)).mul_(self.minus_gain)


def stack_scales(scales: Sequence[Scale], parameters: FlatParameters) -> Scale:
    """Stack the scales of R models into one scale with a leading axis of size R.

    The stacked scale and the scales of the models share their parameters and buffers; the
    buffers of the models move.
    """
    first = scales[0]
    # A shallow copy, whose tensors are replaced below.
    stacked = first.__new__(type(first))
    stacked.__dict__.update(first.__dict__)
    if isinstance(stacked, MixedScale):
        own = [[part for _, part in s.parts] for s in scales if isinstance(s, MixedScale)]
        stacked._modules = dict(stacked._modules)
        stacked.scales = nn.ModuleList(
            [stack_scales(parts, parameters) for parts in zip(*own, strict=True)]
        )
    stacked._parameters = {
        name: parameters.stacked(p) for name, p in first.named_parameters(recurse=False)
    }
    stacked._buffers = {}
    for name in first._buffers:
        stacked_buffer = torch.stack([scale.get_buffer(name) for scale in scales])
        stacked._buffers[name] = stacked_buffer
        for scale, own in zip(scales, stacked_buffer, strict=True):
            scale._buffers[name] = own
    return stacked
