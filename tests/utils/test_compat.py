"""What stands for the parts of scikit-learn that versions before 1.9 do not have."""

import importlib.util
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.utils import _array_api

from skae import VariationalAutoencoder
from skae._utils import compat, namespaces

IS_OLD = compat.array_api is None


@pytest.fixture
def older(monkeypatch):
    """Load the module as with an older scikit-learn."""
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    monkeypatch.delattr(_array_api, "check_same_namespace", raising=False)
    monkeypatch.setattr("sklearn.__version__", "1.8.0")
    spec = importlib.util.spec_from_file_location("older_compat", compat.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_callbacks_are_missing(older):
    """For `hasattr` too; the error names the class and the version that has them."""

    class Model(older.CallbackSupportMixin):
        fit = older.with_callbacks(lambda self: self._init_callback_context(max_subtasks=3))

    model = Model()
    assert not hasattr(model, "set_callbacks")
    message = r"'Model' .*'set_callbacks': .* scikit-learn 1\.9 or newer; .*1\.8\.0\.$"
    with pytest.raises(AttributeError, match=message) as caught:
        model.set_callbacks()
    assert (caught.value.name, caught.value.obj) == ("set_callbacks", model)
    context = model.fit()
    assert isinstance(context, older.CallbackContext)
    context.call_on_fit_task_begin(estimator=model)
    epoch = context.subcontext(task_name="epoch")
    assert epoch.call_on_fit_task_end(estimator=model) is False


def test_other_arrays_are_refused(older, monkeypatch):
    """With array_api_dispatch only; without, a tensor is converted as ever."""
    assert older.array_api is None
    monkeypatch.setattr(namespaces, "array_api", older.array_api)
    monkeypatch.setattr(namespaces, "refuse_other_arrays", older.refuse_other_arrays)
    X = np.random.default_rng(0).normal(size=(20, 3))
    tensor = torch.from_numpy(X)
    assert namespaces.home_of(tensor) is None
    # Any truth will do: older versions refuse the setting itself, in some environments.
    monkeypatch.setattr(namespaces, "get_config", lambda: {"array_api_dispatch": True})
    for same in (X, X.tolist(), pd.DataFrame(X)):
        assert namespaces.home_of(same) is None
        assert namespaces.on_host(same) is same
    model = VariationalAutoencoder(2, max_iter=2, random_state=0)
    with pytest.raises(TypeError, match=r"need scikit-learn 1\.9 or newer; .*1\.8\.0"):
        model.fit(tensor)
    model.fit(X)
    np.testing.assert_array_equal(model.transform(X.tolist()), model.transform(X))


@pytest.mark.skipif(IS_OLD, reason="This scikit-learn does not know the parameter.")
def test_this_version_has_all():
    """The names are scikit-learn's own, where it has them."""
    import sklearn.callback

    assert compat.CallbackSupportMixin is sklearn.callback.CallbackSupportMixin
    assert compat.with_callbacks is sklearn.callback.with_callbacks
    assert compat.array_api is _array_api
    with config_context(array_api_dispatch=True):
        assert namespaces.home_of(torch.ones(2)).is_torch


@pytest.mark.parametrize("older", [False, True])
def test_weights_that_are_all_zero(older, monkeypatch):
    """They raise one error, whether scikit-learn looks for them or not."""
    if older and not IS_OLD:
        any_weights = partial(compat._check_sample_weight, allow_all_zero_weights=True)
        monkeypatch.setattr(compat, "_check_sample_weight", any_weights)
        monkeypatch.setattr(compat, "_CHECKS_ZEROS", False)

    def check(weight, **kwargs):
        return compat.check_sample_weight(weight, np.empty((len(weight), 1)), **kwargs)

    with pytest.raises(ValueError, match="at least one non-zero number"):
        check(np.zeros(3))
    zeros = check(np.zeros(3), allow_all_zero_weights=True, dtype=np.float64)
    np.testing.assert_array_equal(zeros, np.zeros(3), strict=True)
    np.testing.assert_array_equal(check(np.array([0.0, 2.0])), [0.0, 2.0])
    with pytest.raises(ValueError, match="Negative values"):
        check(np.array([0.0, -2.0]), ensure_non_negative=True)
