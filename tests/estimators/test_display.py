"""Tests of text and HTML representations."""

import re
import tomllib
from pathlib import Path

import pytest
import sklearn
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from skae import VariationalAutoencoder
from skae._utils import documentation
from skae.impute import AutoencoderImputer
from skae.model_selection import BatchedGridSearchCV
from skae.outlier import LikelihoodOutlierDetector


def test_representations(fitted, X):
    """Text and HTML name the class, before and after a fit, alone and in a Pipeline."""
    fresh = clone(fitted)
    assert repr(fresh).startswith(f"{type(fitted).__name__}(")
    assert "max_iter=3" in repr(fresh)
    assert "Not fitted" in fresh._repr_html_()
    html = fitted._repr_html_()
    assert type(fitted).__name__ in html
    assert "Not fitted" not in html
    assert type(fitted).__name__ in make_pipeline(StandardScaler(), fitted)._repr_html_()


@pytest.mark.parametrize(
    "estimator",
    [
        VariationalAutoencoder(),
        LikelihoodOutlierDetector(),
        AutoencoderImputer(),
        BatchedGridSearchCV(VariationalAutoencoder(), {"beta": [1.0]}),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_html_links_to_the_documentation(estimator):
    """The address is the one that the metadata of the package state."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    url = project["project"]["urls"]["Documentation"]
    assert documentation.documentation_url() == url
    assert f'href="{url}"' in estimator._repr_html_()
    # That page does not have the parameters; what they mean is in the HTML itself.
    assert ":~:text" not in estimator._repr_html_()
    # scikit-learn's own estimators keep their links.
    html = make_pipeline(StandardScaler(), estimator)._repr_html_()
    assert f'href="{url}"' in html
    assert "sklearn.preprocessing.StandardScaler.html" in html


def test_the_module_is_its_number_of_weights(fitted):
    """A module has a dtype, but is no array, and its text would be cut."""
    n_weights = sum(p.numel() for p in fitted.module_.parameters())
    row = re.compile(
        r">AutoencoderModule, number of weights</td>\s*<td>([^<]*)</td>", re.DOTALL
    )
    # Versions before 1.9 list no attributes.
    if parse_version(sklearn.__version__) >= parse_version("1.9"):
        assert row.findall(fitted._repr_html_()) == [str(n_weights)]


def test_descriptions_of_parameters_and_attributes_are_no_links(fitted):
    html = fitted._repr_html_()
    url = documentation.documentation_url()
    assert html.count(f'href="{url}') == html.count(f'href="{url}"') == 1
    assert ":~:text" not in html
    if parse_version(sklearn.__version__) >= parse_version("1.9"):
        assert "Number of components of the code." in html
        assert "Objective of each epoch" in html
    # Those of scikit-learn's own estimators stay.
    if parse_version(sklearn.__version__) >= parse_version("1.8"):
        assert ":~:text=copy" in make_pipeline(StandardScaler(), fitted)._repr_html_()


def test_sources_that_are_not_installed_have_no_link(monkeypatch):
    def not_installed(name):
        raise documentation.PackageNotFoundError(name)

    monkeypatch.setattr(documentation, "metadata", not_installed)
    assert documentation.documentation_url.__wrapped__() == ""
    monkeypatch.setattr(documentation, "documentation_url", lambda: "")
    assert 'href="http' not in VariationalAutoencoder()._repr_html_()
