"""Operators of the means of likelihoods, in float64 and in the units of X."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skae.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    ContinuousBernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    LogisticLikelihood,
    LogNormalLikelihood,
    Mixed,
    MixtureLikelihood,
    NegativeBinomialLikelihood,
    PoissonLikelihood,
    StudentTLikelihood,
    n_outputs,
)
from skae.onnx.graph import Graph
from skae.scales import Scale
from skae.scales.mixed import MixedScale

# As `skae.likelihoods.rates` has it: there a log-rate begins to grow more slowly, and its
# largest excess over this number.
_LARGEST_LOG_RATE, _LARGEST_EXCESS = 40.0, 1e15
# Predictor of a continuous Bernoulli density below which its mean is a series of three
# terms, which is exact to 1e-13.
_SMALL = 0.05


@dataclass(frozen=True)
class Decoded:
    """What the decoder says of a range of features; names are those of a graph, float64.

    Attributes
    ----------
    n_features : int
        Number of features, d.
    loc : str
        Location, ``(n, d)``.
    scale : Scale
        Where the scale comes from.
    scale_outputs, outputs : str
        Further outputs of the decoder for the scale and the likelihood, ``(n, any)``.
    center, unit : ndarray of shape (d,)
        What is 0 in the likelihood's units, and these units.
    """

    n_features: int
    loc: str
    scale: Scale
    scale_outputs: str
    outputs: str
    center: np.ndarray
    unit: np.ndarray


def add_mean(graph: Graph, likelihood: Likelihood, decoded: Decoded) -> str:
    """Add the mean of the data to a graph, ``(n, d)``; return its name.

    Raises TypeError for a likelihood without operators.
    """
    check_likelihood(likelihood)
    return MEANS[type(likelihood)](graph, likelihood, decoded)


def add_input(graph: Graph, likelihood: Likelihood, x: str) -> str:
    """Add what the encoder sees of data ``(n, d)``, before they are standardised.

    Raises TypeError for a likelihood without operators.
    """
    check_likelihood(likelihood)
    if isinstance(likelihood, PoissonLikelihood | NegativeBinomialLikelihood):
        return graph.add("Log", graph.add("Add", x, np.ones(())))
    return graph.add("Log", x) if isinstance(likelihood, LogNormalLikelihood) else x


def check_likelihood(likelihood: Likelihood) -> None:
    """Raise TypeError for a likelihood that is not built in."""
    if type(likelihood) not in MEANS:
        raise TypeError(
            f"The likelihood {likelihood!r} is not one of skae, and its mean is not known "
            "to the conversion to ONNX."
        )


def _log_scale(graph: Graph, decoded: Decoded) -> str:
    """Add the log-scale, which broadcasts against ``(n, d)``."""
    scale = decoded.scale
    if scale.n_outputs == 0:
        value = scale.log_scale(torch.empty(1, 0, device=scale.floor.device))
        return graph.constant(np.asarray(value.detach().cpu().numpy(), np.float64))
    floor = np.asarray(scale.floor.cpu().numpy(), np.float64)
    return graph.add("Log", graph.floored_exp(decoded.scale_outputs, floor))


def _in_units(graph: Graph, x: str, decoded: Decoded) -> str:
    """Convert a location to the units of X."""
    return graph.add("Add", graph.add("Mul", x, decoded.unit), decoded.center)


def _location(graph: Graph, likelihood: Likelihood, decoded: Decoded) -> str:
    """Add the mean of a symmetric density."""
    return _in_units(graph, decoded.loc, decoded)


def _mixture(graph: Graph, likelihood: MixtureLikelihood, decoded: Decoded) -> str:
    """Add the mean of a mixture; see `MixtureLikelihood.mean`."""
    shape = np.array([0, 3, likelihood.n_components, decoded.n_features])
    shaped = graph.add("Reshape", decoded.outputs, shape)  # (n, 3, K, d)
    offset, h, logit = (graph.add("Gather", shaped, np.array(i), axis=1) for i in range(3))
    width = graph.floored_exp(h, np.ones(()))
    weight = graph.add("Softmax", logit, axis=1)
    terms = graph.add("Mul", graph.add("Mul", weight, width), offset)
    mean = graph.add("ReduceSum", terms, np.array([1]), keepdims=0)
    scale = graph.add("Exp", _log_scale(graph, decoded))
    loc = graph.add("Add", decoded.loc, graph.add("Mul", scale, mean))
    return _in_units(graph, loc, decoded)


def _log_normal(graph: Graph, likelihood: Likelihood, decoded: Decoded) -> str:
    """Add the mean of a log-normal density; see `LogNormalLikelihood.data_mean`."""
    scale = graph.add("Exp", _log_scale(graph, decoded))
    scale = graph.add("Mul", scale, decoded.unit)
    half = graph.add("Mul", graph.add("Mul", scale, scale), np.array(0.5))
    return graph.add("Exp", graph.add("Add", _in_units(graph, decoded.loc, decoded), half))


def _probability(graph: Graph, likelihood: Likelihood, decoded: Decoded) -> str:
    """Add the probability of a flag."""
    return graph.add("Sigmoid", decoded.loc)


def _rate(graph: Graph, likelihood: Likelihood, decoded: Decoded) -> str:
    """Add the mean of counts; see `skae.likelihoods.rates.log_rate`."""
    largest = np.array(_LARGEST_LOG_RATE)
    above = graph.add("Sub", decoded.loc, largest)
    excess = graph.add("Clip", above, np.zeros(()), np.array(_LARGEST_EXCESS))
    factor = graph.add("Add", excess, np.ones(()))
    rate = graph.add("Exp", graph.add("Min", decoded.loc, largest))
    return graph.add("Mul", rate, factor)


def _share(graph: Graph, likelihood: Likelihood, decoded: Decoded) -> str:
    """Add the mean of numbers from 0 to 1: 1/2 plus an odd function of the predictor."""
    loc, small = decoded.loc, np.array(_SMALL)
    size = graph.add("Abs", loc)
    large = graph.add("Max", size, small)
    # 1/(1 - exp(-a)) - 1/a - 1/2 for a > 0.
    fall = graph.add("Sub", np.ones(()), graph.add("Exp", graph.add("Neg", large)))
    far = graph.add("Sub", graph.add("Reciprocal", fall), graph.add("Reciprocal", large))
    far = graph.add("Mul", graph.add("Sub", far, np.array(0.5)), graph.add("Sign", loc))
    near = graph.add("Clip", loc, -small, small)
    square = graph.add("Mul", near, near)
    terms = graph.add("Mul", square, np.array(1 / 30240))
    terms = graph.add("Sub", np.array(1 / 720), terms)
    terms = graph.add("Sub", np.array(1 / 12), graph.add("Mul", square, terms))
    is_small = graph.add("Less", size, small)
    odd = graph.add("Where", is_small, graph.add("Mul", near, terms), far)
    return graph.add("Add", odd, np.array(0.5))


def _categories(graph: Graph, likelihood: CategoricalLikelihood, decoded: Decoded) -> str:
    """Add the probabilities of the categories of each column."""
    sizes = likelihood._sizes or (decoded.n_features,)
    stops = np.cumsum(sizes)
    groups = [
        graph.columns(decoded.loc, int(stop - size), int(stop))
        for stop, size in zip(stops, sizes, strict=True)
    ]
    return graph.join([graph.add("Softmax", group, axis=1) for group in groups])


def _mixed(graph: Graph, likelihood: Mixed, decoded: Decoded) -> str:
    """Add the means of the parts of a table."""
    scale = decoded.scale
    assert isinstance(scale, MixedScale)
    means, at_scale, at_output = [], 0, 0
    parts = likelihood.parts(decoded.n_features)
    for (part, family), (_, own) in zip(parts, scale.parts, strict=True):
        width = part.stop - part.start
        n_own = n_outputs(family, width)
        piece = Decoded(
            n_features=width,
            loc=graph.columns(decoded.loc, part.start, part.stop),
            scale=own,
            scale_outputs=graph.columns(
                decoded.scale_outputs, at_scale, at_scale + own.n_outputs
            ),
            outputs=graph.columns(decoded.outputs, at_output, at_output + n_own),
            center=decoded.center[part],
            unit=decoded.unit[part],
        )
        means.append(add_mean(graph, family, piece))
        at_scale, at_output = at_scale + own.n_outputs, at_output + n_own
    return graph.join(means)


MEANS: dict[type[Likelihood], Callable[[Graph, Any, Decoded], str]] = {
    BernoulliLikelihood: _probability,
    CategoricalLikelihood: _categories,
    ContinuousBernoulliLikelihood: _share,
    GaussianLikelihood: _location,
    LaplaceLikelihood: _location,
    LogNormalLikelihood: _log_normal,
    LogisticLikelihood: _location,
    Mixed: _mixed,
    MixtureLikelihood: _mixture,
    NegativeBinomialLikelihood: _rate,
    PoissonLikelihood: _rate,
    StudentTLikelihood: _location,
}
