"""Train PyOD's VAE, an outlier detector.

Two settings differ from the defaults of PyOD, so that its loss is that of the others. Its
default capacity caps the KL at 0. Its error is a mean over features, so the KL needs the
weight 2 / d.
"""

import numpy as np
from pyod.models import vae as pyod
from vae import make_coder
from worker import Coder, Plan, serve


def fit(X: np.ndarray, plan: Plan) -> Coder:
    """Train the model of a plan."""
    detector = pyod.VAE(
        preprocessing=False,
        lr=plan.learning_rate,
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
