"""Tests that the pages of the site list all public names, examples, guides and results."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import skae

ROOT = Path(__file__).parents[1]
PUBLIC = {
    name: importlib.import_module(name).__all__
    for name in ("skae", *(f"skae.{package}" for package in skae._PACKAGES))
}


@pytest.mark.parametrize("package", PUBLIC)
def test_api_page_lists_every_public_name(package):
    """The API page lists exactly the public names of each package."""
    page = (ROOT / "docs" / "api.rst").read_text()
    sections = re.split(r"^\.\. currentmodule:: (\S+)$", page, flags=re.MULTILINE)
    section = dict(zip(sections[1::2], sections[2::2], strict=True))[package]
    listed = re.findall(r"^   ([A-Za-z_]\w*)$", section, flags=re.MULTILINE)
    in_text = re.findall(r"``([A-Z_]+)``", section)
    assert sorted(listed + in_text) == sorted(PUBLIC[package])


def test_gallery_lists_every_example():
    """The order of the gallery contains every example once."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from site_helpers import EXAMPLES
    finally:
        sys.path.pop(0)
    files = {path.stem.removeprefix("plot_") for path in ROOT.glob("examples/plot_*.py")}
    assert files == set(EXAMPLES)
    assert len(EXAMPLES) == len(files) >= 12


def test_gallery_begins_with_the_plane_of_digits():
    """The first example is the one that shows what the package is for."""
    order = (ROOT / "docs" / "site_helpers.py").read_text()
    names = re.findall(r'^    "(\w+)",$', order, flags=re.MULTILINE)
    assert names[0] == "latent_grid"


def listed_in_trees(page):
    """Return the entries of all toctrees of a page."""
    trees = re.findall(r"^\.\. toctree::\n((?:   .*\n|\n)*)", page, flags=re.MULTILINE)
    return [entry for tree in trees for entry in re.findall(r"^   ([\w./]+)$", tree, re.M)]


def pages_of(folder):
    """Return the names of the pages of a folder of the site, but for its index."""
    return {path.stem for path in ROOT.glob(f"docs/{folder}/*.rst")} - {"index"}


@pytest.mark.parametrize("folder", ["guide", "results"])
def test_index_lists_every_page_once(folder):
    """The index of a folder has each page of the folder in one toctree."""
    entries = listed_in_trees((ROOT / "docs" / folder / "index.rst").read_text())
    own = [entry for entry in entries if not entry.startswith("../")]
    assert sorted(own) == sorted(pages_of(folder))


def test_results_stand_in_a_section_of_their_own():
    """The guide has no results; the page of results says what each of them shows."""
    assert "results/index" in listed_in_trees((ROOT / "docs" / "index.rst").read_text())
    guide = listed_in_trees((ROOT / "docs" / "guide" / "index.rst").read_text())
    assert not [entry for entry in guide if "results/" in entry]
    page = (ROOT / "docs" / "results" / "index.rst").read_text()
    described = re.findall(r"^:doc:`(\w+)`\n    \S", page, flags=re.MULTILINE)
    assert sorted(described) == sorted(pages_of("results"))


def test_start_page_links_every_task():
    """Each card of the start page leads to a recipe, or to a page of the guide."""
    start = (ROOT / "docs" / "index.rst").read_text()
    recipes = (ROOT / "docs" / "guide" / "how_to.rst").read_text()
    labels = re.findall(r"^\.\. _(how-to-[\w-]+):$", recipes, flags=re.MULTILINE)
    linked = re.findall(r":ref:`[^`]+<(how-to-[\w-]+)>`", start)
    assert len(linked) == len(set(linked)) >= 8
    assert set(linked) <= set(labels)
    origins = re.findall(r":doc:`[^`]+<guide/(from_\w+)>`", start)
    assert sorted(origins) == sorted(p for p in pages_of("guide") if p.startswith("from_"))
