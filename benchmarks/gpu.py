"""Measure training on one GPU: steps per second, lower precision, models side by side.

``python benchmarks/gpu.py`` needs a GPU that torch can use, and takes a few minutes. The
script writes docs/results/gpu.rst with the name of the card.
"""

import sys
import time
from itertools import pairwise

import numpy as np
import torch
from report import write
from sklearn.model_selection import GridSearchCV
from torch import nn

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV

if not torch.cuda.is_available():
    sys.exit("This benchmark needs a GPU that torch can use.")

# Rows, features, hidden layers, components; all in batches of 256.
WORKLOADS = {
    "S": (1792, 64, (64,), 8),
    "M": (60_000, 784, (512, 256), 32),
}
BATCH = 256


def draw(n, d):
    """Draw n rows of d features near a plane of 10 dimensions, in float32."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 10)) @ rng.normal(size=(10, d)) + rng.normal(size=(n, d))
    return X.astype(np.float32)


def seconds(function):
    """Return the seconds of a call, the work of the GPU included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def fit(X, hidden, k, epochs, **parameters):
    """Fit skae's estimator on the GPU for all epochs."""
    return VariationalAutoencoder(
        k,
        hidden_layer_sizes=hidden,
        batch_size=BATCH,
        max_iter=epochs,
        n_iter_no_change=epochs,
        device="cuda",
        random_state=0,
        **parameters,
    ).fit(X)


def textbook(X, hidden, k, epochs):
    """Train by a usual loop: autograd, torch.optim and shuffled batches on the GPU."""
    d = X.shape[1]

    def layers(sizes):
        parts = []
        for n_in, n_out in pairwise(sizes):
            parts += [nn.Linear(n_in, n_out), nn.ReLU()]
        return nn.Sequential(*parts[:-1])

    encoder = layers([d, *hidden, 2 * k]).cuda()
    decoder = layers([k, *hidden[::-1], d]).cuda()
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], fused=True)
    data = torch.tensor(X).cuda()
    for _ in range(epochs):
        for rows in torch.randperm(len(X), device="cuda").split(BATCH):
            y = data[rows]
            mean, log_variance = encoder(y).chunk(2, dim=1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            kl = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(1)
            loss = (0.5 * (y - decoder(z)).square().sum(1) + kl).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()


def per_second(train, n, few, many):
    """Return the steps per second, from the difference of a long and a short training."""
    train(few)
    times = [min(seconds(lambda e=e: train(e)) for _ in range(3)) for e in (few, many)]
    return (many - few) * -(-n // BATCH) / (times[1] - times[0])


rows = []
for name, (n, d, hidden, k) in WORKLOADS.items():
    X = draw(n, d)
    few, many = (20, 220) if name == "S" else (2, 12)
    systems = {
        "textbook loop, data on the GPU": lambda e, X=X, h=hidden, k=k: textbook(
            X, h, k, e
        ),
        **{
            f"skae, precision={p!r}": (
                lambda e, X=X, h=hidden, k=k, p=p: fit(X, h, k, e, precision=p)
            )
            for p in ("float32", "tf32", "bf16")
        },
    }
    for system, train in systems.items():
        rate = per_second(train, n, few, many)
        score = "-"
        if system.startswith("skae"):
            precision = system.split("'")[1]
            model = fit(X, hidden, k, few, precision=precision)
            score = f"{model.score(X[:2000]):.3f}"
        rows.append([name, system, f"{rate:.0f} steps/s", score])
        print(rows[-1], flush=True)

X = draw(*WORKLOADS["S"][:2])
model = VariationalAutoencoder(8, max_iter=30, device="cuda", random_state=0)
grid = {
    "beta": [0.25, 0.5, 1.0, 2.0, 4.0],
    "learning_rate_init": [2e-3, 5e-3],
    "alpha": [0.3, 1.0],
}
for Search in (GridSearchCV, BatchedGridSearchCV):
    Search(model, grid, cv=2).fit(X[:400])
    taken = seconds(lambda S=Search: S(model, grid, cv=5).fit(X))
    rows.append(["S", f"{Search.__name__}, 20 x 5 fits", f"{taken:.1f} s", "-"])
    print(rows[-1], flush=True)

write(
    "gpu",
    "On a GPU",
    "python benchmarks/gpu.py",
    f"""
One {torch.cuda.get_device_name()}; batches of 256. S: 1,792 x 64, hidden (64,),
8 components. M: 60,000 x 784, hidden (512, 256), 32 components. The score is that of a
short training with the same random_state, on 2,000 training rows, in nats. It shows the
loss of accuracy with a lower precision.
""",
    ["workload", "system", "speed", "score"],
    rows,
)
