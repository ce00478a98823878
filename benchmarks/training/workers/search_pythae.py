"""Search with pythae's BetaVAE, in a loop over candidates and folds."""

import logging
import tempfile
from itertools import product

import numpy as np
import torch
from pythae import models
from pythae.data.datasets import BaseDataset
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae_vae import Decoder, Encoder
from search import serve_search
from sklearn.model_selection import KFold
from worker import Plan


def fit(X: np.ndarray, plan: Plan, beta: float, rate: float) -> models.BetaVAE:
    """Train one candidate."""
    torch.manual_seed(plan.seed)
    d = X.shape[1]
    model = models.BetaVAE(
        models.BetaVAEConfig(input_dim=(d,), latent_dim=plan.k, beta=beta),
        Encoder([d, *plan.hidden, 2 * plan.k]),
        Decoder([plan.k, *reversed(plan.hidden), d]),
    )
    with tempfile.TemporaryDirectory() as folder:
        BaseTrainer(
            model,
            BaseDataset(torch.from_numpy(X), torch.zeros(len(X))),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                num_epochs=plan.epochs,
                learning_rate=rate,
                per_device_train_batch_size=plan.batch,
                no_cuda=True,
                seed=plan.seed,
            ),
        ).train()
    return model.eval()


def score(model: models.BetaVAE, X: np.ndarray) -> float:
    """Return the mean ELBO (nats) with a scale of 1, up to a constant."""
    model.beta = 1.0
    with torch.inference_mode():
        return -float(model({"data": torch.from_numpy(X)}).loss)


def search(X: np.ndarray, plan: Plan, request: dict) -> list[float]:
    """Return the mean score of each candidate; fit the best one to all data."""
    candidates = list(product(request["betas"], request["rates"]))
    scores = [
        np.mean(
            [
                score(fit(X[train], plan, *candidate), X[test])
                for train, test in KFold(request["folds"]).split(X)
            ]
        )
        for candidate in candidates
    ]
    fit(X, plan, *candidates[int(np.argmax(scores))])
    return scores


if __name__ == "__main__":
    logging.disable(logging.INFO)
    serve_search(search, "pythae", "torch")
