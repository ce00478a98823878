"""Private names of other packages in the source, which the guide lists with their tests."""

import ast
import re
from pathlib import Path

import skae

ROOT = Path(__file__).parents[1]
PACKAGES = {"torch", "sklearn", "numpy", "np", "scipy", "joblib"}
PAGE = ROOT / "docs" / "guide" / "source.rst"


def first_private(path):
    """Cut a dotted name after its first private part; None if all of it is public."""
    parts = path.split(".")
    if parts[0] not in PACKAGES:
        return None
    for i, part in enumerate(parts):
        if part.startswith("_") and not part.startswith("__"):
            return ".".join(parts[: i + 1])
    # Torch documents none of its operators.
    return path if path.startswith("torch.ops.") and len(parts) > 3 else None


class Names(ast.NodeVisitor):
    """Collects the private names in a module."""

    def __init__(self):
        self.found = set()

    def add(self, path):
        name = first_private(path)
        if name is not None:
            self.found.add(name)
        return name

    def visit_Import(self, node):
        for alias in node.names:
            self.add(alias.name)

    def visit_ImportFrom(self, node):
        for alias in node.names:
            self.add(f"{node.module}.{alias.name}")

    def visit_Attribute(self, node):
        # What is inside of a name that was found is part of that name.
        if self.add(ast.unparse(node)) is None:
            self.generic_visit(node)


def table():
    """Return the tests of each name in the table of the guide."""
    text = PAGE.read_text().partition("Private names\n")[2].partition("Which imports")[0]
    row = r"^   \* - ``([\w.]+)``\n     - .*\n     - ``([\w/.]+)``$"
    return dict(re.findall(row, text, re.M))


def test_the_collector():
    names = Names()
    names.visit(ast.parse("import torch._x.y\nfrom sklearn.a import _b\ntorch.ops.c.d()"))
    names.visit(ast.parse("x._z\nimport skae._utils\nnp.linalg.norm(0)\ntorch.e._f_.g"))
    assert names.found == {"torch._x", "sklearn.a._b", "torch.ops.c.d", "torch.e._f_"}


def test_the_guide_lists_all():
    names = Names()
    for path in Path(skae.__file__).parent.rglob("*.py"):
        names.visit(ast.parse(path.read_text()))
    assert set(table()) == names.found


def test_their_tests_run_with_the_oldest_versions():
    """The stage of .ci/run with the oldest versions has each file of the table."""
    stage = (ROOT / ".ci" / "run").read_text().partition('stage "Oldest versions')[2]
    stage = stage.partition("stage ")[0]
    run = set()
    for word in re.findall(r"tests/\S+", stage):
        start, brace, rest = word.partition("{")
        inner, _, end = rest.partition("}")
        for name in inner.split(",") if brace else [""]:
            path = ROOT / (start + name + end).partition("::")[0]
            assert path.exists(), path
            run.update(path.rglob("*.py") if path.is_dir() else [path])
    for test in table().values():
        assert ROOT / test in run, test
