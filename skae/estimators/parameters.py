"""Checks of parameters, and advice on bad ones, that need no data."""

from __future__ import annotations

import inspect
from contextlib import suppress
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.mixture import GaussianMixture
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from skae._utils.choices import did_you_mean
from skae._utils.random import SEED_ADVICE
from skae.likelihoods import LIKELIHOODS
from skae.networks import NETWORKS, Conv, is_built_in
from skae.networks.mlp import hidden_widths
from skae.objectives import KL_SCHEDULES

# What users call convolutions.
_CONVOLUTIONS = ("conv", "conv2d", "convolutional", "cnn")

# Parameters that are a name or an object: where the classes of objects are, and the classes
# by name.
_PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "network": ("skae.networks", {**NETWORKS, "conv": Conv}),
    "likelihood": ("skae.likelihoods", dict(LIKELIHOODS)),
    "kl_schedule": ("skae.objectives", dict(KL_SCHEDULES)),
    "prior": ("sklearn.mixture", {"mixture": GaussianMixture}),
}

# The methods of a network specification, and the names of the sizes that they get.
_SIZES = {"encoder": ("n_features", "n_outputs"), "decoder": ("n_components", "n_outputs")}


def advice(name: str, value: Any) -> str:
    """Return advice on the value of a parameter that is none of its choices, or ""."""
    if name == "learning_rate" and isinstance(value, Real):
        return "The rate itself is learning_rate_init."
    if name == "n_components" and str(value) in ("None", "mle"):
        return (
            "'auto' takes their number from the data, and a float such as 0.95 as many as "
            "PCA needs for this share of the variance."
        )
    if name == "random_state" and isinstance(value, np.random.Generator):
        return SEED_ADVICE
    if name == "likelihood" and isinstance(value, (dict, list)):
        parts = "list(likelihood.items())" if isinstance(value, dict) else "likelihood"
        return f"For one for each column, pass likelihood=skae.likelihoods.Mixed({parts})."
    if name == "network" and isinstance(value, str) and value.lower() in _CONVOLUTIONS:
        return (
            "For images, pass skae.networks.Conv((channels, height, width)), which needs "
            "their shape."
        )
    return ""


def advice_on_part(owner: str, value: Any, part: str) -> str:
    """Return which object has the parameter ``part``, in place of a value, or "".

    The value is that of the parameter ``owner``, such as the name "mlp" of a network.
    """
    if owner not in _PARTS:
        return ""
    home, by_name = _PARTS[owner]
    own = by_name.get(value) if isinstance(value, str) else type(value)
    classes = list(by_name.values())
    if own in classes:
        classes.insert(0, own)
    elif inspect.isroutine(value):
        return ""
    elif value is not None and not isinstance(value, str):
        return " If its class is yours, derive it from sklearn.base.BaseEstimator."
    for cls in classes:
        if part in inspect.signature(cls).parameters:
            pass_it = f" Pass {owner}={home}.{cls.__name__}({part}=...)."
            if issubclass(cls, BaseEstimator):
                return pass_it
            return f"{pass_it} A search takes a list of such objects as {owner}."
    return did_you_mean(part, {n for c in classes for n in inspect.signature(c).parameters})


def check_network(network: Any, hidden_layer_sizes: Any, caller: str) -> None:
    """Raise ValueError for a network whose parameters or methods cannot be used.

    ``caller`` is the name of the estimator, which has the other two as parameters.
    """
    if isinstance(network, str):
        if not isinstance(hidden_layer_sizes, str):
            hidden_widths(hidden_layer_sizes)
        return
    is_class = isinstance(network, type)
    if is_class and inspect.isfunction(inspect.getattr_static(network, "encoder")):
        arguments = "(channels, height, width)" if network is Conv else "..."
        raise InvalidParameterError(
            f"The 'network' parameter of {caller} must be an instance, but is the class "
            f"{network.__name__}. Pass an instance, such as "
            f"{network.__name__}({arguments})."
        )
    if is_built_in(network):
        network.check_parameters()
    for method, sizes in _SIZES.items():
        found = _fault(getattr(network, method))
        if found:
            cls = network.__name__ if is_class else type(network).__name__
            raise InvalidParameterError(
                f"The 'network' parameter of {caller} must have a method "
                f"{method}({', '.join(sizes)}) that builds a torch.nn.Module from "
                f"(n, {sizes[0]}) to (n, {sizes[1]}), but {cls}.{method} {found}. The "
                "encoder has n_components outputs, or 2 * n_components for "
                "VariationalAutoencoder; the decoder has as many as there are features, "
                "and those of the scale. See skae.networks.Network."
            )


def _fault(method: Any) -> str:
    """Return what is wrong with a method that builds a network of two sizes, or ""."""
    if isinstance(method, nn.Module):
        return f"is itself a module, {type(method).__name__}"
    # Some callables, such as those written in C, have no signature.
    with suppress(ValueError):
        signature = inspect.signature(method)
        try:
            signature.bind(1, 1)
        except TypeError:
            return f"takes {signature} and not two positional arguments"
    return ""
