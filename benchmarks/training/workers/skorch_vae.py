"""skorch's NeuralNet, with its own defaults where the plan says nothing."""

import numpy as np
import torch
from skorch import NeuralNet
from vae import VAE, negative_elbo, vae_coder
from worker import LEARNING_RATE, Coder, Plan, serve


class Net(NeuralNet):
    """A net whose loss looks at the input, and not at a target."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        return negative_elbo(X, *y_pred)


def fit(X: np.ndarray, plan: Plan) -> Coder:
    torch.manual_seed(plan.seed)
    net = Net(
        VAE,
        criterion=torch.nn.MSELoss,  # asked for, not used
        module__n_features=X.shape[1],
        module__hidden=plan.hidden,
        module__k=plan.k,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
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
