"""A function of R models of the same shapes, computed for all of them at once."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from skae._module import AutoencoderModule


class SideBySide:
    """Copies of the numbers of R models, with which functions of one model are called.

    Parameters
    ----------
    modules : sequence of R AutoencoderModule
        Models that differ in their numbers only, of parts whose code has no branches that
        depend on numbers.
    """

    def __init__(self, modules: Sequence[AutoencoderModule]) -> None:
        self._first = modules[0]
        own = [
            dict(chain(module.named_parameters(), module.named_buffers()))
            for module in modules
        ]
        self._state = {
            f"module.{name}": torch.stack([each[name] for each in own]) for name in own[0]
        }

    def __call__(
        self, function: Callable[..., Tensor], per_model: Sequence[Tensor], *shared: Tensor
    ) -> Tensor:
        """Return the results of a function of a module and tensors, stacked.

        ``per_model`` are tensors ``(R, ...)``, of which each model takes one part, and
        ``shared`` those that all models take. What the function writes to buffers is kept.
        """
        call = _Call(self._first, function)

        def of_one(state: dict[str, Tensor], own: tuple[Tensor, ...]) -> Any:
            return functional_call(call, state, (*own, *shared))

        result: Tensor = torch.vmap(of_one)(self._state, tuple(per_model))
        return result


class _Call(nn.Module):
    """A function of a module, as a module whose numbers can be replaced."""

    def __init__(self, module: AutoencoderModule, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, *args: Tensor) -> Tensor:
        """Call the function."""
        return self.function(self.module, *args)
