"""Train normalising flows of zuko, with early stopping on a validation part."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

_BATCH_ROWS = 256
# Batch for tables with more than `_MANY_ROWS`, which train longer.
_LARGE_BATCH_ROWS = 512
_MANY_ROWS = 8000
_LEARNING_RATE = 1e-3
# Least steps between two validations; an epoch if it has more.
_LEAST_STEPS = 25
# Validations without improvement: before the learning rate is halved, and before the end.
_REDUCE_AFTER = 3
_STOP_AFTER = 10
_MOST_CHECKS = 200
# Norm to which a larger gradient is scaled; without it, single batches end a training.
_LARGEST_GRADIENT = 5.0
_QUICK_STEPS = 3
# Rows that are evaluated in one call, to bound the memory.
_CHUNK_ROWS = 2000

LogDensity = Callable[[np.ndarray], np.ndarray]


def fit_flow(
    name: str,
    train: np.ndarray,
    validation: np.ndarray,
    *,
    transforms: int,
    width: int,
    weight_decay: float,
    quick: bool = False,
) -> LogDensity:
    """Train a flow of zuko ("NSF" or "MAF"); return its log-density (nats) of rows.

    The parameters are those with the best validation score of the training.
    """
    import zuko  # of the benchmark's own folder

    torch.manual_seed(0)
    flow = getattr(zuko.flows, name)(
        train.shape[1], transforms=transforms, hidden_features=(width, width)
    )
    X = torch.as_tensor(train, dtype=torch.float32)
    optimizer = torch.optim.AdamW(
        flow.parameters(), lr=_LEARNING_RATE, weight_decay=weight_decay
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=_REDUCE_AFTER
    )
    best, best_state, n_worse = -math.inf, copy.deepcopy(flow.state_dict()), 0
    batch = _LARGE_BATCH_ROWS if len(X) > _MANY_ROWS else _BATCH_ROWS
    steps = _QUICK_STEPS if quick else _LEAST_STEPS
    for _ in range(1 if quick else _MOST_CHECKS):
        for _ in range(math.ceil(steps / math.ceil(len(X) / batch))):
            _train_epoch(flow, optimizer, X, batch)
        score = float(_evaluate(flow, validation).mean())
        schedule.step(score)
        if score > best:
            best, best_state, n_worse = score, copy.deepcopy(flow.state_dict()), 0
        else:
            n_worse += 1
        if n_worse > _STOP_AFTER or not math.isfinite(score):
            break
    flow.load_state_dict(best_state)
    return lambda rows: _evaluate(flow, rows)


def _train_epoch(
    flow: Any, optimizer: torch.optim.Optimizer, X: torch.Tensor, batch: int
) -> None:
    """Take a step for each batch of X, (n, d), in random order."""
    for rows in torch.randperm(len(X)).split(batch):
        loss = -flow().log_prob(X[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), _LARGEST_GRADIENT)
        optimizer.step()


@torch.no_grad()
def _evaluate(flow: Any, rows: np.ndarray) -> np.ndarray:
    """Return the log-density of rows (nats), (n,)."""
    X = torch.as_tensor(rows, dtype=torch.float32)
    parts = [flow().log_prob(part) for part in X.split(_CHUNK_ROWS)]
    return torch.cat(parts).double().numpy()
