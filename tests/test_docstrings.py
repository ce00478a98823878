"""Everything public says what it is, and the estimators say the same of what they share."""

import importlib
import inspect
import pkgutil

import pytest
from numpydoc.docscrape import ClassDoc

import skae
from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV, BatchedRandomizedSearchCV

ESTIMATORS = [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]


def public_objects():
    for info in pkgutil.walk_packages(skae.__path__, "skae."):
        module = importlib.import_module(info.name)
        yield pytest.param(module, id=info.name)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != info.name:
                continue
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield pytest.param(thing, id=f"{info.name}.{name}")
            if inspect.isclass(thing):
                for method, function in vars(thing).items():
                    if not method.startswith("_") and inspect.isfunction(function):
                        bound = getattr(thing, method)
                        yield pytest.param(bound, id=f"{info.name}.{name}.{method}")


@pytest.mark.parametrize("thing", list(public_objects()))
def test_has_a_docstring(thing):
    if inspect.isfunction(thing) and thing.__qualname__.endswith(".forward"):
        return  # torch's own contract
    assert inspect.getdoc(thing)


def entries(estimator, section):
    return {p.name: (p.type, p.desc) for p in ClassDoc(estimator)[section]}


@pytest.mark.parametrize("search", [BatchedGridSearchCV, BatchedRandomizedSearchCV])
def test_documents_the_parameters_of_a_search(search):
    """Those that it inherits, in the order that they have there, with their defaults."""
    documented = entries(search, "Parameters")
    signature = inspect.signature(search).parameters
    assert list(documented) == list(signature)
    for name, parameter in signature.items():
        kind, _, default = documented[name][0].partition(", default=")
        assert kind, name
        if parameter.default is not inspect.Parameter.empty:
            said = {"np.nan": "nan"}.get(default, default.strip('"'))
            assert said == str(parameter.default), name


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_documents_every_parameter_with_its_default(estimator):
    documented = entries(estimator, "Parameters")
    signature = inspect.signature(estimator).parameters
    assert list(documented) == list(signature)
    for name, parameter in signature.items():
        default = documented[name][0].split("default=")[1].strip('"')
        if isinstance(parameter.default, float):
            assert float(default) == parameter.default, name
        else:
            assert default == str(parameter.default), name


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("section", ["Parameters", "Attributes"])
def test_shared_entries_read_the_same(estimator, section):
    ours, theirs = entries(estimator, section), entries(GaussianAutoencoder, section)
    different = {"n_components", "history_", "n_components_"}
    for name in set(ours) & set(theirs) - different:
        assert ours[name] == theirs[name]
    assert set(theirs) <= set(ours)
