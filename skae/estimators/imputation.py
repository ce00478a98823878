"""Missing entries of a row, from the fitted model's distribution given the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skae._data.columns import package_of
from skae._fitting.lockstep import shared_result
from skae._module import AutoencoderModule, from_inputs
from skae._utils.choices import did_you_mean, validate_parameters
from skae._utils.memory import require_memory
from skae._utils.names import suggest_keywords
from skae._utils.namespaces import like_input, on_host
from skae._utils.numbers import as_numbers, check_count
from skae._utils.random import draw_seed, local_random_state, torch_generator
from skae._utils.settings import own_settings
from skae.estimators.frames import in_output
from skae.estimators.inference import InferenceMixin
from skae.estimators.table import check_support
from skae.objectives.draws import row_shift, shifted_normal, sobol_normal

_STATISTICS = {"statistic": [StrOptions({"mean", "median", "plug_in"})]}
# Draws of the code from which fewer draws of a row are taken, and their largest number.
_DRAWS_PER_SAMPLE, _MOST_DRAWS = 4, 2**14
# Draws of the code for a sample given a row.
_FEWEST_DRAWS = 256
# Arrays of the size of the result that exist at the same time.
_COPIES = 4


class ImputationMixin(InferenceMixin):
    """What a fitted model says of missing entries."""

    @suggest_keywords
    @own_settings()
    @in_output("filled")
    @like_input
    def impute(
        self,
        X: ArrayLike,
        n_samples: int | None = None,
        *,
        statistic: str = "mean",
        n_draws: int = 256,
        random_state: int | np.random.RandomState | None = 0,
    ) -> Any:
        r"""Fill the missing entries of each sample, given its observed entries.

        The distribution of the missing entries m given the observed entries o is

        .. math:: p(x_m | x_o) \approx \sum_k w_k\, p(x_m | z_k), \quad
            w_k \propto \frac{p(x_o|z_k)\, p(z_k)}{q(z_k|x_o)}, \quad z_k \sim q(z|x_o)

        with K = `n_draws` and weights that add up to 1: self-normalised importance sampling
        (Mattei and Frellsen 2019, eq. 11). No weight is above :math:`\sqrt K` times their
        mean before they are normalised (Ionides 2008). For a deterministic autoencoder
        it is p(x_m | z), with the code z of the observed entries.

        The values are right on average if entries are missing at random: whether an entry
        is missing may depend on the observed entries, but not on its own value. A single
        imputation understates the uncertainty: for inference from the filled table, draw
        several ones by `n_samples`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; NaN, pandas' NA and polars' null are missing, and so are masked entries of
            a masked array.

        n_samples : int, default=None
            Number m of tables to draw from the distribution (multiple imputation). By
            default one table with its `statistic` is returned. The number of draws of the
            code is `n_draws`.

        statistic : {"mean", "median", "plug_in"}, default="mean"
            Mean or median of each missing entry. The mean of a flag is a probability, and
            its median is 0 or 1; in a mixed table both are the more probable value.
            "plug_in" is the likelihood's mean at the
            code that :meth:`transform` returns, which needs no draws and neglects the
            spread of the code. Not used with `n_samples`.

        n_draws : int, default=256
            Draws of the code for each row, K. With `n_samples` at least four times as many
            as `n_samples`, up to 16384.

        random_state : int, RandomState instance or None, default=0
            Source of the draws; None gives new draws at each call.

        Returns
        -------
        X_filled : {ndarray, DataFrame} of shape (n_samples, n_features), or m of them
            The table, or m tables, as an array of shape (m, n_samples, n_features).
            Observed entries are those of X. The dtype is that of X. With
            ``set_output(transform="pandas")`` or ``"polars"``, and training data with
            names, a frame with these names and the index of a pandas frame X, or a list of
            m frames. A model with a mixed likelihood that was fitted to a frame does so
            without `set_output`.

        Raises
        ------
        ValueError
            If a parameter is out of range, or X is not valid.

        References
        ----------
        P.-A. Mattei and J. Frellsen (2019). "MIWAE: deep generative modelling and
        imputation of incomplete data sets". ICML.

        E. L. Ionides (2008). "Truncated importance sampling". Journal of Computational and
        Graphical Statistics 17(2). Equation 3.
        """
        validate_parameters(_STATISTICS, {"statistic": statistic}, "impute")
        check_count(n_draws, "n_draws")
        if n_samples is not None:
            check_count(n_samples, "n_samples")
        check_is_fitted(self)
        data = self._table.encode(self, X, takes_sparse=False)
        missing = data != data
        incomplete = missing.any(axis=1)
        rows = self._table.to_input(data[incomplete])
        if isinstance(data, Tensor):
            filled = data.clone()
        else:
            filled = torch.from_numpy(data.copy())
            missing, incomplete = map(torch.from_numpy, (missing, incomplete))
        known, holes = filled[incomplete], missing[incomplete]
        if n_samples is None:
            if len(rows):
                values = self._conditional(rows, None, statistic, n_draws, random_state)
                filled[incomplete] = torch.where(holes, values[:, 0], known)
            return self._fill(X, filled)
        require_memory(
            _COPIES * 8 * int(n_samples) * filled.numel(),
            f"n_samples={n_samples} tables",
            "Lower n_samples.",
        )
        tables = filled.repeat(int(n_samples), 1, 1)
        if len(rows):
            values = self._conditional(rows, int(n_samples), "mean", n_draws, random_state)
            tables[:, incomplete] = torch.where(holes, values.swapaxes(0, 1), known)
        if self._table.columns is None:
            return tables
        filled_tables = [self._fill(X, table) for table in tables]
        is_array = isinstance(filled_tables[0], np.ndarray)
        return np.stack(filled_tables) if is_array else filled_tables

    def _fill(self, X: Any, filled: Tensor) -> Any:
        """Return the table of a user with its missing entries filled."""
        if self._table.columns is None:
            return filled
        return self._table.fill(on_host(X), filled.cpu().numpy())

    def _conditional(
        self,
        rows: Any,
        n_samples: int | None,
        statistic: str,
        n_draws: int,
        random_state: int | np.random.RandomState | None,
        noise: bool = True,
    ) -> Tensor:
        """Draw from, or summarise, the distribution of rows given what is observed.

        Returns ``(n, n_samples or 1, d)`` in the units of X. Without noise, draws are the
        likelihood's means for drawn codes.
        """
        source = local_random_state(random_state)
        seed = draw_seed(source)
        generator = torch_generator(source, self.module_.device)
        objective, k = self._fitted_objective(), self.n_components_
        if n_samples is not None:
            n_draws = min(max(n_draws, _DRAWS_PER_SAMPLE * n_samples), _MOST_DRAWS)
        if statistic == "plug_in" or objective.n_mc_samples == 0:
            n_draws = 1
        is_median = n_samples is None and statistic == "median" and n_draws > 1
        state = generator.get_state()
        draws = shared_result(sobol_normal, int(n_draws), k, seed)[:, None]
        draws = draws.to(self.device_)
        units = self._center_and_unit(self.module_.device)
        is_discrete = self._is_discrete()

        def values(module: AutoencoderModule, y: Tensor) -> Tensor:
            if statistic == "plug_in":
                z, log_weight = objective.code(module, y)[None], y.new_zeros(1, len(y))
                decoded = module.decode(z[0])
            else:
                shift = row_shift(y[:, : module.spec.n_features], k, seed)
                own = shifted_normal(draws, shift)
                z, log_weight, decoded = objective.weighted_codes(module, y, own)
            weight = _truncated(log_weight.double()).softmax(dim=0)  # (m, n)
            if n_samples is not None:
                # Of a row that overflows float32, any draw.
                weight = weight.nan_to_num(nan=1.0)
                chosen = torch.multinomial(weight.T, n_samples, True, generator=generator)
                z = z.gather(0, chosen.T[..., None].expand(-1, -1, k))
                decoded = module.decode(z.reshape(-1, k))
            loc, outputs = (part.unflatten(0, z.shape[:2]) for part in decoded)
            if is_median:
                x = _draw_alike(module, loc, outputs, units, generator, state)
            elif n_samples is not None and noise:
                x = _draw(module, loc, outputs, units, generator)
            else:
                # Of a single code, mean and median of a symmetric density are the same.
                likelihood, log_scale = module.conditional(outputs)
                x = likelihood.data_mean(loc, log_scale, *units)
            x = x.double()  # (m, n, d)
            if n_samples is None:
                mean = (weight[..., None] * x).sum(dim=0, keepdim=True)
                if is_median:
                    # A flag or a category has a mode in place of a median.
                    median = _weighted_median(x, weight)
                    mode = from_inputs(module.linked, mean.clone())
                    mean = torch.where(is_discrete.to(x.device), mode, median)
                x = mean
            return x.transpose(0, 1)

        draws_numbers = n_samples is not None or is_median
        return self._in_range(values, rows, n_draws=n_draws, in_order=draws_numbers)

    def _sample_given(
        self,
        given: ArrayLike,
        n_samples: int,
        random_state: int | np.random.RandomState | None,
        noise: bool,
    ) -> np.ndarray:
        """Draw rows ``(n_samples, d)`` with known entries; see the method `sample`."""
        given = self._row_of_names(given)
        if self._table.columns is not None:
            return self._sample_given_columns(given, n_samples, random_state, noise)
        row = np.asarray(as_numbers(given, "given"), dtype=np.float64)
        if row.shape != (self.n_features_in_,):
            raise ValueError(
                f"given must be one row of {self.n_features_in_} features, with NaN for "
                f"those to draw, but has shape {row.shape}. A dict or a frame of one row "
                "may have some columns only."
            )
        if np.isinf(row).any():
            raise ValueError("given has infinities; use NaN for what is to be drawn.")
        check_support(row[None], self._table.likelihood, None, None)
        return self._complete(row, n_samples, random_state, noise)

    def _row_of_names(self, given: Any) -> Any:
        """Return a row of all columns for a dict, or a frame of one row, of some columns.

        What is not given is missing. Anything else is returned as it is.
        """
        columns, package = self._table.columns, package_of(given)
        if package is not None and len(given.shape) == 2 and len(given) == 1:
            given = {name: next(iter(given[name])) for name in given.columns}
        if not isinstance(given, Mapping):
            return given
        names = getattr(self, "feature_names_in_", None)
        if columns is not None and columns.names is not None:
            names = columns.names
        names = list(range(self.n_features_in_) if names is None else names)
        unknown = [name for name in given if name not in names]
        if unknown:
            hint = did_you_mean(unknown[0], map(str, names))
            raise ValueError(f"given has {unknown[0]!r}, which is no column of X.{hint}")
        empty = np.nan if columns is None else None
        row = {name: given.get(name, empty) for name in names}
        if columns is None:
            return [np.nan if value is None else value for value in row.values()]
        if columns.package is None:
            return list(row.values())
        # The fit has imported it.
        frame = import_module(columns.package).DataFrame
        return frame({name: [value] for name, value in row.items()})

    def _complete(
        self,
        row: np.ndarray,
        n_samples: int,
        random_state: int | np.random.RandomState | None,
        noise: bool,
    ) -> np.ndarray:
        """Draw the missing features of a row ``(n_features,)``; ``(n_samples, ...)``."""
        rows = self._table.to_input(row[None])
        drawn = self._conditional(
            rows, int(n_samples), "mean", _FEWEST_DRAWS, random_state, noise
        )[0].numpy()
        return np.where(np.isnan(row), drawn, row)

    def _sample_given_columns(
        self,
        given: Any,
        n_samples: int,
        random_state: int | np.random.RandomState | None,
        noise: bool,
    ) -> Any:
        """Draw a table with known columns; see the method `sample`."""
        if np.ndim(given) == 1:
            # A row of a frame of pandas is a series.
            given = given.to_frame().T if hasattr(given, "to_frame") else [given]
        features = self._table.encode(self, given)
        if len(features) != 1:
            raise ValueError(f"given must be one row, but has {len(features)} rows.")
        complete = self._complete(features[0], n_samples, random_state, noise)
        return self._table.decode(complete)

    def _is_discrete(self) -> Tensor:
        """Whether each feature is a flag, or of a category, ``(n_features,)``."""
        spec = self.module_.spec
        result = torch.zeros(spec.n_features, dtype=torch.bool, device="cpu")
        for part, family in spec.likelihood.parts(spec.n_features):
            result[part] = family.support in ("boolean", "category")
        return result


def _draw(
    module: AutoencoderModule,
    loc: Tensor,
    outputs: Tensor,
    units: tuple[Tensor, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Draw x for decoded codes, ``(..., d)``, in units of the data."""
    likelihood, log_scale = module.conditional(outputs)
    return likelihood.data_sample(loc, log_scale, *units, generator)


