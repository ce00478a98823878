"""Signatures with a line for each parameter."""

import inspect
import textwrap

import pytest

from skae._utils.signatures import ReadableSignature, make_readable


def short(a: "int | None", *, b: "str" = "b'") -> "float":
    """Return nothing."""


def plain(a, /, b=1, *args, c, **kwargs):
    """Return nothing."""


def long(
    self,
    X: "list[float]",
    y: int = 2,
    *names: str,
    first_of_three_parameters: "str | None" = "a",
    second: float,
    **others: "int",
) -> "dict[str, int]":
    """Return nothing."""


def test_short_signature_is_one_line():
    make_readable(short)
    text = str(inspect.signature(short))
    assert text == '(a: int | None, *, b: str = "b\'") -> float'


def test_long_signature_has_a_line_for_each_parameter():
    make_readable(long)
    expected = """\
    (
        self,
        X: list[float],
        y: int = 2,
        *names: str,
        first_of_three_parameters: str | None = 'a',
        second: float,
        **others: int,
    ) -> dict[str, int]"""
    assert str(inspect.signature(long)) == textwrap.dedent(expected)


@pytest.mark.parametrize("function", [short, long])
def test_the_signature_is_the_same(function):
    """Only the text differs: parameters, defaults, annotations and binding are the same."""
    before = inspect.Signature.from_callable(function)
    make_readable(function)
    after = inspect.signature(function)
    assert isinstance(after, ReadableSignature)
    assert after.parameters == before.parameters
    assert after.return_annotation == before.return_annotation
    # A signature without its first parameter, as of a bound method, is readable too.
    rest = after.replace(parameters=list(after.parameters.values())[1:])
    assert isinstance(rest, ReadableSignature)


def test_positional_only_parameters_are_left_as_they_are():
    make_readable(plain)
    assert str(inspect.signature(plain)) == "(a, /, b=1, *args, c, **kwargs)"
