"""Names of classes and methods in messages: those that a user has written."""

import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from types import CellType, FunctionType
from typing import Any, Self, TypeVar, cast

from skae._utils.choices import did_you_mean
from skae._utils.signatures import make_readable
from skae._utils.synonyms import NO_PARAMETERS, PARAMETERS

T = TypeVar("T", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

# Characters of a line of text in `help`.
_WIDTH = 80
# Packages whose methods get the name of the class that a user calls them on.
_PACKAGES = ("skae.", "sklearn.")
# Methods whose keywords all classes have hints for.
_WITH_HINTS = ("__init__", "fit", "partial_fit")


def own_method_names(cls: T) -> T:
    """Give a class copies of inherited public methods that bear its name.

    Their signatures can be read in `help`.

    Python writes the name of the class that defines a method in a message such as
    "InferenceMixin.transform() missing 1 required positional argument".
    """
    for name in dir(cls):
        if name.startswith("_") and name != "__init__":
            continue
        owner = next(c for c in cls.__mro__ if name in vars(c))
        method = vars(owner)[name]
        if isinstance(method, ConditionalMethod) and owner is not cls:
            method = method.renamed(cls)
            setattr(cls, name, method)
        if not isinstance(method, FunctionType) or not owner.__module__.startswith(
            _PACKAGES
        ):
            continue
        if owner is not cls:
            method = _renamed(method, f"{cls.__name__}.{name}")
            # Pickles of a function look it up by module and name.
            method.__module__ = cls.__module__
            setattr(cls, name, method)
        if name in _WITH_HINTS:
            method = suggest_keywords(method)
            setattr(cls, name, method)
        make_readable(method)
    return cls


def _renamed(function: FunctionType, qualname: str) -> FunctionType:
    """Return a copy of a function, and of the one that it wraps, with another name."""
    copies: dict[int, FunctionType] = {}
    wrapped = getattr(function, "__wrapped__", None)
    if isinstance(wrapped, FunctionType):
        copies[id(wrapped)] = _renamed(wrapped, qualname)
    closure = function.__closure__
    if copies and closure is not None:
        # A decorator calls the wrapped function from its closure.
        closure = tuple(_replaced(cell, copies) for cell in closure)
    copied = FunctionType(
        function.__code__.replace(co_qualname=qualname),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        closure,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    copied.__dict__.update(function.__dict__)
    if copies:
        copied.__dict__["__wrapped__"] = copies[id(wrapped)]
    copied.__doc__, copied.__module__ = function.__doc__, function.__module__
    copied.__annotations__ = function.__annotations__
    copied.__qualname__ = qualname
    return copied


def _replaced(cell: CellType, copies: dict[int, FunctionType]) -> CellType:
    """Return a cell with the copy of a function, or the cell itself."""
    copied = copies.get(id(cell.cell_contents))
    return cell if copied is None else CellType(copied)


def suggest_keywords(function: F) -> F:
    """Let a constructor or method name the parameter that a misspelt one is close to."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return function  # takes any keyword
    names = list(parameters)[1:]
    is_constructor = function.__name__ == "__init__"
    has_own = function.__name__ in _WITH_HINTS

    @functools.wraps(function)
    def suggesting(self: Any, *args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in names:
                cls = type(self)
                own = getattr(cls, "_parameter_advice", {}) if has_own else {}
                hint = _hint(own if is_constructor else {}, name, names)
                if not hint and not is_constructor:
                    hint = _hint_of_class(cls, own, name)
                raise TypeError(
                    f"{cls.__name__}.{function.__name__}() got an unexpected keyword "
                    f"argument {name!r}.{hint}"
                )
        return function(self, *args, **kwargs)

    return cast(F, suggesting)


def _hint(own: Mapping[str, str], name: str, names: Iterable[str]) -> str:
    """Return what to use for a name that is none of the parameters ``names``, or "".

    ``own`` is the advice of a class, its dict `_parameter_advice`.
    """
    meant = PARAMETERS.get(name.lower(), name)
    if meant in names:
        return f" Its name here is {meant!r}."
    if meant in own:
        return f" {own[meant]}"
    needed, advice = NO_PARAMETERS.get(name.lower(), ("", ""))
    is_meant = needed in names or needed in own
    return f" {advice}" if is_meant else did_you_mean(name, names)


def _hint_of_class(cls: type, own: Mapping[str, str], name: str) -> str:
    """Return what to use for a keyword of a method that may be one of the constructor."""
    names: list[str] = getattr(cls, "_get_param_names", list)()
    meant = PARAMETERS.get(name.lower(), name)
    if meant in names:
        return f" It is a parameter of the class: {cls.__name__}({meant}=...)."
    return _hint(own, name, names)


class ParametersMixin:
    """Method `set_params` of an estimator, whose error says what is meant."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Parameters
        ----------
        **params : dict
            Names and values. A name such as ``network__activation`` is that of a parameter
            of a parameter.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If there is no such parameter; the message has the one that it is close to.
        """
        names: list[str] = self._get_param_names()  # type: ignore[attr-defined]
        own: Mapping[str, str] = getattr(self, "_parameter_advice", {})
        for name in params:
            owner, _, part = name.partition("__")
            if part and owner in names:
                value = params.get(owner, getattr(self, owner))
                self._check_part(name, owner, value, part.partition("__")[0])
        try:
            return super().set_params(**params)  # type: ignore[misc]
        except ValueError as error:
            unknown = [name for name in params if name.partition("__")[0] not in names]
            hint = _hint(own, unknown[0].partition("__")[0], names) if unknown else ""
            raise ValueError(f"{error}{hint}") from None

    def _check_part(self, name: str, owner: str, value: Any, part: str) -> None:
        """Raise ValueError if a value of the parameter ``owner`` has no parameters."""
        if hasattr(value, "set_params") and not isinstance(value, type):
            return
        own: Mapping[str, str] = getattr(self, "_parameter_advice", {})
        if isinstance(value, type):
            found = f"the class {value.__name__}. Pass an instance."
            raise ValueError(f"Invalid parameter {name!r}: {owner} is {found}")
        if value is None:
            found = "None, the default, which has no parameters to set."
        elif isinstance(value, str):
            found = f"the name {value!r}, whose parameters are fixed."
        else:
            found = f"of the class {type(value).__name__}, which has no set_params."
        hint = self._advice_on_part(owner, value, part)
        if not hint and value is None and own:
            hint = _hint(own, part, ())
        raise ValueError(f"Invalid parameter {name!r}: {owner} is {found}{hint}")

    @staticmethod
    def _advice_on_part(owner: str, value: Any, part: str) -> str:
        """Return which object has the parameter ``part``, in place of a value, or ""."""
        return ""


class UnsupportedError(AttributeError, ValueError):
    """Error of a method that the parameters of its object do not allow.

    It is an AttributeError for `hasattr`, and a ValueError for a caller.
    """


class ConditionalMethod:
    """Method that is missing in objects with parameters that it does not support.

    Parameters
    ----------
    function : function
        The method.
    reason_against : callable
        Maps an object to why the method does not support it, or to None.
    """

    def __init__(
        self, function: FunctionType, reason_against: Callable[[Any], str | None]
    ) -> None:
        self._function, self._reason_against = function, reason_against
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        """Return the method; raise UnsupportedError if the object does not have it."""
        if instance is not None and (reason := self._reason_against(instance)):
            raise UnsupportedError(reason, name=self._function.__name__, obj=instance)
        return self._function.__get__(instance, owner)

    def renamed(self, cls: type) -> "ConditionalMethod":
        """Return a copy that bears the name of a class."""
        function = _renamed(self._function, f"{cls.__name__}.{self._function.__name__}")
        function.__module__ = cls.__module__
        return ConditionalMethod(function, self._reason_against)


def missing_if(
    reason_against: Callable[[Any], str | None],
) -> Callable[[Any], Any]:
    """Make a decorator of methods; see `ConditionalMethod`."""
    return lambda function: ConditionalMethod(function, reason_against)


class MissingMethod:
    """Class attribute for a method that does not exist, whose error says what to use.

    For `hasattr` and `dir`, the name is missing. A method of that name in a subclass, or
    in another base class, is found. `help`, which lists it, has the advice.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self.__doc__ = textwrap.fill(f"Not available: {advice}", _WIDTH)

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: Any, owner: type) -> Any:
        """Raise AttributeError, unless a later base class has the attribute."""
        name, mro = self._name, owner.__mro__
        if any(name in vars(c) for c in mro[mro.index(self._owner) + 1 :]):
            target = owner if instance is None else instance
            return getattr(super(self._owner, target), name)
        if instance is None:
            message = f"type object {owner.__name__!r} has no attribute {name!r}"
        else:
            message = f"{owner.__name__!r} object has no attribute {name!r}"
        raise AttributeError(f"{message}: {self._advice}", name=name, obj=instance)


def without(advice: Mapping[str, str]) -> Callable[[T], T]:
    """Make a decorator that adds a `MissingMethod` for each name to a class."""

    def decorate(cls: T) -> T:
        for name, text in advice.items():
            method = MissingMethod(text)
            method.__set_name__(cls, name)
            setattr(cls, name, method)
        return cls

    return decorate


def without_missing(instance: Any, names: Iterable[str]) -> list[str]:
    """Return those names of attributes that an instance has, of methods it may lack."""
    kinds = MissingMethod, ConditionalMethod
    return [
        name
        for name in names
        if not isinstance(inspect.getattr_static(instance, name, None), kinds)
        or hasattr(instance, name)
    ]
