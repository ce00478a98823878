"""Versions: each stands in one place, or in two that agree."""

import re
import tomllib
from pathlib import Path

import pytest

import skae

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OLDEST = ROOT / ".ci" / "constraints-oldest.txt"
WORKFLOW = (ROOT / ".github" / "workflows" / "tests.yml").read_text()


def pins(path):
    """Return the versions in a file of constraints, by package."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    split = (re.fullmatch(r"([\w.-]+)==([\w.]+)( *;.*)?", line) for line in lines if line)
    return {match[1].lower(): match[2] for match in split}


def numbers(version):
    """Return a version as numbers, without zeros at the end."""
    return tuple(int(n) for n in re.sub(r"(\.0)+$", "", version).split("."))


def claims():
    """Return the lower bounds of pyproject.toml, by package."""
    return dict(claim.split(">=") for claim in PROJECT["dependencies"])


def rows():
    """Return the Pythons, files and pins of the rows of the hosted CI."""
    row = r"- \{python: \"([\d.]+)\", file: (\S+), pins: \"(.*)\"\}"
    return re.findall(row, WORKFLOW)


@pytest.mark.parametrize("package", ["scikit-learn", "numpy", "scipy", "joblib"])
def test_the_claim_is_the_oldest_version_that_runs(package):
    assert numbers(claims()[package]) == numbers(pins(OLDEST)[package])


def test_the_hosted_ci_has_the_oldest_torch():
    """With the oldest of all others, because .ci/run does not install it."""
    of_oldest = [pinned for _, file, pinned in rows() if file.endswith("oldest.txt")]
    assert [pin.partition("==")[0] for pin in of_oldest] == ["torch"]
    assert numbers(of_oldest[0].partition("==")[2]) == numbers(claims()["torch"])


def test_classifiers_and_rows_have_the_same_pythons():
    """A Python has a classifier only if a row has run; the rows are more."""
    pythons = {
        c.rpartition(" ")[2]
        for c in PROJECT["classifiers"]
        if re.search(r"Python :: 3\.\d+$", c)
    }
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert oldest in pythons
    assert pythons <= {python for python, _, _ in rows()}


def test_the_page_of_the_installation():
    """It has the oldest and the newest version of each package."""
    page = (ROOT / "docs" / "install.rst").read_text().replace("PyTorch", "torch").lower()
    newest = pins(ROOT / "constraints.txt")
    for package, claim in claims().items():
        row = re.search(rf"^{package} +([\d.]+) +([\d.]+) ", page, re.MULTILINE)
        assert numbers(row[1]) == numbers(claim), package
        assert row[2] == newest[package], package


@pytest.mark.parametrize("page", ["README.md", "docs/install.rst"])
def test_the_commands_of_the_installation_name_the_repository(page):
    """It is that of pyproject.toml, for a clone and for pip."""
    text, source = (ROOT / page).read_text(), PROJECT["urls"]["Source"]
    assert f'pip install "skae @ git+{source}"' in text
    assert set(re.findall(r"git clone (\S+?)(?: |`|$)", text, re.MULTILINE)) == {source}


def test_the_page_of_the_installation_lists_the_extras():
    """All but those of the development, which CONTRIBUTING.md has."""
    page = (ROOT / "docs" / "install.rst").read_text()
    listed = set(re.findall(r"^``(\w+)``  ", page, re.MULTILINE))
    assert listed == set(PROJECT["optional-dependencies"]) - {"test", "lint"}


def test_the_version_is_in_one_place():
    assert "version" not in PROJECT
    assert "attr: skae.__version__" in (ROOT / "setup.cfg").read_text()
    source = [path.read_text() for path in Path(skae.__file__).parent.rglob("*.py")]
    assert sum(text.count(f'"{skae.__version__}"') for text in source) == 1
