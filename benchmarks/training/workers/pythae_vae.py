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
from vae import make_coder, mlp
from worker import LEARNING_RATE, Coder, Plan, serve


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


def fit(X: np.ndarray, plan: Plan) -> Coder:
    """Train the model of a plan."""
    torch.manual_seed(plan.seed)
    d = X.shape[1]
    model = models.VAE(
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
                learning_rate=LEARNING_RATE,
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
