"""Train by Lightning's Trainer, without a logger, a progress bar or checkpoints."""

import logging
import warnings

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from vae import VAE, negative_elbo, vae_coder
from worker import Coder, Plan, serve


class Module(lightning.LightningModule):
    """A variational autoencoder with its loss and its optimizer."""

    def __init__(self, model: VAE, learning_rate: float) -> None:
        super().__init__()
        self.model = model
        self.learning_rate = learning_rate

    def training_step(self, batch, _):
        (x,) = batch
        return negative_elbo(x, *self.model(x))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


def fit(X: np.ndarray, plan: Plan) -> Coder:
    """Train the model of a plan."""
    torch.manual_seed(plan.seed)
    model = VAE(X.shape[1], plan.hidden, plan.k)
    data = TensorDataset(torch.from_numpy(X))
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=plan.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(data, batch_size=plan.batch, shuffle=True)
    trainer.fit(Module(model, plan.learning_rate), loader)
    return vae_coder(model)


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    serve(fit, "lightning", "torch")
