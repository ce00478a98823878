"""The model and the training that parameters and data describe, sizes included."""

import copy
from dataclasses import fields, replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from skae._data import Rows, Standardization
from skae._fitting.moments import MOST_FEATURES, expected_moments
from skae._fitting.ppca import (
    components_of,
    is_wide_sparse,
    principal_components,
)
from skae._fitting.problem import TrainingOptions
from skae._module import Spec
from skae._utils.numbers import is_integer
from skae.estimators.training_data import TrainingData
from skae.likelihoods import Mixed
from skae.networks import NETWORKS
from skae.networks.mlp import hidden_widths
from skae.objectives import Objective
from skae.scales import resolve_variance_mode

# Components for each feature, and the most components, which bound the time on wide data.
# docs/results/recipes.rst has the measured effect of the components, the width and the
# length.
_COMPONENTS_PER_FEATURE = 0.6
_MOST_COMPONENTS = 64
# Samples for each hidden unit, and the smallest and largest width.
_SAMPLES_PER_UNIT = 16
_FEWEST_UNITS, _MOST_UNITS = 32, 512
# Steps of a training, and the smallest and largest number of epochs. Larger tables have
# more to learn from, so theirs is another smallest number.
_STEPS = 1600
_FEWEST_EPOCHS, _MOST_EPOCHS = 140, 1000
_LARGE_TABLE, _FEWEST_EPOCHS_OF_LARGE = 10_000, 200
# Strength of the penalty for each pair of features and sample, and its bounds. Possible
# dependences grow with the pairs, and what the data say of them with the samples.
_ALPHA_PER_PAIR = 10.0
_SMALLEST_ALPHA, _LARGEST_ALPHA = 1.0, 30.0


def make_spec(estimator: Any, objective: Objective, data: TrainingData) -> Spec:
    """Describe the module; what is chosen by the data stays in a warm start."""
    last = estimator.module_.spec if data.is_continued else None
    likelihood = data.table.likelihood
    n_components, network = estimator.n_components, estimator.network
    if last and not is_integer(n_components):
        n_components = last.n_components
    else:
        n_components = choose_n_components(n_components, data.rows, data.standardization)
    if not isinstance(network, str):
        network = clone(network, safe=False)
    elif last and isinstance(estimator.hidden_layer_sizes, str):
        network = last.network
    else:
        # A copy of the widths, because the list may change after the fit.
        widths = choose_widths(estimator.hidden_layer_sizes, data.rows.n_samples)
        network = NETWORKS[network](
            hidden_layer_sizes=widths, activation=estimator.activation
        )
    return Spec(
        n_features=data.X.shape[1],
        n_components=n_components,
        n_heads=objective.n_heads,
        network=network,
        likelihood=copy.deepcopy(likelihood),
        # The parts of a mixed likelihood have modes of their own.
        variance_mode=(
            estimator.variance_mode
            if isinstance(likelihood, Mixed)
            else resolve_variance_mode(estimator.variance_mode, likelihood)
        ),
        covariance_type=data.table.covariance_type(estimator.covariance_type),
        has_missing=data.rows.has_missing or bool(last and last.has_missing),
    )


def make_options(estimator: Any, data: TrainingData) -> TrainingOptions:
    """Collect the parameters of the training, with numbers in place of "auto"."""
    given = {f.name: getattr(estimator, f.name) for f in fields(TrainingOptions)}
    options, size = TrainingOptions(**given), data.rows.epoch_size
    return replace(
        options,
        alpha=choose_alpha(options.alpha, data.X.shape[1], data.rows.n_samples),
        max_iter=choose_max_iter(options.max_iter, size, options.rows_per_batch(size)),
    )


def choose_n_components(
    n_components: Any, rows: Rows, standardization: Standardization
) -> int:
    """Return the number of components for a number, a share of the variance or "auto"."""
    if isinstance(n_components, Integral):
        return int(n_components)
    d = rows.X.shape[1]
    if isinstance(n_components, str):
        return max(min(round(_COMPONENTS_PER_FEATURE * d), _MOST_COMPONENTS), 1)
    most = min(rows.total, d)
    if is_wide_sparse(rows):
        raise ValueError(
            f"n_components={n_components} needs all principal components, which take too "
            f"long for sparse data of {d} features. Pass an integer."
        )
    if standardization.links is not None:
        # Of a flag or a count, what its distribution leaves is no variance to explain.
        links = standardization.links
        noise = np.where(links.is_linked, np.sqrt(links.noise), 1.0)
        standardization = standardization.whitened(noise)
    if rows.has_missing and d <= MOST_FEATURES:
        few = min(most, _MOST_COMPONENTS)
        covariance = expected_moments(rows, standardization, few).covariance
        _, eigenvalues, rest = components_of(covariance, most)
    else:
        _, eigenvalues, rest = principal_components(rows, standardization, most)
    total = eigenvalues.sum() + rest
    if not total > 0:
        return 1
    # As many as PCA takes: the first number whose share is above n_components.
    shares = np.cumsum(eigenvalues) / total
    return min(int(np.searchsorted(shares, n_components, side="right")) + 1, most)


def choose_widths(hidden_layer_sizes: str | ArrayLike, n_samples: float) -> tuple[int, ...]:
    """Return the widths of the hidden layers for given ones or "auto".

    "auto" is one layer of a sixteenth of the samples, as a power of 2.
    """
    if not isinstance(hidden_layer_sizes, str):
        return hidden_widths(hidden_layer_sizes)
    width = 2 ** round(np.log2(max(n_samples / _SAMPLES_PER_UNIT, 1)))
    return (int(np.clip(width, _FEWEST_UNITS, _MOST_UNITS)),)


def choose_alpha(alpha: float | str, n_features: int, n_samples: float) -> float:
    """Return the strength of the penalty for a given one or "auto"."""
    if not isinstance(alpha, str):
        return float(alpha)
    chosen = _ALPHA_PER_PAIR * n_features**2 / n_samples
    return float(np.clip(chosen, _SMALLEST_ALPHA, _LARGEST_ALPHA))


def choose_max_iter(max_iter: int | str, epoch_size: int, rows_per_batch: int) -> int:
    """Return the number of epochs for a given one or "auto", about 1,600 steps."""
    if not isinstance(max_iter, str):
        return int(max_iter)
    n_batches = -(-epoch_size // rows_per_batch)
    fewest = _FEWEST_EPOCHS_OF_LARGE if epoch_size > _LARGE_TABLE else _FEWEST_EPOCHS
    return int(np.clip(-(-_STEPS // n_batches), fewest, _MOST_EPOCHS))
