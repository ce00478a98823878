"""A likelihood for each column: numbers, amounts, counts, flags and categories."""

import copy
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from skae._utils.signatures import make_methods_readable
from skae.likelihoods.base import Derivatives, Likelihood

# Columns of a table, as scikit-learn's ColumnTransformer takes them, and a family.
Part = tuple[Any, "str | Likelihood"]


@make_methods_readable
class Mixed(Likelihood):
    r"""One likelihood for each group of columns; given the code, columns are independent.

    .. math:: \log p(x|z) = \sum_j \log p_j(x_j|z)

    Flags, categories and counts have log-probabilities, and real numbers log-densities in
    their own units. So the score may be compared with other scores of the same table, if
    both take the same columns as discrete.

    With this likelihood, ``fit`` takes pandas and polars frames with strings, flags and
    categories as they are. ``inverse_transform``, ``reconstruct``, ``sample`` and
    ``impute`` return the columns as they came in: the most probable category or flag, a
    rounded integer, a number. Columns have units of their own, so each has its own scale,
    whatever `covariance_type` is.

    Parameters
    ----------
    columns : "auto" or list of (columns, likelihood) tuples, default="auto"
        The columns are a name, a list of names, an index, a list of indices, a slice, a
        boolean mask or a callable such as :class:`~sklearn.compose.make_column_selector`,
        as in :class:`~sklearn.compose.ColumnTransformer`. The likelihood is a name, an
        instance, or "auto". Each column must be in one tuple. "auto" is one tuple of all
        columns. It chooses by dtype and values: "bernoulli" for booleans and numbers that
        are 0 or 1; "categorical" for strings, pandas categories and integers of at most 10
        different values; "negative_binomial" for other non-negative integers whose variance
        is not below their mean; `real` for all others. Floats that are whole numbers count
        as integers in arrays, and in frames if some are missing. A fit warns of columns
        whose values speak against the choice.
    real : str or Likelihood, default="gaussian"
        The likelihood of real numbers where "auto" chooses.
    handle_unknown : {"error", "ignore"}, default="error"
        What to do with a category that the training data do not have, where the likelihood
        is chosen by name. "ignore" takes it as missing.

    Raises
    ------
    ValueError
        If a parameter has another form.

    Examples
    --------
    >>> import pandas as pd
    >>> from skae import VariationalAutoencoder
    >>> from skae.likelihoods import Mixed
    >>> X = pd.DataFrame({"height": [1.6, 1.8, 1.7, 1.9], "smokes": [True, False] * 2})
    >>> model = VariationalAutoencoder(1, likelihood=Mixed("auto"), max_iter=2)
    >>> model.fit(X).likelihood_
    Mixed([(['height'], 'gaussian'), (['smokes'], 'bernoulli')])
    """

    support = "category"
    # Ranges of features and their densities; empty before a fit.
    _parts: tuple[tuple[slice, Likelihood], ...] = ()

    def __init__(
        self,
        columns: str | Sequence[Part] = "auto",
        *,
        real: str | Likelihood = "gaussian",
        handle_unknown: str = "error",
    ) -> None:
        if isinstance(columns, str) and columns != "auto":
            raise ValueError(
                f"columns must be 'auto' or a list of tuples, got {columns!r}."
            )
        if isinstance(columns, dict):
            raise ValueError(
                "columns must be a list of tuples, but is a dict: pass "
                "list(columns.items())."
            )
        if not isinstance(columns, str):
            columns = [_checked_part(part) for part in columns]
        if handle_unknown not in ("error", "ignore"):
            raise ValueError(
                f"handle_unknown must be 'error' or 'ignore', got {handle_unknown!r}."
            )
        self.columns = columns
        self.real = real
        self.handle_unknown = handle_unknown

    def __repr__(self) -> str:
        """Return the class and the parameters that are not the defaults."""
        shown = [repr(self.columns)]
        if self.real != "gaussian":
            shown.append(f"real={self.real!r}")
        if self.handle_unknown != "error":
            shown.append(f"handle_unknown={self.handle_unknown!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def describe(self) -> list[str]:
        """Return a line for each group of columns: its likelihood, and its columns.

        Returns
        -------
        list of str
            Such as "gaussian: height, income".
        """
        if isinstance(self.columns, str):
            return []
        return [f"{family}: {_listed(key)}" for key, family in self.columns]

    def bind(
        self, columns: list[Part], parts: Sequence[tuple[slice, Likelihood]]
    ) -> "Mixed":
        """Return the likelihood of certain columns.

        Parameters
        ----------
        columns : list of (columns, likelihood) tuples
            What was chosen, in words: names or indices, and the name or the instance.
        parts : sequence of (slice, Likelihood)
            Ranges of features that follow each other, and the density of each.

        Returns
        -------
        Mixed
            A copy that can be evaluated.
        """
        bound = copy.copy(self)
        bound.columns, bound._parts = columns, tuple(parts)
        return bound

    def parts(self, n_features: int) -> list[tuple[slice, Likelihood]]:
        return list(self._parts)

    def _families(self) -> list[Likelihood]:
        """Return the density of each part."""
        return [family for _, family in self._parts]

    @property  # an attribute of all other classes, which mypy tells apart
    def has_scale(self) -> bool:  # type: ignore[override]
        """Whether a part has a scale; always before a fit."""
        return not self._parts or any(f.has_scale for f in self._families())

    @property
    def heavy_tailed(self) -> bool:
        """Whether a part is heavy-tailed."""
        return any(family.heavy_tailed for family in self._families())

    @property
    def has_analytic_gradient(self) -> bool:
        """Whether all parts provide their own derivatives."""
        families = self._families()
        return type(self) is Mixed and all(f.has_analytic_gradient for f in families)

    @property
    def is_thread_safe(self) -> bool:
        """Whether all parts may be computed in any thread."""
        families = self._families()
        return type(self) is Mixed and all(f.is_thread_safe for f in families)

    @property
    def batch_key(self) -> Hashable | None:
        """See `ModelPart.batch_key`."""
        keys = [family.batch_key for family in self._families()]
        if None in keys:
            return None
        widths = [part.stop - part.start for part, _ in self._parts]
        return type(self), tuple(keys), tuple(widths)

    @property
    def unit_stddev(self) -> float:
        """Not used: each part has its own."""
        return 1.0

    def start_outputs(self, n_features: int) -> Tensor:
        return torch.cat([f.start_outputs(_width(p)) for p, f in self._parts])

    def start_parameters(self, n_features: int) -> Tensor:
        return torch.cat([f.start_parameters(_width(p)) for p, f in self._parts])

    def given(self, outputs: Tensor) -> "Mixed":
        n_outputs = [len(f.start_outputs(_width(p))) for p, f in self._parts]
        n_parameters = [len(f.start_parameters(_width(p))) for p, f in self._parts]
        if not sum(n_outputs) + sum(n_parameters):
            return self
        m = len(n_outputs)
        pieces = outputs.split([*n_outputs, *n_parameters], dim=-1)
        given = copy.copy(self)
        given._parts = tuple(
            (part, family.given(torch.cat([pieces[i], pieces[m + i]], dim=-1)))
            for i, (part, family) in enumerate(self._parts)
        )
        return given

    def _joined(
        self, method: str, loc: Tensor, log_scale: Tensor, *others: Any, first: Any = None
    ) -> Tensor:
        """Call a method of each part with its features, and join the results."""
        results = []
        for part, family in self._parts:
            own = [loc[..., part], _features(log_scale, part)]
            if first is not None:
                own.insert(0, first[..., part])
            further = [o[..., part] if isinstance(o, Tensor) else o for o in others]
            results.append(getattr(family, method)(*own, *further))
        return torch.cat(results, dim=-1)

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        return self._joined("log_prob", loc, log_scale, first=x)

    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        return self._joined("mean", loc, log_scale)

    def data_mean(
        self, loc: Tensor, log_scale: Tensor, center: Tensor, unit: Tensor
    ) -> Tensor:
        return self._joined("data_mean", loc, log_scale, center, unit)

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        return self._joined("sample", loc, log_scale, generator)

    def data_sample(
        self,
        loc: Tensor,
        log_scale: Tensor,
        center: Tensor,
        unit: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        return self._joined("data_sample", loc, log_scale, center, unit, generator)

    def derivatives(
        self, x: Tensor, loc: Tensor, log_scale: Tensor, weight: Tensor
    ) -> Derivatives:
        found = [
            family.derivatives(
                x[..., part],
                loc[..., part],
                _features(log_scale, part),
                _features(weight, part),
            )
            for part, family in self._parts
        ]
        log_scales = [
            torch.zeros_like(d.loc) if d.log_scale is None else d.log_scale for d in found
        ]
        return Derivatives(
            torch.cat([d.log_prob for d in found], dim=-1),
            torch.cat([d.loc for d in found], dim=-1),
            torch.cat(log_scales, dim=-1),
            self._join_outputs(found),
        )

    def _join_outputs(self, found: Sequence[Derivatives]) -> Tensor | None:
        """Join the derivatives of outputs, and after them those of free parameters."""
        outputs, parameters = [], []
        for (part, family), d in zip(self._parts, found, strict=True):
            if d.outputs is not None:
                n = len(family.start_outputs(_width(part)))
                outputs.append(d.outputs[..., :n])
                parameters.append(d.outputs[..., n:])
        return torch.cat([*outputs, *parameters], dim=-1) if outputs else None

    def _of_parts(
        self, call: Callable[[Likelihood, Tensor], Tensor], values: Tensor
    ) -> Tensor:
        """Call a function for each part and its features of values ``(..., d)``."""
        return torch.cat([call(f, values[..., part]) for part, f in self._parts], dim=-1)

    def start_deviation(self, residual: Tensor) -> Tensor:
        return self._of_parts(lambda f, r: f.start_deviation(r), residual)

    def start_scale(self, mean_deviation: Tensor) -> Tensor:
        return self._of_parts(lambda f, m: f.start_scale(m), mean_deviation)

    def deviation(self, residual: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Compute the deviations of the parts that have them, and 0 for others.

        See `Likelihood.deviation`.
        """
        return self._of_parts(
            lambda f, r: f.deviation(r) if f.has_optimal_scale else torch.zeros_like(r),
            residual,
        )


def _checked_part(part: Any) -> Part:
    """Return a part as a tuple of columns and likelihood, or raise ValueError."""
    is_pair = isinstance(part, (tuple, list)) and len(part) == 2
    if not is_pair or not isinstance(part[1], (str, Likelihood)):
        raise ValueError(
            "columns must be tuples of columns and a likelihood, such as "
            f"(['age', 'income'], 'gaussian'), but one of them is {part!r}."
        )
    return part[0], part[1]


def _listed(key: Any) -> str:
    """Return columns as text."""
    return ", ".join(map(str, key)) if isinstance(key, (list, tuple)) else str(key)


def _width(part: slice) -> int:
    """Return the number of features of a part."""
    return int(part.stop - part.start)


def _features(values: Tensor, part: slice) -> Tensor:
    """Return the features of a part of values that may have one for all features."""
    return values if values.shape[-1] == 1 else values[..., part]
