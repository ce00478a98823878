"""PyOD's VAE, an outlier detector.

Two settings differ from its defaults so that it trains what the others train: its KL
term is capped at 0 by default (capacity), and its error is a mean over features, so that
the KL has to be weighted by 2 / d.
"""

import numpy as np
from pyod.models import vae as pyod
from vae import make_coder
from worker import LEARNING_RATE, Coder, Plan, serve


def fit(X: np.ndarray, plan: Plan) -> Coder:
    detector = pyod.VAE(
        preprocessing=False,
        lr=LEARNING_RATE,
        epoch_num=plan.epochs,
        batch_size=plan.batch,
        random_state=plan.seed,
        verbose=0,
        optimizer_params={},
        beta=2 / X.shape[1],
        capacity=float("inf"),
        encoder_neuron_list=plan.hidden,
        decoder_neuron_list=plan.hidden[::-1],
        latent_dim=plan.k,
        dropout_rate=0.0,
    ).fit(X)
    return make_coder(detector.model, detector.model.encode, detector.model.decode)


if __name__ == "__main__":
    serve(fit, "pyod", "torch")
