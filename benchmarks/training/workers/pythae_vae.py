"""Train pythae's VAE by its BaseTrainer, with the networks of the plan."""

import logging
import tempfile

import numpy as np
import torch
from pythae import models
from pythae.data.datasets import BaseDataset
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from vae import kl_divergence, make_coder, mlp, reconstruction_loss
from worker import OPTIMAL_SCALE, Coder, Plan, serve


class Encoder(BaseEncoder):
    """An MLP to the mean and the log-variance of the code."""

    def __init__(self, sizes):
        super().__init__()
        self.layers = mlp(sizes)

    def forward(self, x):
        mean, log_var = self.layers(x).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_var)


class Decoder(BaseDecoder):
    """An MLP from the code to the data."""

    def __init__(self, sizes):
        super().__init__()
        self.layers = mlp(sizes)

    def forward(self, z):
        return ModelOutput(reconstruction=self.layers(z))


class OptimalScaleVAE(models.VAE):
    """pythae's VAE with the loss of a Gaussian with the batch's optimal scale."""

    def loss_function(self, recon_x, x, mu, log_var, z):
        error, kl = (
            reconstruction_loss(x, recon_x, OPTIMAL_SCALE),
            kl_divergence(mu, log_var),
        )
        return error + kl, error, kl


def fit(X: np.ndarray, plan: Plan) -> Coder:
    """Train the model of a plan."""
    torch.manual_seed(plan.seed)
    d = X.shape[1]
    kind = OptimalScaleVAE if plan.objective == OPTIMAL_SCALE else models.VAE
    model = kind(
        models.VAEConfig(input_dim=(d,), latent_dim=plan.k),
        Encoder([d, *plan.hidden, 2 * plan.k]),
        Decoder([plan.k, *reversed(plan.hidden), d]),
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainer(
            model,
            BaseDataset(torch.from_numpy(X), torch.zeros(len(X))),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                num_epochs=plan.epochs,
                learning_rate=plan.learning_rate,
                per_device_train_batch_size=plan.batch,
                no_cuda=True,
                seed=plan.seed,
            ),
        )
        trainer.train()
    return make_coder(
        model,
        lambda x: model.encoder(x).values(),
        lambda z: model.decoder(z).reconstruction,
    )


if __name__ == "__main__":
    logging.disable(logging.INFO)
    serve(fit, "pythae", "torch")
