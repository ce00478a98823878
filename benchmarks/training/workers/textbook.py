"""Train by a usual tutorial loop: a DataLoader, autograd and Adam."""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from vae import VAE, negative_elbo, vae_coder
from worker import Coder, Plan, serve


def fit(X: np.ndarray, plan: Plan) -> Coder:
    """Train the model of a plan."""
    torch.manual_seed(plan.seed)
    model = VAE(X.shape[1], plan.hidden, plan.k)
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.learning_rate)
    data = TensorDataset(torch.from_numpy(X))
    loader = DataLoader(data, batch_size=plan.batch, shuffle=True)
    for _ in range(plan.epochs):
        total = 0.0
        for (x,) in loader:
            optimizer.zero_grad()
            loss = negative_elbo(x, *model(x), objective=plan.objective)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
    return vae_coder(model)


if __name__ == "__main__":
    serve(fit, "torch")
