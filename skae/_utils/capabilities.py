"""Capabilities that the parts of a model declare, which decide how they are trained."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of a part of a model, or of several parts together.

    Attributes
    ----------
    has_analytic_gradient : bool
        Whether the part provides its own derivatives, so that a step needs no autograd.
    is_thread_safe : bool
        Whether the part may be computed in any thread, and in several at the same time.
    batch_key : hashable or None
        Key that must be equal in models that are trained side by side, as one model with a
        leading axis. A model whose key is None, or that has no analytic gradient, is
        trained alone.
    """

    has_analytic_gradient: bool = False
    is_thread_safe: bool = False
    batch_key: Hashable | None = None

    def __and__(self, other: "Capabilities") -> "Capabilities":
        """Combine two parts: the result has the capabilities that both of them have."""
        keys = self.batch_key, other.batch_key
        return Capabilities(
            self.has_analytic_gradient and other.has_analytic_gradient,
            self.is_thread_safe and other.is_thread_safe,
            None if None in keys else keys,
        )


class ModelPart:
    """Part of a model that declares its capabilities.

    To declare a capability, set one of these attributes in the class. A subclass does not
    inherit a value True that was set in a class, because the subclass may override a method
    for which the declaration was made.

    Attributes
    ----------
    has_analytic_gradient : bool
        Whether the part provides its own derivatives. A likelihood has them if it defines
        ``influence_``; a network of your own is always left to autograd.
    is_thread_safe : bool
        Whether the part may be computed in any thread, and in several at the same time.
        Then scores are computed on all cores, and so are the starts of a search and the
        training of models side by side.
    batch_key : hashable or None
        Key that must be equal in models that are trained side by side. The default is the
        class and the instance attributes; None means that the model is trained alone.
    """

    # Names of the capabilities of a class that its subclasses do not inherit.
    _declared: ClassVar[tuple[str, ...]] = ("has_analytic_gradient", "is_thread_safe")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Set the capabilities that a subclass does not declare itself to False."""
        super().__init_subclass__(**kwargs)
        for name in cls._declared:
            if name not in vars(cls) and getattr(cls, name) is True:
                setattr(cls, name, False)

    @property
    def has_analytic_gradient(self) -> bool:
        """Whether the part provides its own derivatives."""
        return False

    @property
    def is_thread_safe(self) -> bool:
        """Whether the part may be computed in any thread."""
        return False

    @property
    def batch_key(self) -> Hashable | None:
        """Key that must be equal in models that are trained side by side.

        The default consists of the class and the instance attributes. If an attribute
        cannot be hashed, the key is None and the model is trained alone.
        """
        key = (type(self), *sorted(vars(self).items()))
        try:
            hash(key)
        except TypeError:
            return None
        return key

    @property
    def capabilities(self) -> Capabilities:
        """The three declarations together."""
        return Capabilities(self.has_analytic_gradient, self.is_thread_safe, self.batch_key)
