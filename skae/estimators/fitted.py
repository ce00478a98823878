"""The attributes of a fitted autoencoder, and its copies and pickles."""

from __future__ import annotations

import copy
import os
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator

from skae._data import Rows, Standardization
from skae._evaluation import SCALE_ROWS, shared_scale, update_scale
from skae._module import AutoencoderModule
from skae._utils.device import has_float64
from skae._utils.documentation import DocumentationLinkMixin
from skae._utils.settings import own_settings
from skae.estimators.table import Table
from skae.likelihoods import Likelihood
from skae.objectives import Objective
from skae.persistence import PersistenceMixin


class FittedMixin(DocumentationLinkMixin, PersistenceMixin, BaseEstimator):
    """What a fit sets, as the state of a copy, a pickle or a file."""

    module_: AutoencoderModule
    _standardization: Standardization
    _table: Table
    likelihood_: Likelihood
    n_components_: int
    device: str | torch.device
    device_: str
    history_: dict[str, np.ndarray]
    # An empty array of the library and on the device of X in `fit`; None of numpy.
    _fitted_to: Any = None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    @own_settings()
    def __getstate__(self) -> dict[str, Any]:
        """Return a state with numpy arrays in place of the module."""
        state = super().__getstate__()
        module = state.pop("module_", None)
        if module is not None:
            state["_module_state"] = (module.spec, module.get_arrays())
        if isinstance(state.get("checkpoint"), os.PathLike):
            # As text, because another system has other types of paths.
            state["checkpoint"] = os.fspath(state["checkpoint"])
        if state.pop("_fitted_to", None) is not None:
            # A copy or a file is that of a fit to arrays of numpy.
            parts = module, self._standardization, self._table
            state["scale_"] = fitted_attributes(*parts)["scale_"]
        if isinstance(state.get("device"), torch.device):
            # As text, because a file has no objects of torch.
            state["device"] = str(state["device"])
        return state

    @own_settings()
    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the module on the CPU, which every machine has."""
        state = dict(state)
        module_state = state.pop("_module_state", None)
        super().__setstate__(state)
        if module_state is not None:
            self.device_ = "cpu"
            self.module_ = AutoencoderModule.from_arrays(*module_state)
            if not hasattr(self, "_table"):  # a model of a former version
                self._table = Table(self.module_.spec.likelihood)
                self.likelihood_ = self.module_.spec.likelihood

    def __copy__(self) -> Self:
        """Copy the estimator; the module of the copy is on the same device."""
        return self._restored(type(self).__new__(type(self)), self.__getstate__())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the estimator and all inside; the module is on the same device."""
        new = memo[id(self)] = type(self).__new__(type(self))
        return self._restored(new, copy.deepcopy(self.__getstate__(), memo))

    def _restored(self, new: Self, state: dict[str, Any]) -> Self:
        """Set the state of a copy, which is on the device of this estimator."""
        new.__setstate__(state)
        new.device = self.device
        if hasattr(self, "module_"):
            new.module_.to(self.module_.device)
            new.device_ = self.device_
        return new


def fitted_attributes(
    module: AutoencoderModule, standardization: Standardization, table: Table
) -> dict[str, Any]:
    """Return the attributes of a fitted estimator. See `FittedMixin`."""
    if not has_float64(module.device):
        module.cpu()
    scale = module.scale
    if scale.is_trained:
        # Scores of float64 data use the scale in double precision.
        scale = copy.deepcopy(scale).double()
    value = shared_scale(scale, standardization)
    if isinstance(value, np.ndarray):
        value = table.per_column(value)
    return {
        "module_": module,
        "_standardization": standardization,
        "_table": table,
        "likelihood_": module.spec.likelihood,
        "n_components_": module.spec.n_components,
        "scale_": value,
        "device_": str(module.device),
        "_fitted_to": None,
    }


def attributes_in_training(
    module: AutoencoderModule,
    objective: Objective,
    validated_rows: Rows | None,
    standardization: Standardization,
    table: Table,
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Return the fitted attributes of a model that is still in training.

    If there are validation data, the scale is the one of the validation score.
    """
    module = copy.deepcopy(module).eval()
    module.leave_shared_memory()
    if validated_rows is not None:
        some = validated_rows.subsample(SCALE_ROWS)
        update_scale(module, objective, some, standardization)
    return {**fitted_attributes(module, standardization, table), **extra}
