"""All parameters of R models in one flat buffer."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

# What a model has of a block takes a multiple of this many numbers. Then they are all
# updated by the processor's vector arithmetic, and none by what does the odd ones at the
# end, which rounds in another way: so a model is the same whoever is beside it.
_VECTOR = 16


class FlatParameters:
    """Parameters and gradients of R models, each as views into one flat tensor.

    An update is one operation then, whatever the number of layers, for all parameters and
    models of one learning rate. The likes of a parameter lie one after the other, so that
    one batched product reads or writes them.

    Parameters
    ----------
    models : sequence of R sequences of Parameter
        The parameters of each model, of the same shapes in the same order; their memory
        moves into the flat buffer.
    penalized : sequence of Parameter
        Those of the first model that the L2 penalty is for, and so their likes.
    fused : sequence of sequences of Parameter
        Those of the first model that lie side by side along their first axis, so that
        they can be taken for one.
    may_transpose : bool, default=True
        Whether a matrix may lie transposed, which a user's module need not expect.
    step_sizes : mapping of Parameter to float, default={}
        Those of the first model that take another learning rate than the rest, and what
        it is to be multiplied by; and so their likes.

    Attributes
    ----------
    values, grads : Tensor of shape (R * room,)
        The buffers: each parameter of all models in turn, with zeros between them.
    step_sizes : list of float
        What the learning rate is multiplied by: 1, and other numbers for some parameters.
    """

    def __init__(
        self,
        models: Sequence[Sequence[nn.Parameter]],
        penalized: Sequence[nn.Parameter] = (),
        fused: Sequence[Sequence[Tensor]] = (),
        may_transpose: bool = True,
        learning_rate_multipliers: Mapping[Tensor, float] = MappingProxyType({}),
    ) -> None:
        self._may_transpose = may_transpose
        self._models = models
        self._index = {id(p): i for i, p in enumerate(models[0])}
        self._size_of = {
            self._index[id(p)]: size for p, size in learning_rate_multipliers.items()
        }
        # Once each, also where halves of a model share one.
        self._penalized = sorted({self._index[id(p)] for p in penalized})
        # Parameters that lie together, by their numbers: most of them alone.
        self._blocks = [[self._index[id(p)] for p in block] for block in fused]
        others = set(self._index.values()).difference(*self._blocks)
        self._blocks += [[i] for i in sorted(others)]
        self.learning_rate_multipliers = sorted(set(map(self._step_size, self._blocks)))
        n_values = len(models) * sum(map(self._room, self._blocks))
        self.values = models[0][0].detach().new_zeros(n_values)
        self.grads = torch.zeros_like(self.values)
        # Of both, each block and each parameter.
        self._wholes = [self._whole(flat) for flat in (self.values, self.grads)]
        self._views = list(map(self._pieces, self._wholes))
        views = zip(zip(*models, strict=True), zip(*self._views, strict=True), strict=True)
        for likes, (values, grads) in views:
            values.copy_(torch.stack([p.detach() for p in likes]))
            for p, value, grad in zip(likes, values, grads, strict=True):
                p.data, p.grad = value, grad
        # For each model its part of each block.
        self._memory_of = list(zip(*self._in_memory(self.values), strict=True))

    def _size(self, block: list[int]) -> int:
        """How many numbers a model has in a block."""
        return sum(self._models[0][i].numel() for i in block)

    def _room(self, block: list[int]) -> int:
        """How many it has room for."""
        return -(-self._size(block) // _VECTOR) * _VECTOR

    def _rooms(self, flat: Tensor) -> list[Tensor]:
        """A buffer of the shape of ``values``, block by block: views (R, room)."""
        R, rooms = len(self._models), list(map(self._room, self._blocks))
        parts = flat.split([R * room for room in rooms])
        return [part.view(R, room) for part, room in zip(parts, rooms, strict=True)]

    def _in_memory(self, flat: Tensor) -> list[Tensor]:
        """The same without what is left over: views (R, n_numbers)."""
        rooms = zip(self._rooms(flat), self._blocks, strict=True)
        return [part[:, : self._size(block)] for part, block in rooms]

    def _whole(self, flat: Tensor) -> list[Tensor]:
        """The same in the shapes of parameters: views (R, ...)."""
        first = self._models[0]
        views = []
        for part, block in zip(self._in_memory(flat), self._blocks, strict=True):
            shape = list(first[block[0]].shape)
            if len(block) > 1:
                shape[0] = sum(len(first[i]) for i in block)
            if self._may_transpose and _is_better_transposed(shape):
                views.append(part.view(len(part), *shape[::-1]).mT)
            else:
                views.append(part.view(len(part), *shape))
        return views

    def views(self, flat: Tensor) -> list[Tensor]:
        """A buffer of the shape of ``values``, parameter by parameter.

        Parameters
        ----------
        flat : Tensor of shape (R * room,)
            The buffer.

        Returns
        -------
        list of Tensor of shape (R, ...)
            Views of it.
        """
        return self._pieces(self._whole(flat))

    def _pieces(self, wholes: Sequence[Tensor]) -> list[Tensor]:
        """Parameters out of the blocks of a buffer."""
        parts: dict[int, Tensor] = {}
        for block, whole in zip(self._blocks, wholes, strict=True):
            pieces: Sequence[Tensor] = [whole]
            if len(block) > 1:
                pieces = whole.split([len(self._models[0][i]) for i in block], dim=1)
            parts.update(zip(block, pieces, strict=True))
        return [parts[i] for i in range(len(parts))]

    def stacked(self, *parameters: Tensor) -> nn.Parameter:
        """Parameters of the first model together with their likes in the others.

        Parameters
        ----------
        *parameters : Parameter
            One of the first model's, or some that are fused.

        Returns
        -------
        Parameter
            A view of shape ``(R, *shape)``, its gradient too.
        """
        numbers = [self._index[id(p)] for p in parameters]
        if len(numbers) == 1:
            found, place = self._views, numbers[0]
        else:
            found, place = self._wholes, self._blocks.index(numbers)
        values, grads = found
        stacked = nn.Parameter(values[place], requires_grad=False)
        stacked.grad = grads[place]
        return stacked

    def get(self, model: int) -> Tensor:
        """A copy of the parameters of one model.

        Parameters
        ----------
        model : int
            Which one.

        Returns
        -------
        Tensor of shape (n_parameters,)
            The parameters, in the order of the memory.
        """
        return torch.cat(self._memory_of[model])

    def put(self, model: int, values: Tensor) -> None:
        """Replace the parameters of one model.

        Parameters
        ----------
        model : int
            Which one.
        values : Tensor of shape (n_parameters,)
            What :meth:`get` gave, here or before a :meth:`select`.
        """
        parts = self._memory_of[model]
        for part, own in zip(parts, values.split([len(p) for p in parts]), strict=True):
            part.copy_(own)

    def l2(self, factors: Sequence[float]) -> Tensor:
        """Factors of the models, where the penalty is for a parameter.

        Parameters
        ----------
        factors : sequence of R floats
            A factor for each model.

        Returns
        -------
        Tensor of shape (R * room,)
            The factors, and 0 elsewhere.
        """
        result = torch.zeros_like(self.values)
        parts = self.views(result)
        for i in self._penalized:
            parts[i].add_(_column(factors, parts[i]))
        return result

    def _step_size(self, block: list[int]) -> float:
        return self._size_of.get(block[0], 1.0)

    def of_models(
        self, flat: Tensor, first: int, last: int, step_size: float
    ) -> list[Tensor]:
        """Some models' part of a buffer of the shape of ``values``.

        Parameters
        ----------
        flat : Tensor of shape (R * room,)
            The buffer.
        first, last : int
            The models from the first, up to but not including the last.
        step_size : float
            One of ``step_sizes``: the parameters that take it.

        Returns
        -------
        list of Tensor
            Views that are contiguous.
        """
        if (first, last) == (0, len(self._models)) and len(
            self.learning_rate_multipliers
        ) == 1:
            return [flat]
        rooms = zip(self._rooms(flat), self._blocks, strict=True)
        return [r[first:last] for r, block in rooms if self._step_size(block) == step_size]

    def select(self, chosen: Sequence[int]) -> "FlatParameters":
        """Some of the models, in a buffer of their own.

        Parameters
        ----------
        chosen : sequence of int
            Which models.

        Returns
        -------
        FlatParameters
            Their parameters, which move; those of the others stay where they are.
        """
        models = [self._models[r] for r in chosen]
        penalized = [models[0][i] for i in self._penalized]
        fused = [[models[0][i] for i in block] for block in self._blocks]
        learning_rate_multipliers: dict[Tensor, float] = {
            models[0][i]: size for i, size in self._size_of.items()
        }
        return FlatParameters(
            models, penalized, fused, self._may_transpose, learning_rate_multipliers
        )


def _is_better_transposed(shape: Sequence[int]) -> bool:
    """Whether a matrix has lines of a round length if it lies in memory transposed.

    They make products faster, by half sometimes.
    """
    if len(shape) != 2:
        return False
    n_lines, length = shape
    return length % 16 != 0 and n_lines % 16 == 0


def _column(numbers: Sequence[float], part: Tensor) -> Tensor:
    """A number for each model, to be combined with ``(R, ...)``."""
    return part.new_tensor(list(numbers)).view(-1, *(1,) * (part.ndim - 1))
