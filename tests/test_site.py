"""Tests that the API page lists all public names and the gallery all examples."""

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
