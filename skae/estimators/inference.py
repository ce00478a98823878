"""Methods of a fitted autoencoder: codes, reconstructions and scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skae._data import Standardization, TensorStatistics, dense, take_rows
from skae._evaluation import over_rows, rows_per_chunk
from skae._fitting.lockstep import in_lockstep, offload
from skae._module import AutoencoderModule
from skae._utils.compat import array_api
from skae._utils.names import without, without_missing
from skae._utils.namespaces import home_of, like_input, on_host
from skae._utils.numbers import as_numbers, check_codes, weighted_mean
from skae._utils.settings import own_settings
from skae._utils.synonyms import OF_AUTOENCODERS
from skae._utils.threads import is_worth_a_thread, suitable_threads
from skae.estimators.fitted import FittedMixin
from skae.estimators.frames import in_output, scores_as_table
from skae.estimators.table import FLOATS
from skae.likelihoods import Mixed
from skae.objectives import Objective

# Standard deviations from the mean to which a row is moved whose code overflows float64.
_MOST_DEVIATIONS = 1e150


@without(OF_AUTOENCODERS)
class InferenceMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FittedMixin):
    """Methods of a fitted autoencoder, which use the attributes that a fit sets."""

    @abstractmethod
    def _make_objective(self) -> Objective:
        """Make the objective of the training."""

    def _fitted_objective(self) -> Objective:
        """Make the objective that defines the score of the fitted model."""
        return self._make_objective()

    @own_settings()
    @like_input
    def transform(self, X: ArrayLike) -> np.ndarray:
        """Compute the code of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Codes; for a variational autoencoder, the posterior means. The dtype is that of
            X.
        """
        data = self._validate(X)
        objective = self._fitted_objective()
        return self._in_range(lambda module, y: objective.code(module, y), data)

    @own_settings()
    @in_output("means")
    @like_input
    def inverse_transform(self, X: ArrayLike) -> Any:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X_hat : {ndarray, DataFrame} of shape (n_samples, n_features)
            Mean of the likelihood, in the units of the training data. The dtype is
            that of X; a number beyond its range is the largest or smallest of this range.
            With ``set_output(transform="pandas")`` or ``"polars"``, and training data with
            names, a frame with these names, the dtypes of real numbers that the training
            data have, and the index of a pandas frame X. With ``likelihood="mixed"``, a
            table like the training data in any case, with the index of X.

        Raises
        ------
        ValueError
            If X does not have ``n_components`` columns, or has NaN or infinities.
        """
        check_is_fitted(self)
        home = home_of(X)
        with np.errstate(over="ignore", invalid="ignore"):
            floats = FLOATS if home is None else home.floats
            Z = check_array(
                as_numbers(X), dtype=floats, ensure_all_finite=False, input_name="X"
            )
        if Z.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {Z.shape[1]} columns, but {type(self).__name__} has "
                f"n_components={self.n_components_}: inverse_transform needs codes, as "
                "returned by transform."
            )
        if home is None:
            check_codes(Z)
        else:
            Z = home.to_tensor(Z, self.module_.device)
            if _not_finite(Z).any():
                check_codes(Z.numpy(force=True))
        identity = Standardization.identity(self.n_components_)
        return self._decode(self._in_range(self._mean, Z, identity), X)

    @own_settings()
    @in_output("means")
    @like_input
    def reconstruct(self, X: ArrayLike) -> Any:
        """Compute ``inverse_transform(transform(X))`` in one pass.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        X_hat : {ndarray, DataFrame} of shape (n_samples, n_features)
            Mean of the likelihood, in the units of the training data. The dtype is
            that of X; a number beyond its range is the largest or smallest of this range.
            A frame where :meth:`inverse_transform` returns one, with the index of X.
        """
        data = self._validate(X)
        objective = self._fitted_objective()
        means = self._in_range(
            lambda module, y: self._mean(module, objective.code(module, y)), data
        )
        return self._decode(means, X)

    def _mean(self, module: AutoencoderModule, z: Tensor) -> Tensor:
        """Decode codes ``(n, k)`` to the mean of x in the units of X, float64."""
        loc, outputs = module.decode(z)
        likelihood, log_scale = module.conditional(outputs)
        return likelihood.data_mean(loc, log_scale, *self._center_and_unit(z.device))

    def _decode(self, means: Tensor, like: Any = None) -> Any:
        """Return means ``(n, n_features)`` as a table like that of the fit."""
        if self._table.columns is None:
            return means
        return self._table.decode(means.cpu().numpy(), on_host(like))

    def _center_and_unit(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return what is 0 in the likelihood's units, and these units, each ``(d,)``."""
        own = self._standardization
        return (
            torch.tensor(own.center, device=device),
            torch.tensor(own.likelihood_unit, device=device),
        )

    @own_settings()
    @like_input
    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Compute the log-likelihood of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            In nats, of data in the units of X. The documentation of the class defines the
            score. The value of a sample depends on that sample only, to rounding: 3e-7 of
            the largest value in float32, 1e-15 in float64.
        """
        data = self._validate(X)
        objective = self._fitted_objective()
        n_draws = objective.n_draws(self.module_.spec)
        scores = self._over_rows(objective.score, data, n_draws=n_draws)
        return self._to_units(scores, data)

    @own_settings()
    def score(
        self, X: ArrayLike, y: Any = None, *, sample_weight: ArrayLike | None = None
    ) -> float:
        """Compute the mean log-likelihood of the samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights for the mean.

        Returns
        -------
        score : float
            (Weighted) mean of :meth:`score_samples`, in nats.
        """
        scores = on_host(self.score_samples(X))
        return weighted_mean(scores, on_host(sample_weight))

    @own_settings()
    @in_output("scores")
    @like_input
    def score_features(
        self, X: ArrayLike, *, return_kl: bool = False
    ) -> Any | tuple[Any, np.ndarray]:
        """Compute the part of each column in the log-likelihood of each sample.

        The parts of a sample add up to its reconstruction term: its :meth:`score_samples`,
        plus the KL for a variational autoencoder.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        return_kl : bool, default=False
            Whether to return the KL too; it is 0 for a deterministic autoencoder.

        Returns
        -------
        log_likelihood : {ndarray, DataFrame} of shape (n_samples, n_features)
            Expected log-likelihood of each column, in nats, float64; 0 for what is missing.
            Scores of flags, counts and categories are log-probabilities, the others are of
            densities in the units of X. A frame with the names of the training data, and
            the index of a pandas frame X, where :meth:`inverse_transform` returns a frame.
            Columns that depend on each other share the blame: if one of them has a wrong
            value, the code moves, and the parts of the others fall too.

        kl : ndarray of shape (n_samples,)
            Only with `return_kl=True`: the sum of a row less its score, in nats.
        """
        data = self._validate(X)
        objective = self._fitted_objective()
        n_draws = objective.n_draws(self.module_.spec)
        parts = self._over_rows(objective.score_parts, data, n_draws=n_draws).double()
        kl, by_feature = parts[:, 0], parts[:, 1:]
        data = dense(data) if issparse(data) else data
        by_feature = by_feature - self._of_data("log_det_by_feature", data)
        smallest = np.finfo(np.float64).min / (by_feature.shape[1] + 1)
        by_feature = by_feature.nan_to_num(nan=smallest, neginf=smallest)
        by_column = self._sum_features(by_feature, X)
        return (by_column, kl) if return_kl else by_column

    def _sum_features(self, values: Tensor, like: Any) -> Any:
        """Sum values ``(n, n_features)`` over the features of each column, as a table."""
        if self._table.columns is None:
            return values
        by_column = self._table.sum_features(values.cpu().numpy())
        return scores_as_table(by_column, self._table.columns, on_host(like))

    def _validate(self, X: ArrayLike) -> Any:
        """Validate data for a fitted model; returns what the encoder sees of them.

        It is an array of numpy, or a tensor if X is an array of another library.
        """
        check_is_fitted(self)
        return self._table.to_input(self._table.encode(self, X))

    def _over_rows(
        self,
        function: Callable[[AutoencoderModule, Tensor], Tensor],
        X: Any,
        standardization: Standardization | None = None,
        n_draws: int = 1,
        in_order: bool = False,
    ) -> Any:
        """Apply a function of module and standardised rows, in the precision of X.

        Rows that overflow float32 are computed in float64, and so is then the result. It is
        a tensor on the device of X. A function that draws numbers needs the chunks of rows
        in their order.
        """
        values = self._in_precision_of(X, function, standardization, n_draws, in_order)
        if _is_single(X) and (overflows := _not_finite(values)).any():
            values, rows = values.double(), _double_rows(X, overflows)
            values[overflows] = self._in_precision_of(
                rows, function, standardization, n_draws, in_order
            )
        return values

    def _in_range(
        self,
        function: Callable[[AutoencoderModule, Tensor], Tensor],
        X: Any,
        standardization: Standardization | None = None,
        n_draws: int = 1,
        in_order: bool = False,
    ) -> Any:
        """Apply a function as `_over_rows` does; the result is finite, in the dtype of X.

        It is a tensor. Rows whose result overflows float64 are moved towards the mean. A
        number beyond the range of the dtype becomes the largest or smallest of this range.
        """
        values = self._over_rows(function, X, standardization, n_draws, in_order)
        if (overflows := _not_finite(values)).any():
            own = self._standardization if standardization is None else standardization
            values, rows = values.double(), _double_rows(X, overflows)
            near = _on_device_of(rows, own).near(rows, _MOST_DEVIATIONS)
            values[overflows] = self._over_rows(
                function, near, standardization, n_draws, in_order
            )
        dtype = torch.float32 if _is_single(X) else torch.float64
        largest = torch.finfo(dtype).max
        return values.clamp(-largest, largest).to(dtype)

    def _in_precision_of(
        self,
        X: Any,
        function: Callable[[AutoencoderModule, Tensor], Tensor],
        standardization: Standardization | None,
        n_draws: int,
        in_order: bool,
    ) -> Tensor:
        """Apply a function in the precision of X, also if it overflows there."""
        dtype = torch.float32 if _is_single(X) else torch.float64
        own = self._standardization
        module = self.module_.in_precision(dtype, own.module_buffers)

        def is_thread_safe() -> bool:
            # It takes a fifth of the time of a few rows, which need not know it.
            both = module.capabilities & self._fitted_objective().capabilities
            return both.is_thread_safe

        n_chunk = rows_per_chunk(module, n_draws)
        n_products = n_draws * module.n_weights  # of a row
        devices = {module.device.type, X.device.type if isinstance(X, Tensor) else "cpu"}
        has_workers = (
            not in_order
            and devices == {"cpu"}
            and is_worth_a_thread(X.shape[0] * n_products)
            and is_thread_safe()
        )

        def work() -> np.ndarray | Tensor:
            # Of one chunk: there, threads wait for each other at each operation.
            n_rows = min(X.shape[0], n_chunk)
            with suitable_threads(n_rows * n_products) as most, np.errstate(over="ignore"):
                return over_rows(
                    partial(function, module),
                    X,
                    own if standardization is None else standardization,
                    module,
                    n_draws=n_draws,
                    are_codes=standardization is not None,
                    n_workers=min(most, -(-X.shape[0] // n_chunk)) if has_workers else 1,
                )

        if in_lockstep() and is_thread_safe():
            return _as_tensor(offload(work))
        return _as_tensor(work())

    def _of_data(self, statistic: str, X: Any) -> Tensor | float:
        """Return a statistic of the standardisation for rows, on their device."""
        values = getattr(_on_device_of(X, self._standardization), statistic)(X)
        return values if isinstance(values, float) else _as_tensor(values)

    def _to_units(self, log_density: Tensor, X: Any) -> Any:
        """Convert log-densities ``(n,)`` to the units of X, and to its dtype: a tensor."""
        in_units = log_density.double() - self._of_data("log_det_of", X)
        # A score beyond the range of the dtype is the smallest number of this range.
        dtype = torch.float32 if _is_single(X) else torch.float64
        smallest = torch.finfo(dtype).min
        in_units = in_units.nan_to_num(nan=smallest, neginf=smallest)
        return in_units.clamp_min(smallest).to(dtype)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Return what the HTML of a fitted estimator lists; see scikit-learn."""
        attributes = super()._get_fitted_attr_html(doc_link)
        if "module_" in attributes:
            # With its dtype, it would be shown as an array without a shape.
            name = type(self.module_).__name__
            attributes["module_"] = {
                "type_name": f"{name}, number of weights",
                "value": self.module_.n_weights,
            }
        likelihood = getattr(self, "likelihood_", None)
        if isinstance(likelihood, Mixed):
            # As names, because the HTML cuts values after a few characters.
            for line in likelihood.describe():
                attributes[f"likelihood_, {line}"] = {"type_name": "", "value": ""}
        return attributes

    def __dir__(self) -> list[str]:
        return without_missing(self, super().__dir__())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        tags.array_api_support = array_api is not None
        tags.input_tags.sparse = True
        return tags


def _as_tensor(values: np.ndarray | Tensor) -> Tensor:
    """Return values as a tensor that shares their memory."""
    return torch.from_numpy(values) if isinstance(values, np.ndarray) else values


def _not_finite(values: Tensor) -> Tensor:
    """Whether a row of values ``(n, ...)`` has a number that is not finite, ``(n,)``."""
    finite = values.isfinite()
    return ~(finite.flatten(1).all(dim=1) if values.ndim > 1 else finite)


def _is_single(X: Any) -> bool:
    """Whether data have single precision."""
    return X.dtype in (np.float32, torch.float32)


def _on_device_of(
    X: Any, standardization: Standardization
) -> Standardization | TensorStatistics:
    """Return the statistics in the library of data, and on their device."""
    return standardization.on(X.device) if isinstance(X, Tensor) else standardization


def _double_rows(X: Any, chosen: Tensor) -> Any:
    """Return chosen rows ``(n,)`` of data in double precision."""
    rows = take_rows(X, chosen)
    rows = dense(rows) if issparse(rows) else rows
    return rows.double() if isinstance(rows, Tensor) else rows.astype(np.float64)
