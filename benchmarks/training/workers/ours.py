"""Train skae's estimators, by their public methods only."""

import warnings
from typing import Any

import numpy as np
import torch
from worker import Coder, Plan, serve

from skae import GaussianAutoencoder, VariationalAutoencoder

_ESTIMATORS = {"vae": VariationalAutoencoder, "ae": GaussianAutoencoder}


def make(plan: Plan, **parameters: Any) -> GaussianAutoencoder | VariationalAutoencoder:
    """Return the estimator of a variant such as "vae optimal" that trains all epochs.

    With the further word "plain", all products are those of torch's default library.
    """
    kind, variance_mode, *plain = plan.variant.split()
    if plain:
        torch.backends.mkldnn.enabled = False
    return _ESTIMATORS[kind](
        plan.k,
        variance_mode=variance_mode,
        hidden_layer_sizes=plan.hidden,
        batch_size=plan.batch,
        max_iter=plan.epochs,
        learning_rate_init=plan.learning_rate,
        tol=0.0,
        n_iter_no_change=plan.epochs,
        random_state=plan.seed,
        **parameters,
    )


def fit(X: np.ndarray, plan: Plan) -> Coder:
    """Train the model of a plan."""
    model = make(plan).fit(X)
    if model.n_iter_ != plan.epochs:
        raise RuntimeError(f"{model.n_iter_} epochs in place of {plan.epochs}")

    def encode(X: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if isinstance(model, GaussianAutoencoder):
            return model.transform(X), None
        mean, std = model.posterior(X)
        return mean, 2 * np.log(std)

    n_parameters = sum(p.numel() for p in model.module_.parameters())
    return Coder(encode, model.inverse_transform, n_parameters)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(fit, "skae", "torch")