def _draw_alike(
    module: AutoencoderModule,
    loc: Tensor,
    outputs: Tensor,
    units: tuple[Tensor, Tensor],
    generator: torch.Generator,
    state: Tensor,
) -> Tensor:
    """Draw x for decoded codes ``(m, n, d)``, with the same noise for each of the n rows.

    So no row depends on the others. ``state`` is that of the generator.
    """
    by_row = []
    for parts in zip(loc.unbind(1), outputs.unbind(1), strict=True):
        generator.set_state(state)
        by_row.append(_draw(module, *parts, units, generator))
    return torch.stack(by_row, dim=1)


def _truncated(log_weight: Tensor) -> Tensor:
    """Cut logarithms of weights ``(m, n)`` at sqrt(m) times the mean weight."""
    m = len(log_weight)
    return log_weight.clamp_max(log_weight.logsumexp(dim=0) - 0.5 * math.log(m))


def _weighted_median(x: Tensor, weight: Tensor) -> Tensor:
    """Compute the median of draws ``(m, n, d)`` with weights ``(m, n)``; ``(1, n, d)``."""
    ordered, order = x.sort(dim=0)
    cumulative = weight[..., None].expand_as(x).gather(0, order).cumsum(dim=0)
    position = (cumulative < 0.5).sum(dim=0, keepdim=True).clamp_max(len(x) - 1)
    return ordered.gather(0, position)
