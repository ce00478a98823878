"""What the parts of a model declare about how they may be trained."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Capabilities:
    """How a part of a model, or several parts together, may be trained.

    Attributes
    ----------
    has_analytic_gradient : bool
        Whether the part offers its own derivatives, so that a step needs no autograd.
    is_thread_safe : bool
        Whether the part may be computed in any thread, while others compute.
    batch_key : hashable or None
        What the parts of models must have in common to be trained side by side, as one
        model with a leading axis. With None a model is trained alone.
    """

    has_analytic_gradient: bool = False
    is_thread_safe: bool = False
    batch_key: Hashable | None = None

    def __and__(self, other: "Capabilities") -> "Capabilities":
        """Combine two parts: a model has the capabilities that both of them have."""
        keys = self.batch_key, other.batch_key
        return Capabilities(
            self.has_analytic_gradient and other.has_analytic_gradient,
            self.is_thread_safe and other.is_thread_safe,
            None if None in keys else keys,
        )


class ModelPart:
    """A part of a model that declares its capabilities.

    A part of your own that declares nothing is trained alone and in the caller's thread.
    To declare more, set one of the three attributes in the class; they have the meaning
    that :class:`Capabilities` gives them. A subclass does not inherit the value True,
    because a method that it changes may break the promise.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("has_analytic_gradient", "is_thread_safe"):
            if name not in vars(cls) and getattr(cls, name) is True:
                setattr(cls, name, False)

    @property
    def has_analytic_gradient(self) -> bool:
        """Whether the part offers its own derivatives."""
        return False

    @property
    def is_thread_safe(self) -> bool:
        """Whether the part may be computed in any thread, while others compute."""
        return False

    @property
    def batch_key(self) -> Hashable | None:
        """What parts have in common if models are trained side by side.

        The default is the class and the instance attributes. If an attribute cannot be
        hashed, the key is None and the model is trained alone.
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
