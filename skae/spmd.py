"""Estimators that several processes fit together, each with a part of the rows.

They have the parameters and methods of the estimators of `skae`. Every process of torch's
default process group calls ``fit`` with its own rows, and ends with the same model, which
is that of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils.validation import _num_samples

from skae._data import Rows, Shard, make_shard, share_out, split_validation
from skae._fitting.lockstep import in_lockstep
from skae._fitting.problem import FitProblem, TrainingOptions
from skae._module import Spec
from skae._utils.fingerprint import describe
from skae._utils.names import own_method_names
from skae._utils.namespaces import Home
from skae._utils.peers import ALONE, Peers, ProcessPeers, describe_error
from skae.estimators import deterministic, variational
from skae.estimators.base import BaseAutoencoder
from skae.estimators.training_data import TrainingData
from skae.likelihoods import CategoricalLikelihood, Mixed
from skae.networks import is_built_in
from skae.objectives import Objective

__all__ = ["GaussianAutoencoder", "LaplaceAutoencoder", "VariationalAutoencoder"]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)


# Parameters that may be different in each process. The random state is that of the first.
_OF_EACH = {"device", "random_state", "verbose"}


class DataParallelMixin(BaseAutoencoder):
    """The fit of one model by several processes. See `skae.spmd.VariationalAutoencoder`."""

    # Several processes take no table of several kinds of columns.
    _advice_on_strings: ClassVar[str] = ""

    @property
    def partial_fit(self) -> Any:
        """Method that several processes do not have, also if one process has it."""
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute 'partial_fit': a stream is "
            "for one process. Use the estimator of skae in place of that of skae.spmd."
        )

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
    ) -> Self:
        """Fit the model to the rows of all processes.

        All processes call this method together. The model is the same in all of them, to
        the bit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows of this process, float32 or float64 (anything else is converted to
            float64). There may be none, as an array of shape (0, n_features). NaN is
            missing. A row may be in any process: the rows are sorted over all processes,
            equal ones merged, and divided again into equal parts. With ``shuffle=False``,
            the rows of a process follow those of the process before.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, none of them negative. See the `fit` of `skae`.

        X_val : array-like of shape (n_samples_val, n_features), default=None
            Validation data of this process. All processes pass such data, or none does.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        RuntimeError
            If there is no process group, if another process fails or ends, or if it does
            not answer within the timeout of the process group.

        ValueError
            In all processes, before any training: if the input of one of them is refused,
            or if they differ in parameters, features or dtype.
        """
        peers = ProcessPeers()
        self.__dict__["_meeting"] = meeting = _Meeting(peers)
        try:
            return super().fit(X, y, sample_weight=sample_weight, X_val=X_val)
        except Exception as error:
            meeting.leave(error)
            raise
        finally:
            del self.__dict__["_meeting"]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the processes, for a copy that a callback makes."""
        return {k: v for k, v in super().__getstate__().items() if k != "_meeting"}

    @property
    def _fewest_samples(self) -> int:
        meeting: _Meeting | None = self.__dict__.get("_meeting")
        return 1 if meeting is None or meeting.peers.is_alone else 0

    def _validate_fit(
        self,
        X: ArrayLike,
        sample_weight: ArrayLike | None,
        X_val: ArrayLike | None,
        objective: Objective,
        home: Home | None,
    ) -> TrainingData:
        self._check_supported()
        if sample_weight is not None and _num_samples(X) == self._fewest_samples == 0:
            # Scikit-learn refuses the weights of no samples.
            sample_weight = None
        return super()._validate_fit(X, sample_weight, X_val, objective, home)

    def _check_supported(self) -> None:
        """Raise ValueError for what several processes cannot do together."""
        likelihood = self._make_likelihood()
        one_hot = isinstance(likelihood, CategoricalLikelihood) and likelihood.one_hot
        refused = {
            "warm_start=True": self.warm_start,
            "checkpoint": self.checkpoint is not None,
            "a network of your own": not (
                isinstance(self.network, str) or is_built_in(self.network)
            ),
            "a likelihood that chooses or encodes columns": isinstance(
                likelihood, (CategoricalLikelihood, Mixed)
            )
            and not one_hot,
            "training side by side (the joblib backend 'skae')": in_lockstep(),
        }
        found = [name for name, is_given in refused.items() if is_given]
        if found:
            raise _unsupported(found[0])

    def _divide(
        self,
        X: np.ndarray,
        weight: np.ndarray,
        held_out: np.ndarray | None,
        random_state: RandomState,
    ) -> tuple[Rows, Rows | None, bool]:
        if issparse(X) or issparse(held_out):
            # After the validation, because a frame may have sparse columns.
            raise _unsupported("sparse data")
        meeting: _Meeting = self.__dict__["_meeting"]
        peers = meeting.peers
        if peers.is_alone:
            return super()._divide(X, weight, held_out, random_state)
        meeting.join(self._facts(X, held_out))
        random_state.set_state(peers.of_first(random_state.get_state))
        rows: Rows = share_out(X, weight, bool(self.shuffle), peers)
        if held_out is not None:
            return rows, _validation(held_out, rows, peers), False
        if self.early_stopping:
            return *split_validation(rows, self.validation_fraction, random_state), False
        return rows, None, False

    def _facts(self, X: np.ndarray, held_out: np.ndarray | None) -> dict[str, str]:
        """Return texts of what has to be the same in all processes."""
        # The class first, because others may have other parameters.
        facts = {"class": type(self).__qualname__}
        given = self.get_params(deep=False).items()
        facts |= {name: describe(v) for name, v in given if name not in _OF_EACH}
        facts["number of features"] = str(self.n_features_in_)
        names = getattr(self, "feature_names_in_", None)
        facts["column names"] = str(None if names is None else names.tolist())
        facts["dtype of X"] = str(X.dtype)
        facts["X_val"] = "None" if held_out is None else "given"
        return facts

    def _build_problems(
        self,
        spec: Spec,
        objective: Objective,
        options: TrainingOptions,
        data: TrainingData,
    ) -> list[FitProblem]:
        if data.rows.peers.rank > 0:
            options = replace(options, verbose=0)
        return super()._build_problems(spec, objective, options, data)

    def _extra_fitted_attributes(self, problem: FitProblem | None) -> dict[str, Any]:
        found = super()._extra_fitted_attributes(problem)
        peers = ALONE if problem is None else problem.rows.peers
        return peers.of_first(lambda: found)


