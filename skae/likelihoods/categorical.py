"""The categorical distribution, for one of several categories."""

import copy
from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

from skae.likelihoods.base import Derivatives
from skae.likelihoods.generalized_linear import GeneralizedLinear, LinkStart, Moments


class CategoricalLikelihood(GeneralizedLinear):
    r"""Categorical distribution, whose location is the logarithm of a probability.

    .. math:: \log p(x) = \sum_j x_j \left(\eta_j - \log \sum_i e^{\eta_i}\right)

    Here x is a one-hot vector. By default each column of the data is a column of codes:
    numbers, strings or pandas categories, whose values in the training data are its
    categories. It becomes a group of one-hot columns. There is no scale, and the score is a
    log-probability.

    Parameters
    ----------
    one_hot : bool, default=False
        Whether the columns of the data are one group of one-hot columns, and not codes.
    handle_unknown : {"error", "ignore"}, default="error"
        What to do with a category that the training data do not have, as in
        :class:`~sklearn.preprocessing.OneHotEncoder`. "ignore" takes it as missing.

    Raises
    ------
    ValueError
        If a parameter has another value.
    """

    has_analytic_gradient = True
    is_thread_safe = True
    is_smooth = True
    support = "category"
    # Number of categories of each column.
    _sizes: tuple[int, ...] = ()

    def __init__(self, one_hot: bool = False, handle_unknown: str = "error") -> None:
        if not isinstance(one_hot, (bool, np.bool_)):
            raise ValueError(f"one_hot must be a bool, got {one_hot!r}.")
        if handle_unknown not in ("error", "ignore"):
            raise ValueError(
                f"handle_unknown must be 'error' or 'ignore', got {handle_unknown!r}."
            )
        self.one_hot = one_hot
        self.handle_unknown = handle_unknown

    def __repr__(self) -> str:
        """Return the class and the parameters."""
        return (
            f"{type(self).__name__}(one_hot={self.one_hot!r}, "
            f"handle_unknown={self.handle_unknown!r})"
        )

    @property
    def batch_key(self) -> Hashable:
        """See `ModelPart.batch_key`."""
        return type(self), self._sizes

    def with_sizes(self, sizes: tuple[int, ...]) -> "CategoricalLikelihood":
        """Return the distribution of columns with given numbers of categories.

        Parameters
        ----------
        sizes : tuple of int
            Number of categories of each column.

        Returns
        -------
        CategoricalLikelihood
            A copy, whose methods take ``sum(sizes)`` features.
        """
        likelihood = copy.copy(self)
        likelihood._sizes = sizes
        return likelihood

    def from_input(self, t: Tensor) -> Tensor:
        return self._largest(t)

    def _largest(self, values: Tensor) -> Tensor:
        """Return 1 for the largest feature of each column and else 0, ``(..., d)``."""
        groups = [
            torch.zeros_like(group).scatter(-1, group.argmax(dim=-1, keepdim=True), 1.0)
            for group in self._groups(values)
        ]
        return torch.cat(groups, dim=-1)

    def start(self, moments: Moments) -> LinkStart:
        n_categories = np.repeat(self._sizes, self._sizes)
        p = (moments.n * moments.mean + 0.5) / (moments.n + 0.5 * n_categories)
        return LinkStart(np.log(p), 1 / p, 1 / p, np.ones_like(p))

    def _groups(self, values: Tensor) -> tuple[Tensor, ...]:
        """Split the features of values ``(..., d)`` into those of each column."""
        return values.split(self._sizes or values.shape[-1], dim=-1)

    def _log_softmax(self, loc: Tensor) -> Tensor:
        """Compute the log-probability of each category, ``(..., d)``."""
        groups = [group.log_softmax(dim=-1) for group in self._groups(loc)]
        return torch.cat(groups, dim=-1)

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        return x * self._log_softmax(loc)

    def derivatives(
        self, x: Tensor, loc: Tensor, log_scale: Tensor, weight: Tensor
    ) -> Derivatives:
        log_p = self._log_softmax(loc)
        return Derivatives(x * log_p, weight * (x - log_p.exp()))

    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        return self._log_softmax(loc).exp()

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        # The largest of log-probabilities with Gumbel noise has the distribution.
        exponential = torch.empty_like(loc).exponential_(generator=generator)
        gumbel = -exponential.clamp(min=torch.finfo(loc.dtype).tiny).log()
        return self._largest(loc + gumbel)
