"""The scores of validation data in each epoch of a training."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from skae._data import Rows, Standardization
from skae._evaluation.blocks import (
    Kept,
    blocks_of,
    chunk_numbers,
    evaluation_mode,
    is_kept,
    over_rows,
)
from skae._evaluation.means import (
    draws_of,
    draws_of_rows,
    n_pairs_of,
    pooled_residuals,
    split_mean,
)
from skae._evaluation.scale import update_scale
from skae._evaluation.side_by_side import SideBySide
from skae._module import AutoencoderModule
from skae._utils.device import move_double, to_double
from skae._utils.matmul import weighted_sum
from skae._utils.threads import in_parts
from skae.likelihoods import LIKELIHOODS
from skae.networks import is_built_in
from skae.objectives import Objective

# Draws of the posterior for the validation score during training.
_VALIDATION_DRAWS = 8


@dataclass(frozen=True)
class Validated:
    """A model in training, and the rows that it is scored with.

    Attributes
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        The objective of its training.
    scale_rows : Rows
        Rows of the training data, which set a closed-form scale.
    rows : Rows
        Validation data.
    standardization : Standardization
        Statistics of the training data.
    is_alone : bool
        Whether the model is not scored together with others.
    """

    module: AutoencoderModule
    objective: Objective
    scale_rows: Rows
    rows: Rows
    standardization: Standardization
    is_alone: bool
    _kept_of_scale: Kept = field(default_factory=Kept, init=False)
    _kept: Kept = field(default_factory=Kept, init=False)

    def key(self) -> Hashable:
        """Return what models that are scored together have in common; None if alone."""
        module = self.module
        if self.is_alone or module.device.type == "cpu":
            return None
        families = [f for _, f in module.spec.likelihood.parts(module.spec.n_features)]
        if (
            not is_built_in(module.spec.network)
            # A user's likelihood may have branches that depend on numbers.
            or any(type(family) not in LIKELIHOODS.values() for family in families)
            or not is_kept(max(len(self.rows), len(self.scale_rows)), module)
        ):
            return None
        return self._kept.get("key", self._make_key)

    def _make_key(self) -> Hashable:
        """Return the shapes of all blocks, and how draws are dealt to rows."""
        scale_rows = self.scale_rows
        n_pairs = n_pairs_of(self.draws_of_scale(), scale_rows)
        blocks = *self.scale_blocks(), *self.blocks()
        shapes = *(tuple(y.shape) for _, y in blocks), scale_rows.has_missing
        return n_pairs, *shapes, len(scale_rows)

    def draws(self) -> Tensor:
        """Return the draws of scores, ``(n_draws, 1, k)``."""

        def make() -> Tensor:
            draws = self.objective.draws(self.module.spec, _VALIDATION_DRAWS)[:, None]
            return draws.to(self.module.std_in_units)

        return self._kept.get("draws", make)

    def draws_of_scale(self) -> Tensor:
        """Return the draws that set a closed-form scale, ``(n_draws, k)``."""
        return draws_of(self.module, self.objective, self._kept_of_scale)

    def blocks(self) -> list[tuple[int, Tensor]]:
        """Return the positions and the prepared rows of the validation data."""
        return self._blocks(self.rows, len(self.draws()), self._kept)

    def scale_blocks(self) -> list[tuple[int, Tensor]]:
        """Return the same of the rows that set a closed-form scale."""
        n_pairs = n_pairs_of(self.draws_of_scale(), self.scale_rows)
        return self._blocks(self.scale_rows, max(2 * n_pairs, 1), self._kept_of_scale)

    def numbers(self) -> int:
        """Return how many numbers an intermediate result has."""
        n = max(len(y) for _, y in self.blocks()) * len(self.draws())
        n_pairs = n_pairs_of(self.draws_of_scale(), self.scale_rows)
        of_scale = max(len(y) for _, y in self.scale_blocks()) * max(2 * n_pairs, 1)
        return max(n, of_scale) * self.module.width

    def _blocks(self, rows: Rows, n_draws: int, kept: Kept) -> list[tuple[int, Tensor]]:
        """Return the positions and the prepared rows of some rows."""
        with evaluation_mode(self.module, n_draws * len(rows)):
            model = self.standardization, self.module
            return list(blocks_of(rows.X, *model, n_draws, rows.index, kept=kept))

    def scale_weights(self) -> Tensor:
        """Return the weights of the rows that set a closed-form scale, of sum 1, (n, 1)."""
        weight = torch.from_numpy(self.scale_rows.weight / self.scale_rows.total)[:, None]
        return self._kept_of_scale.get(
            "shares", lambda: move_double(weight, self.module.device)
        )

    def mean(self, scores: np.ndarray) -> float:
        """Average scores ``(n,)``; in the units of X."""
        rows, standardization = self.rows, self.standardization
        total = float(np.sum(scores.astype(np.float64) * rows.weight))
        log_det = self._kept.get("log_det", lambda: standardization.mean_log_det(rows))
        return rows.peers.sum(total) / rows.total - log_det

    def score_alone(self) -> float:
        """Return the score of this model; see `validation_scores`."""
        module, objective, draws = self.module, self.objective, self.draws()
        # Between the steps a closed-form scale is a running mean, which training needs.
        running = [(buffer, buffer.clone()) for buffer in module.scale.buffers()]
        model = module, objective, self.scale_rows, self.standardization
        update_scale(*model, self._kept_of_scale)
        scores = over_rows(
            lambda y: objective.log_likelihood(module, y, draws),
            self.rows.X,
            self.standardization,
            module,
            n_draws=len(draws),
            index=self.rows.index,
            kept=self._kept,
        )
        score = self.mean(scores)
        for buffer, value in running:
            buffer.copy_(value)
        return score


def validation_scores(models: Sequence[Validated]) -> list[float]:
    """Return the weighted mean scores of the validation data of models of equal parts.

    They are in nats, in the units of X, with the closed-form scale of the training data.
    On an accelerator, models with rows of the same shapes are scored together.
    """
    scores: dict[int, float] = {}
    groups: dict[Hashable, list[int]] = {}
    for i, model in enumerate(models):
        key = model.key()
        if key is None:
            scores[i] = model.score_alone()
        else:
            groups.setdefault(key, []).append(i)
    for group in groups.values():
        first = models[group[0]]
        most = max(chunk_numbers(first.module) // first.numbers(), 1)
        for part in in_parts(group, most):
            found = _score_together([models[i] for i in part])
            scores.update(zip(part, found, strict=True))
    return [scores[i] for i in range(len(models))]


def _score_together(models: Sequence[Validated]) -> list[float]:
    """Return the scores of models with equal keys."""
    first = models[0]
    objective, draws = first.objective, first.draws()
    n_draws = len(draws)

    def log_likelihood(module: AutoencoderModule, y: Tensor, draws: Tensor) -> Tensor:
        return objective.log_likelihood(module, y, draws)

    with evaluation_mode(first.module, n_draws * len(first.rows)):
        together = SideBySide([model.module for model in models])
        if first.module.scale.needs_optimal_scale:
            _set_closed_forms(together, models)
        found = [
            together(log_likelihood, [torch.stack([y for _, y in blocks])], draws)
            for blocks in zip(*(model.blocks() for model in models), strict=True)
        ]
        scores = torch.cat(found, dim=1).cpu().numpy()  # (R, n)
    return [model.mean(own) for model, own in zip(models, scores, strict=True)]


def _set_closed_forms(together: SideBySide, models: Sequence[Validated]) -> None:
    """Set the closed-form scales of models, in their copies, from their training data."""
    first = models[0]
    draws, has_missing = first.draws_of_scale(), first.scale_rows.has_missing
    n_pairs, objective = n_pairs_of(draws, first.scale_rows), first.objective
    deviation = first.module.spec.likelihood.deviation

    def pooled(module: AutoencoderModule, y: Tensor, draws: Tensor) -> Tensor:
        return pooled_residuals(
            module,
            y,
            draws,
            objective=objective,
            statistic=deviation,
            has_missing=has_missing,
            in_place=False,
        )

    def finalize(module: AutoencoderModule, mean: Tensor) -> Tensor:
        found, _, _ = split_mean(module, mean, deviation, has_missing)
        module.scale.finalize(found)
        return found

    weights = torch.stack([model.scale_weights() for model in models])  # (R, n, 1)
    total = weights.new_zeros(())
    for blocks in zip(*(model.scale_blocks() for model in models), strict=True):
        start, n = blocks[0][0], len(blocks[0][1])
        used = draws_of_rows(draws, n_pairs, start, n)
        values = together(pooled, [torch.stack([y for _, y in blocks])], used)
        weight = weights[:, start : start + n]
        total = total + weighted_sum(weight, to_double(values))  # (R, 1, m)
    together(finalize, [total.to(first.module.std_in_units)])
