"""The link to the documentation in the HTML of an estimator."""

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata


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
