"""All parameters of R models in one flat buffer."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from skae._utils.cached import cached

# The numbers of a model in a block are padded to a multiple of this: the float32 numbers of
# a 512-bit register. Then vector instructions update all numbers. A remainder would be
# updated by scalar instructions, which round differently, so that the result of a model
# would depend on the other models.
_VECTOR_SIZE = 16


class FlatParameters:
    """Parameters and gradients of R models, as views into one flat tensor each.

    All parameters of one learning rate are updated by one operation, whatever the number of
    layers and models. The counterparts of a parameter, which are the same parameter of the
    other models, are its neighbours, so one batched product reads or writes all of them.

    Parameters
    ----------
    models : sequence of R sequences of Parameter
        The parameters of each model, of the same shapes in the same order; their memory
        moves into the flat buffer.
    penalized : sequence of Parameter
        Parameters of the first model that, like their counterparts, have an L2 penalty.
    fused : sequence of sequences of Parameter
        Parameters of the first model that lie side by side along their first axis, so that
        they can be used as one.
    may_transpose : bool, default=True
        Whether a matrix may lie transposed in memory. A user's module may rely on the usual
        order.
    learning_rate_multipliers : mapping of Parameter to float, default={}
        Factors of the learning rate for some parameters of the first model and their
        counterparts.
    penalty_weights : mapping of Parameter to Tensor of shape (R, ...), default={}
        Factors of the penalty for the elements of some parameters of the first model and
        their counterparts; they broadcast to the parameters.
    watched : Parameter, default=None
        Parameter of the first model whose gradient, like those of its counterparts, shows
        how large the gradient of the model is.

    Attributes
    ----------
    values, grads : Tensor of shape (R * padded_size,)
        The buffers: one block after another, each padded with zeros.
    watched_grads : Tensor of shape (R, ...) or None
        Views of the gradients of the watched parameters.
    learning_rate_multipliers : list of float
        All factors of the learning rate, 1 included if any parameter has it.
    """

    def __init__(
        self,
        models: Sequence[Sequence[nn.Parameter]],
        penalized: Sequence[nn.Parameter] = (),
        fused: Sequence[Sequence[Tensor]] = (),
        may_transpose: bool = True,
        learning_rate_multipliers: Mapping[Tensor, float] = MappingProxyType({}),
        penalty_weights: Mapping[Tensor, Tensor] = MappingProxyType({}),
        watched: Tensor | None = None,
    ) -> None:
        self._may_transpose = may_transpose
        self._models = models
        self._index = {id(p): i for i, p in enumerate(models[0])}
        self._multipliers = {
            self._index[id(p)]: multiplier
            for p, multiplier in learning_rate_multipliers.items()
        }
        self._penalty_weights = {
            self._index[id(p)]: weights for p, weights in penalty_weights.items()
        }
        self._watched = None if watched is None else self._index[id(watched)]
        # Each parameter once, even if encoder and decoder share it.
        self._penalized = sorted({self._index[id(p)] for p in penalized})
        # Indices of the parameters in each block; most blocks are one parameter.
        self._blocks = [[self._index[id(p)] for p in block] for block in fused]
        others = set(self._index.values()).difference(*self._blocks)
        self._blocks += [[i] for i in sorted(others)]
        self.learning_rate_multipliers = sorted(set(map(self._multiplier, self._blocks)))
        n_values = len(models) * sum(map(self._padded_size, self._blocks))
        self.values = models[0][0].detach().new_zeros(n_values)
        self.grads = torch.zeros_like(self.values)
        # Views of values and gradients, by blocks and by parameters.
        self._blocks_of_buffers = [
            self._block_views(flat) for flat in (self.values, self.grads)
        ]
        self._views_of_buffers = list(map(self._parameter_views, self._blocks_of_buffers))
        self.watched_grads = None
        if self._watched is not None:
            self.watched_grads = self._views_of_buffers[1][self._watched]
        views = zip(
            zip(*models, strict=True),
            zip(*self._views_of_buffers, strict=True),
            strict=True,
        )
        for counterparts, (values, grads) in views:
            values.copy_(torch.stack([p.detach() for p in counterparts]))
            for p, value, grad in zip(counterparts, values, grads, strict=True):
                p.data, p.grad = value, grad
        # For each model its views of all blocks, without padding.
        self._unpadded_by_model = list(zip(*self._unpadded_views(self.values), strict=True))

    def _size(self, block: list[int]) -> int:
        """Return how many numbers a model has in a block."""
        return sum(self._models[0][i].numel() for i in block)

    def _padded_size(self, block: list[int]) -> int:
        """Return how many numbers a model has in a block, with padding."""
        return -(-self._size(block) // _VECTOR_SIZE) * _VECTOR_SIZE

    def blocks(self, flat: Tensor) -> list[Tensor]:
        """View a buffer by blocks, each ``(R, padded_size)``."""
        R, padded = len(self._models), list(map(self._padded_size, self._blocks))
        parts = flat.split([R * padded_size for padded_size in padded])
        return [
            part.view(R, padded_size)
            for part, padded_size in zip(parts, padded, strict=True)
        ]

    def _unpadded_views(self, flat: Tensor) -> list[Tensor]:
        """View a buffer by blocks without padding, each ``(R, size)``."""
        padded = zip(self.blocks(flat), self._blocks, strict=True)
        return [part[:, : self._size(block)] for part, block in padded]

    def _block_views(self, flat: Tensor) -> list[Tensor]:
        """View a buffer by blocks in the shape of parameters, each ``(R, ...)``."""
        first = self._models[0]
        views = []
        for part, block in zip(self._unpadded_views(flat), self._blocks, strict=True):
            shape = list(first[block[0]].shape)
            if len(block) > 1:
                shape[0] = sum(len(first[i]) for i in block)
            if self._may_transpose and _is_better_transposed(shape):
                views.append(part.view(len(part), *shape[::-1]).mT)
            else:
                views.append(part.view(len(part), *shape))
        return views

    def views(self, flat: Tensor) -> list[Tensor]:
        """View a buffer like ``values`` by parameters, each ``(R, ...)``."""
        return self._parameter_views(self._block_views(flat))

    def _parameter_views(self, block_views: Sequence[Tensor]) -> list[Tensor]:
        """Split the views of blocks into views of parameters, each ``(R, ...)``."""
        parts: dict[int, Tensor] = {}
        for block, whole in zip(self._blocks, block_views, strict=True):
            parts_of_block: Sequence[Tensor] = [whole]
            if len(block) > 1:
                parts_of_block = whole.split(
                    [len(self._models[0][i]) for i in block], dim=1
                )
            parts.update(zip(block, parts_of_block, strict=True))
        return [parts[i] for i in range(len(parts))]

    def stacked(self, *parameters: Tensor) -> nn.Parameter:
        """Return a parameter of the first model with its counterparts, ``(R, ...)``.

        Several parameters have to be fused. Values and gradient are views of the buffers.
        """
        numbers = [self._index[id(p)] for p in parameters]
        if len(numbers) == 1:
            found, place = self._views_of_buffers, numbers[0]
        else:
            found, place = self._blocks_of_buffers, self._blocks.index(numbers)
        values, grads = found
        stacked = nn.Parameter(values[place], requires_grad=False)
        stacked.grad = grads[place]
        return stacked

    def get(self, model: int, flat: Tensor | None = None) -> Tensor:
        """Copy the parameters of one model, ``(n_parameters,)``, in the order of memory.

        With ``flat``, a buffer like ``values``, the numbers are those of the buffer.
        """
        return torch.cat(list(self._parts(model, flat)))

    def put(self, model: int, values: Tensor, flat: Tensor | None = None) -> None:
        """Replace the parameters of one model by a copy from :meth:`get`.

        The copy may be older than a :meth:`select`.
        """
        parts = self._parts(model, flat)
        for part, own in zip(parts, values.split([len(p) for p in parts]), strict=True):
            part.copy_(own)

    def _parts(self, model: int, flat: Tensor | None) -> Sequence[Tensor]:
        """View the numbers of one model by blocks, each ``(size,)``."""
        if flat is None:
            return self._unpadded_by_model[model]
        return [part[model] for part in self._unpadded_views(flat)]

    def sums(self, flat: Tensor) -> Tensor:
        """Add up the numbers of each model in a buffer like ``values``, ``(R,)``."""
        if len(self._models) == 1:
            return flat.sum(dim=0, keepdim=True)
        return torch.stack([part.sum(dim=1) for part in self.blocks(flat)]).sum(dim=0)

    def multiply(self, flat: Tensor, factors: Tensor) -> None:
        """Multiply the numbers of each model in a buffer by a factor of ``(R,)``."""
        if flat.device.type == "cpu":
            for part in self.blocks(flat):
                part.mul_(factors[:, None])
        else:
            # Two launches in place of one for each block.
            flat.mul_(factors.index_select(0, self._models_of_values))

    @cached
    def _models_of_values(self) -> Tensor:
        """The model that each number of a buffer belongs to, ``(R * padded_size,)``."""
        found = torch.zeros_like(self.values, dtype=torch.int32)
        for part in self.blocks(found):
            part.copy_(torch.arange(len(part), device=found.device)[:, None])
        return found

    def l2_factors(self, factors: Sequence[float]) -> Tensor:
        """Fill a buffer like ``values`` with each model's factor of the L2 penalty.

        Parameters without a penalty have the factor 0.
        """
        result = torch.zeros_like(self.values)
        parts = self.views(result)
        for i in self._penalized:
            parts[i].add_(_per_model(factors, parts[i]))
            if i in self._penalty_weights:
                parts[i].mul_(self._penalty_weights[i])
        return result

    def _multiplier(self, block: list[int]) -> float:
        """Return the factor of the learning rate of a block."""
        return self._multipliers.get(block[0], 1.0)

    def of_models(
        self, flat: Tensor, first: int, last: int, multiplier: float
    ) -> list[Tensor]:
        """Return contiguous views of the parameters of adjacent models.

        The views are those of a buffer like ``values``, and of the models ``first`` to
        ``last - 1``. They cover the parameters with this multiplier of the learning rate.
        """
        if (first, last) == (0, len(self._models)) and len(
            self.learning_rate_multipliers
        ) == 1:
            return [flat]
        padded = zip(self.blocks(flat), self._blocks, strict=True)
        return [
            r[first:last] for r, block in padded if self._multiplier(block) == multiplier
        ]

    def select(self, chosen: Sequence[int]) -> "FlatParameters":
        """Move the parameters of some models into a buffer of their own.

        The parameters of the other models stay where they are.
        """
        models = [self._models[r] for r in chosen]
        penalized = [models[0][i] for i in self._penalized]
        fused = [[models[0][i] for i in block] for block in self._blocks]
        learning_rate_multipliers: dict[Tensor, float] = {
            models[0][i]: multiplier for i, multiplier in self._multipliers.items()
        }
        return FlatParameters(
            models,
            penalized,
            fused,
            self._may_transpose,
            learning_rate_multipliers,
            {models[0][i]: w[list(chosen)] for i, w in self._penalty_weights.items()},
            None if self._watched is None else models[0][self._watched],
        )


def _is_better_transposed(shape: Sequence[int]) -> bool:
    """Whether only the transposed layout has lines of a multiple of 16 numbers.

    Such lines make products faster, by up to a half.
    """
    if len(shape) != 2:
        return False
    n_lines, length = shape
    return length % 16 != 0 and n_lines % 16 == 0


def _per_model(numbers: Sequence[float], part: Tensor) -> Tensor:
    """Return a number for each model, in a shape that broadcasts to ``(R, ...)``."""
    return part.new_tensor(list(numbers)).view(-1, *(1,) * (part.ndim - 1))
