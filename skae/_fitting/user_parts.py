"""A first call of a user's network or likelihood, before the training."""

import copy
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from skae._module import AutoencoderModule
from skae.likelihoods import (
    LIKELIHOODS,
    GeneralizedLinear,
    Likelihood,
    n_outputs,
    n_parameters,
)
from skae.networks import is_built_in
from skae.networks.randomness import fixed_draws

# Rows of the first call: more than one, so that a single row for all is detected, and an
# even number, because a network may work on pairs. A part of them is another call.
_N_ROWS, _N_FEWER = 4, 2
# Largest difference of a row between the calls, over the largest number of the result. Less
# precise products, such as those of TF32, are off by a thousandth.
_TOLERANCE = 0.02
# What torch's errors about sizes have in common.
_OF_SHAPES = re.compile(
    "shapes cannot be multiplied|size of tensor|size mismatch|must match the size"
    "|expected input|Expected size|multiply up to the size|invalid for input of size"
    "|normalized_shape|channels"
)


def check_parts(module: AutoencoderModule) -> None:
    """Raise if a user's network or likelihood does not return what a training needs."""
    spec = module.spec
    if not is_built_in(spec.network):
        k = spec.n_components
        name = type(spec.network).__name__
        outputs = module.linear_decoder.out_features
        n_in = spec.n_network_inputs
        _check_network(f"{name}.encoder", module.encoder, n_in, spec.n_heads * k, module)
        _check_network(f"{name}.decoder", module.decoder, k, outputs, module)
    for part, family in spec.likelihood.parts(spec.n_features):
        if type(family) not in LIKELIHOODS.values():
            _check_likelihood(family, part.stop - part.start, module)


def _check_network(
    name: str, network: nn.Module, n_in: int, n_out: int, module: AutoencoderModule
) -> None:
    """Call a network with a few rows ``(n, n_in)``, and check the results."""
    x = _rows(n_in, module)
    caller = f"The network that {name} returns, {type(network).__name__},"
    with (
        _for_trial(network) as tried,
        torch.no_grad(),
        fixed_draws(network, device=module.device),
    ):
        result = _call(tried, x, n_out, name)
        _check_tensor(caller, result, (_N_ROWS, n_out), module)
        again, first = (_call(tried, rows, n_out, name) for rows in (x, x[:_N_FEWER]))
    # A network that draws, or that counts its calls, gives another result at each call.
    if torch.equal(again, result):
        _check_rows_apart(caller, first, result)


def _call(network: nn.Module, x: Tensor, n_out: int, name: str) -> Any:
    """Call a network with rows ``(n, n_in)``; what is raised says the expected shapes."""
    expected = (
        f"The network that {name} returns, {type(network).__name__}, was called with a "
        f"tensor of shape {tuple(x.shape)}, and must return one of shape "
        f"{(len(x), n_out)}."
    )
    try:
        return network(x.clone())
    # A user's module may raise anything. The error goes on, with what was expected. That of
    # torch about shapes says nothing of the network, and so becomes the cause of another.
    except Exception as error:
        if not (isinstance(error, RuntimeError) and _OF_SHAPES.search(str(error))):
            error.add_note(expected)
            raise
        raise ValueError(
            f"{expected} It raised {type(error).__name__}: {error}. The sizes of its "
            f"layers follow from the two arguments of {name}, which were "
            f"{x.shape[1]} and {n_out}."
        ) from error


def _check_rows_apart(name: str, first: Any, result: Tensor) -> None:
    """Raise if the first rows ``(n, k)`` of a result are not those without the others."""
    expected = result[: len(first)] if isinstance(first, Tensor) else result
    error = float("inf")
    if isinstance(first, Tensor) and first.shape == expected.shape:
        error = float((first - expected).abs().max())
    size = float(result.abs().max())
    if not error <= _TOLERANCE * size and math.isfinite(size):
        raise ValueError(
            f"{name} must return the same for a row whatever the other rows are, but "
            f"returned another result for {_N_FEWER} rows than for these among "
            f"{_N_ROWS}, in evaluation mode. Layers may work along dimension 1, the "
            "columns, and not along dimension 0, the rows, as Softmax(dim=0) does."
        )


