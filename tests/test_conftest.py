"""The settings of the tests name files and tests that exist."""

import ast
from pathlib import Path

import pytest

from tests import conftest

TESTS = Path(conftest.__file__).parent


@pytest.mark.parametrize("name", sorted(conftest._REPETITIVE | conftest._LONG))
def test_named_tests_exist(name):
    """A file or a test of another name would lose its setting in silence."""
    path, _, test = name.partition("::")
    tree = ast.parse((TESTS.parent / path).read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert test in tests if test else any(found.startswith("test_") for found in tests)


def test_files_that_are_left_out_exist():
    assert [name for name in conftest.collect_ignore if not (TESTS / name).exists()] == []
