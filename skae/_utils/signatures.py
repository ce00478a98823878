"""Signatures that can be read in `help`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)

# Longest signature that is on one line.
_WIDTH = 80


class ReadableSignature(inspect.Signature):
    """Signature whose text has a line for each parameter, if it would be a long line.

    Annotations that are strings have no quotes. `help` of Python before 3.13 prints this
    text as it is.
    """

    __slots__ = ()

    def __str__(self) -> str:
        """Return the text."""
        parameters, has_star = [], False
        for parameter in self.parameters.values():
            is_keyword = parameter.kind is parameter.KEYWORD_ONLY
            if is_keyword and not has_star:
                parameters.append("*")
            has_star = has_star or is_keyword or parameter.kind is parameter.VAR_POSITIONAL
            parameters.append(_without_quotes(str(parameter), parameter.annotation))
        result = self.return_annotation
        end = ")"
        if result is not self.empty:
            shown = inspect.formatannotation(result)
            end = f") -> {_without_quotes(shown, result)}"
        line = f"({', '.join(parameters)}{end}"
        if len(line) <= _WIDTH:
            return line
        return "\n".join(["(", *(f"    {parameter}," for parameter in parameters), end])


def make_readable(function: Callable[..., Any]) -> None:
    """Give a function a signature that can be read, in place."""
    found = inspect.signature(function)
    parameters = list(found.parameters.values())
    if any(parameter.kind is parameter.POSITIONAL_ONLY for parameter in parameters):
        return
    readable = ReadableSignature(parameters, return_annotation=found.return_annotation)
    function.__signature__ = readable  # type: ignore[attr-defined]


def make_methods_readable(cls: _Class) -> _Class:
    """Give the public methods that a class defines signatures that can be read."""
    for name, method in vars(cls).items():
        # A method of the class has its signature from its function.
        method = getattr(method, "__func__", method)
        if (name == "__init__" or not name.startswith("_")) and inspect.isfunction(method):
            make_readable(method)
    return cls


def _without_quotes(text: str, annotation: Any) -> str:
    """Return the text of an annotation, or with one, without the quotes of a string."""
    if not isinstance(annotation, str):
        return text
    return text.replace(repr(annotation), annotation, 1)
