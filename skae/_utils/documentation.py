"""The link to the documentation in the HTML of an estimator."""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

# A link to the text of a parameter within the page of an estimator.
_LINK_TO_TEXT = re.compile(
    r'\s+rel="noreferrer"\s+target="_blank"\s+href="[^"]*#:~:text=[^"]*"'
)


@cache
def documentation_url() -> str:
    """Return the address of the documentation, as the installed package states it.

    It is empty for a copy of the sources that is not installed.
    """
    try:
        stated = metadata("skae").get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    urls = dict(entry.split(", ", 1) for entry in stated)
    return urls.get("Documentation", "")


class DocumentationLinkMixin:
    """Attributes by which scikit-learn's HTML of an estimator links to its documentation.

    They are described under ``_HTMLDocumentationLinkMixin`` in scikit-learn's guide for
    developers of estimators; a version that does not know them ignores them.
    """

    _doc_link_module = "skae"

    @property
    def _doc_link_template(self) -> str:
        """Address of the documentation, the same for all classes."""
        # The template is formatted, so a brace in the address would be a field.
        return documentation_url().replace("{", "{{").replace("}", "}}")

    def _get_params_html(self, *args: Any, **kwargs: Any) -> Any:
        """Return the table of parameters, with descriptions that are no links."""
        # A scikit-learn without this method does not call it.
        return _without_links(super()._get_params_html(*args, **kwargs))  # type: ignore[misc]

    def _get_fitted_attr_html(self, *args: Any, **kwargs: Any) -> Any:
        """Return the table of attributes, with descriptions that are no links."""
        return _without_links(super()._get_fitted_attr_html(*args, **kwargs))  # type: ignore[misc]


def _without_links(table: Any) -> Any:
    """Let a table of scikit-learn's HTML have no links to texts of a page.

    The page of the documentation is the same for all classes, and does not have the texts.
    """
    render = table._html_repr
    table._html_repr = lambda: _LINK_TO_TEXT.sub("", render())
    return table
