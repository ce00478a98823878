"""Train by skorch's NeuralNet, with its defaults for all that the plan leaves open."""

import numpy as np
import torch
from skorch import NeuralNet
from vae import VAE, negative_elbo, vae_coder
from worker import Coder, Plan, serve


class Net(NeuralNet):
    """A net whose loss depends on the input instead of a target."""

    def __init__(self, *args, objective, **kwargs):
        super().__init__(*args, **kwargs)
        self.objective = objective

    def get_loss(self, y_pred, y_true, X=None, training=False):
        return negative_elbo(X, *y_pred, objective=self.objective)


def fit(X: np.ndarray, plan: Plan) -> Coder:
    """Train the model of a plan."""
    torch.manual_seed(plan.seed)
    net = Net(
        VAE,
        criterion=torch.nn.MSELoss,  # required by skorch, not used
        objective=plan.objective,
        module__n_features=X.shape[1],
        module__hidden=plan.hidden,
        module__k=plan.k,
        optimizer=torch.optim.Adam,
        lr=plan.learning_rate,
        batch_size=plan.batch,
        max_epochs=plan.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    net.fit(X, None)
    return vae_coder(net.module_)


if __name__ == "__main__":
    serve(fit, "skorch", "torch")