def _unsupported(what: str) -> ValueError:
    """Return the error about what several processes cannot do together."""
    return ValueError(
        f"skae.spmd does not support {what}. Use the estimators of skae, in one process."
    )


class _Meeting:
    """The first time that all processes of a fit communicate: with or without an error."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.is_over = peers.is_alone

    def join(self, facts: Mapping[str, str]) -> None:
        """Raise in all processes if one has left, or if they differ in a fact."""
        self.is_over = True
        found = self.peers.gather_objects((None, dict(facts)))
        self.peers.raise_first([error for error, _ in found])
        for name in facts:
            texts = [own[name] for _, own in found]
            other = next((i for i, text in enumerate(texts) if text != texts[0]), None)
            if other is not None:
                raise ValueError(
                    f"The ranks of a fit must not differ in {name}: it is {texts[0]} on "
                    f"rank 0 and {texts[other]} on rank {other}."
                )

    def leave(self, error: Exception) -> None:
        """Pass an error to the processes that wait in :meth:`join`."""
        if not self.is_over:
            self.is_over = True
            self.peers.gather_objects((describe_error(error), {}))


def _validation(X: np.ndarray, rows: Rows, peers: Peers) -> Shard:
    """Return validation data ``(n, n_features)`` of a process; n may be 0."""
    is_empty = np.isnan(X).all(axis=1)
    if peers.largest(float((~is_empty).any())) > 0:
        X = X[~is_empty]
    n = len(X)
    if peers.sum(float(n)) == 0:
        raise ValueError(
            f"X_val cannot be used: it has 0 sample(s) on each of {peers.size} ranks, "
            "while a minimum of 1 is required."
        )
    if n == 0:
        X = rows.block(slice(1))
    return make_shard(X, np.arange(n), np.ones(n), 1.0, peers)


def _documented(cls: type) -> type:
    """Append parameters and attributes to the docstring of an estimator."""
    parts = (cls.__doc__ or "").partition("\n    See Also")
    inherited = cls.__mro__[2].__doc__ or ""
    sections = inherited.partition("    Parameters\n")[2].partition("    See Also\n")[0]
    cls.__doc__ = f"{parts[0]}\n    Parameters\n{sections.rstrip()}\n{parts[1]}{parts[2]}"
    return cls


@_documented
@own_method_names
class GaussianAutoencoder(DataParallelMixin, deterministic.GaussianAutoencoder):
    """Deterministic autoencoder with a Gaussian likelihood, fitted by several processes.

    The parameters, attributes and methods are those of :class:`skae.GaussianAutoencoder`.
    See `VariationalAutoencoder`.

    See Also
    --------
    skae.GaussianAutoencoder : The estimator for one process.
    """


@_documented
@own_method_names
class LaplaceAutoencoder(DataParallelMixin, deterministic.LaplaceAutoencoder):
    """Deterministic autoencoder with a Laplace likelihood, fitted by several processes.

    The parameters, attributes and methods are those of :class:`skae.LaplaceAutoencoder`.
    See `VariationalAutoencoder`.

    See Also
    --------
    skae.LaplaceAutoencoder : The estimator for one process.
    """


@_documented
@own_method_names
class VariationalAutoencoder(DataParallelMixin, variational.VariationalAutoencoder):
    """Variational autoencoder, fitted by several processes.

    Each process of torch's default process group calls `fit` with its own rows. All of
    them end with the same model, to the bit, which is that of all rows. If an epoch is one
    batch, the model equals that of :class:`skae.VariationalAutoencoder` on all rows, up to
    rounding. The user guide has the limits.

    The parameters, attributes and methods are those of
    :class:`skae.VariationalAutoencoder`. `batch_size` counts the rows of all processes. Of
    `random_state`, the first process decides. Methods other than `fit` are of one process:
    `score` is the mean over the rows that it is called with. Not supported are
    `warm_start`, `checkpoint`, ``partial_fit``, networks of your own, likelihoods that
    choose or encode columns, sparse data, and training side by side.

    See Also
    --------
    skae.VariationalAutoencoder : The estimator for one process.

    Examples
    --------
    One process; ``torchrun`` starts several, and needs no arguments here.

    >>> import torch.distributed as dist
    >>> from sklearn.datasets import load_iris
    >>> from skae.spmd import VariationalAutoencoder
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> vae = VariationalAutoencoder(random_state=0).fit(load_iris().data)
    >>> dist.destroy_process_group()
    >>> vae.transform(load_iris().data).shape
    (150, 2)
    """
