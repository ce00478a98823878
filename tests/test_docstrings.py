"""Tests that public objects have docstrings, and that estimators share their wording."""

import importlib
import inspect
import pkgutil
import pydoc

import pytest
from numpydoc.docscrape import ClassDoc

import skae
from skae import (
    GaussianAutoencoder,
    LaplaceAutoencoder,
    VariationalAutoencoder,
    inspection,
)
from skae.impute import AutoencoderImputer
from skae.likelihoods import Mixed
from skae.model_selection import BatchedGridSearchCV, BatchedRandomizedSearchCV
from skae.networks import MLP, Conv
from skae.outlier import LikelihoodOutlierDetector

ESTIMATORS = [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]


def public_objects(module):
    """Yield a module, and the public functions, classes and methods in it, with names."""
    yield module.__name__, module
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if not method.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{method}", getattr(value, method)


@pytest.mark.parametrize(
    "name", [info.name for info in pkgutil.walk_packages(skae.__path__, "skae.")]
)
def test_public_objects_have_docstrings(name):
    """Each has one, but `forward`, which torch documents; none cites a page of the site.

    In a terminal such a role leads nowhere.
    """
    docs = {
        name: inspect.getdoc(value) or ""
        for name, value in public_objects(importlib.import_module(name))
    }
    missing = {name for name, text in docs.items() if not text}
    assert {name for name in missing if not name.endswith(".forward")} == set()
    assert {name for name, text in docs.items() if ":doc:" in text} == set()


def entries(estimator, section):
    """Return type and description of each entry of a section by name."""
    return {p.name: (p.type, p.desc) for p in ClassDoc(estimator)[section]}


@pytest.mark.parametrize("search", [BatchedGridSearchCV, BatchedRandomizedSearchCV])
def test_search_documents_its_parameters(search):
    """The docstring of a search lists all inherited parameters, in order, with defaults."""
    documented = entries(search, "Parameters")
    signature = inspect.signature(search).parameters
    assert list(documented) == list(signature)
    for name, parameter in signature.items():
        kind, _, default = documented[name][0].partition(", default=")
        assert kind, name
        if parameter.default is not inspect.Parameter.empty:
            text = {"np.nan": "nan"}.get(default, default.strip('"'))
            assert text == str(parameter.default), name


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimator_documents_its_parameters(estimator):
    """The docstring of an estimator lists all parameters, in order, with defaults."""
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
def test_shared_entries_are_equal(estimator, section):
    """Estimators document shared parameters and attributes in the same words."""
    own, reference = entries(estimator, section), entries(GaussianAutoencoder, section)
    different = {"n_components", "history_", "n_components_"}
    for name in set(own) & set(reference) - different:
        assert own[name] == reference[name]
    assert set(reference) <= set(own)


@pytest.mark.parametrize(
    "estimator",
    [
        *ESTIMATORS,
        LikelihoodOutlierDetector,
        AutoencoderImputer,
        BatchedGridSearchCV,
        BatchedRandomizedSearchCV,
        *(getattr(inspection, name) for name in inspection.__all__),
    ],
)
def test_help_has_no_long_lines(estimator):
    """Lines of `help` fit on a screen, but for those whose text is scikit-learn's."""
    text = pydoc.plain(pydoc.render_doc(estimator))
    lines = [line.removeprefix(" |  ") for line in text.splitlines()]
    assert "Union[" not in "".join(line for line in lines if "_request(" not in line)
    own = [
        line
        for line in lines
        # Bases with their modules, scikit-learn's setters of requests, and its docstrings.
        if not line.startswith(("class ", "set_", "    - ``True``", "    y_score :"))
    ]
    assert max(map(len, own)) <= 120
    assert lines[3].partition("(")[0] == estimator.__name__


@pytest.mark.parametrize("part", [Mixed, MLP, Conv])
def test_help_of_a_part_has_its_parameters_in_lines(part):
    """The constructor has a line for each parameter."""
    text = pydoc.plain(pydoc.render_doc(part)).replace(" |  ", "")
    shown = text.partition(f"\n{part.__name__}(\n")[2].partition("\n)")[0].splitlines()
    names = [line.strip().partition(":")[0] for line in shown if line.strip() != "*,"]
    assert names == list(inspect.signature(part).parameters)