@contextmanager
def _for_trial(network: nn.Module) -> Iterator[nn.Module]:
    """Give a copy of a network in evaluation mode, or itself if it cannot be copied.

    A copy, because a network may count its calls, or keep means of its inputs. Of the
    network itself, buffers and modes are put back at the end.
    """
    try:
        copied = copy.deepcopy(network)
    # A user's module may refuse to be copied by any error. It is then tried itself.
    except Exception:
        copied = None
    if copied is not None:
        yield copied.eval()
        return
    modes = [(part, part.training) for part in network.modules()]
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in network.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    try:
        yield network.eval()
    finally:
        for part, mode in modes:
            part.training = mode
        for part, name, buffer, values in buffers:
            with torch.no_grad():
                setattr(part, name, buffer.copy_(values))


def _check_likelihood(likelihood: Likelihood, d: int, module: AutoencoderModule) -> None:
    """Call the methods of a likelihood that a training needs, and check the results."""
    name = type(likelihood).__name__
    unit = likelihood.unit_stddev
    if not (isinstance(unit, Real) and math.isfinite(unit) and unit > 0):
        raise ValueError(f"{name}.unit_stddev must be a number above 0, but is {unit!r}.")
    x, shape = _rows(d, module), (_N_ROWS, d)
    loc, log_scale = x.flip(0), x.new_zeros(1, 1)
    if isinstance(likelihood, GeneralizedLinear):
        x = likelihood.from_input(x.clone())
        _check_tensor(f"{name}.from_input", x, shape, module)
    n_further = n_outputs(likelihood, d) + n_parameters(likelihood, d)
    given = likelihood.given(_rows(n_further, module))
    if not isinstance(given, Likelihood):
        raise TypeError(f"{name}.given must return a Likelihood, but returned {given!r}.")
    with torch.no_grad():
        log_prob = given.log_prob(x.clone(), loc.clone(), log_scale)
        _check_tensor(f"{name}.log_prob", log_prob, shape, module)
        if log_prob.isnan().any():
            raise ValueError(f"{name}.log_prob returned NaN for finite arguments.")
        mean = given.mean(loc.clone(), log_scale)
        _check_tensor(f"{name}.mean", mean, shape, module)
        if likelihood.has_optimal_scale:
            deviation = likelihood.deviation(x - loc)
            _check_tensor(f"{name}.deviation", deviation, shape, module)
            scale = likelihood.optimal_scale(deviation.mean(dim=0, keepdim=True))
            _check_tensor(f"{name}.optimal_scale", scale, (1, d), module)


def _rows(width: int, module: AutoencoderModule) -> Tensor:
    """Return standard normal rows ``(n, width)`` in the precision of a module."""
    stream = torch.Generator("cpu").manual_seed(0)
    rows = torch.randn(_N_ROWS, width, generator=stream, device="cpu", dtype=torch.float64)
    return rows.to(module.std_in_units)


def _check_tensor(
    name: str, result: Any, shape: tuple[int, int], module: AutoencoderModule
) -> None:
    """Raise if a result is no tensor of this shape in the precision of a module."""
    expected = f"{name} must return a tensor of shape {shape}"
    if not isinstance(result, Tensor):
        raise TypeError(f"{expected}, but returned {type(result).__name__}.")
    if tuple(result.shape) != shape:
        raise ValueError(f"{expected}, but returned one of shape {tuple(result.shape)}.")
    if result.dtype != module.dtype:
        raise ValueError(
            f"{expected} and dtype {module.dtype}, that of its argument, but returned "
            f"{result.dtype}."
        )
