"""Configuration of Sphinx; CONTRIBUTING.md has the command that builds the site."""

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

sys.path.insert(0, str(Path(__file__).parent))

from site_helpers import EXAMPLES, WIDE_PAGES, skip_other_members

import skae

mpl.use("Agg")

project = "skae"
author = "The skae developers"
copyright = author
version = release = skae.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "myst_parser",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "Thumbs.db", "auto_examples/*.py", "auto_examples/*.ipynb"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
default_role = "literal"

# Every reference must have a target. Names of other projects have none, because the build
# works without a network.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(sklearn|torch|scipy|numpy|matplotlib|joblib|pandas|collections)\..*"),
]
nitpick_ignore = [("py:meth", "start")]  # Scale.start, in a summary without the class
toc_object_entries_show_parents = "hide"

autosummary_generate = True
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "inherited-members": True}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"quickstart\.py",
    "within_subsection_order": "site_helpers.example_order",
    "doc_module": ("skae",),
    "reference_url": {"skae": None},
    "backreferences_dir": "generated/backreferences",
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "abort_on_example_error": True,
    "copyfile_regex": "",
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_sidebars = {page: [] for page in ("index", "install", "tutorial", "changelog")}
html_title = "skae"
html_static_path = ["_static"]
html_css_files = ["skae.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_prev_next": False,
    # Without a right sidebar, code of 92 columns fits on the pages of the gallery. Their
    # downloads are at the end of the page.
    "secondary_sidebar_items": {
        "**": ["page-toc"],
        **{f"auto_examples/plot_{name}": [] for name in EXAMPLES},
        # Pages with wide tables; how_to has its contents on the page.
        **{f"guide/{name}": [] for name in WIDE_PAGES},
    },
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def setup(app: Any) -> None:
    """Register the event handlers of the site."""
    app.connect("autodoc-skip-member", skip_other_members)
