"""Normal numbers of models side by side, drawn together on an accelerator."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skae._utils.device import send


@dataclass(frozen=True)
class NoiseSource:
    """Generators of the models whose batches have as many rows with noise.

    Attributes
    ----------
    n_rows : int
        These rows of a batch.
    generators : list of torch.Generator
        The different generators.
    generator_of : Tensor of shape (m,) or None
        The position of each model's generator; None if each has its own, in order, or if
        all have one.
    models : Tensor of shape (m,) or None
        The positions of the models; None if these are all.
    """

    n_rows: int
    generators: list[torch.Generator]
    generator_of: Tensor | None
    models: Tensor | None

    def draw(self, block: Tensor) -> None:
        """Draw for the models in a block ``(R, n_batches, n_draws, size, width)``.

        Each generator takes one launch. A model has the numbers that it has alone.
        """
        target = block[:, :, :, : self.n_rows]
        has_own = self.generator_of is None and len(self.generators) == len(block)
        numbers = target
        if not (has_own and self.models is None and target.is_contiguous()):
            numbers = target.new_empty(len(self.generators), *target.shape[1:])
        for own, generator in zip(numbers, self.generators, strict=True):
            own.normal_(generator=generator)
        if self.generator_of is not None:
            numbers = numbers.index_select(0, self.generator_of)
        if self.models is not None:
            target.index_copy_(0, self.models, numbers)
        elif numbers is not target:
            target.copy_(numbers)


def noise_sources(
    generators: Sequence[torch.Generator], n_rows: Sequence[int], device: torch.device
) -> list[NoiseSource]:
    """Group R models by the rows of a batch with noise, ``n_rows``."""
    found = []
    for n in sorted(set(n_rows)):
        models = [r for r, own in enumerate(n_rows) if own == n]
        own = [generators[r] for r in models]
        different = list(dict.fromkeys(own))
        is_whole = len(models) == len(n_rows)
        # The one generator of all models is spread by the copy.
        is_simple = different == own or (is_whole and len(different) == 1)
        generator_of = torch.tensor([different.index(g) for g in own], device="cpu")
        found.append(
            NoiseSource(
                n,
                different,
                None if is_simple else send(generator_of, device),
                None if is_whole else send(torch.tensor(models, device="cpu"), device),
            )
        )
    return found
