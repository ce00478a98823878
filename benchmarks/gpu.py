"""Measure training on one GPU: steps, lower precision, models side by side, a profile.

``python benchmarks/gpu.py`` needs a GPU that torch can use, and takes a few minutes. The
script writes docs/results/gpu.rst with the name of the card.
"""

import argparse
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from report import RESULTS, write_page
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.profiler import ProfilerActivity, profile

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV

if not torch.cuda.is_available():
    sys.exit("This benchmark needs a GPU that torch can use.")

# Rows, features, hidden layers, components; all in batches of 256.
WORKLOADS = {
    "S": (1792, 64, (64,), 8),
    "W": (200_000, 32, (64,), 8),
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
    times = [min(seconds(lambda e=e: train(e)) for _ in range(2)) for e in (few, many)]
    return (many - few) * -(-n // BATCH) / (times[1] - times[0])


def speeds():
    """Return the table of steps per second, and of the score with lower precision."""
    rows = []
    for name, (n, d, hidden, k) in WORKLOADS.items():
        X = draw(n, d)
        few, many = {"S": (20, 120), "W": (1, 4), "M": (1, 6)}[name]
        # A step of "bf16" goes by autograd, launch by launch.
        precisions = ("float32", "tf32", "bf16") if name == "M" else ("float32", "tf32")
        systems = {
            "textbook loop, data on the GPU": lambda e, X=X, h=hidden, k=k: textbook(
                X, h, k, e
            ),
            **{
                f"skae, precision={p!r}": (
                    lambda e, X=X, h=hidden, k=k, p=p: fit(X, h, k, e, precision=p)
                )
                for p in precisions
            },
        }
        for system, train in systems.items():
            rate = per_second(train, n, few, many)
            score = "-"
            if system.startswith("skae"):
                precision = system.split("'")[1]
                model = fit(X, hidden, k, few, precision=precision)
                score = f"{model.score(X[:2000]):.3f}"
            rows.append([name, system, f"{rate:.0f}", score])
            print(rows[-1], flush=True)
    return ["workload", "system", "steps/s", "score"], rows


def searches():
    """Return the table of two searches of 20 candidates and 5 folds."""
    X = draw(*WORKLOADS["S"][:2])
    rows = []
    for Search in (GridSearchCV, BatchedGridSearchCV):
        for device in ("cpu", "cuda"):
            taken = seconds(lambda S=Search, d=device: S(model(10, d), GRID, cv=5).fit(X))
            rows.append([Search.__name__, device, f"{taken:.1f}"])
            print(rows[-1], flush=True)
    return ["search of 20 x 5 fits", "device", "s"], rows


GRID = {
    "beta": [0.25, 0.5, 1.0, 2.0, 4.0],
    "learning_rate_init": [2e-3, 5e-3],
    "alpha": [0.3, 1.0],
}


def model(epochs, device="cuda", **parameters):
    """Return the model of the searches and of the profile."""
    return VariationalAutoencoder(
        8, max_iter=epochs, n_iter_no_change=epochs, device=device, random_state=0,
        **parameters,
    )  # fmt: skip


COUNTED = {
    "kernel launches": ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel"),
    "graph launches": ("cudaGraphLaunch",),
    "copies": ("cudaMemcpyAsync",),
    "synchronisations": ("cudaStreamSynchronize", "cudaDeviceSynchronize"),
}


def counts(function):
    """Return how often a call asks the GPU for something, and its busy milliseconds."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        function()
        torch.cuda.synchronize()
    events = profiled.key_averages()
    found = [sum(e.count for e in events if e.key in names) for names in COUNTED.values()]
    return np.array([*found, sum(e.self_device_time_total for e in events) / 1e3])


def profiles():
    """Return the table of what an epoch and a score ask of the GPU."""
    X = draw(*WORKLOADS["S"][:2])
    wide = draw(20_000, 50)

    def search(epochs, **parameters):
        return BatchedGridSearchCV(model(epochs, **parameters), GRID, cv=5, refit=False)

    trainings = {
        "an epoch of a search of 100 models": search,
        "an epoch of one model": model,
        "the same with early stopping": lambda e: model(e, early_stopping=True),
    }
    rows = []

    def add(name, found, wall):
        rows.append([name, *(f"{x:.0f}" for x in found[:-1]), f"{found[-1]:.2f}"])
        rows[-1].append(f"{1e3 * wall:.2f}")
        print(rows[-1], flush=True)

    few, many = 2, 6
    for name, make in trainings.items():
        make(few).fit(X)
        found = counts(lambda m=make: m(many).fit(X)) - counts(lambda m=make: m(few).fit(X))
        walls = [seconds(lambda m=make, e=e: m(e).fit(X)) for e in (few, many)]
        epochs = many - few
        add(name, found / epochs, (walls[1] - walls[0]) / epochs)
    for likelihood in ("gaussian", "laplace"):
        fitted = model(3, likelihood=likelihood).fit(wide)
        fitted.score_samples(wide[:100])
        wall = seconds(lambda f=fitted: f.score_samples(wide))
        name = f"score_samples of 20,000 x 50 rows, {likelihood}"
        add(name, counts(lambda f=fitted: f.score_samples(wide)), wall)
    return ["", *COUNTED, "GPU busy, ms", "wall, ms"], rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the page")
    out = parser.parse_args().out
    TABLES = {
        "Steps": (
            """
Batches of 256. S: 1,792 x 64, hidden (64,), 8 components. W: 200,000 x 32, hidden (64,),
8 components. M: 60,000 x 784, hidden (512, 256), 32 components. The score is that of a
short training with the same random_state, on 2,000 training rows, in nats. It shows the
loss of accuracy with a lower precision.
""",
            speeds,
        ),
        "Searches": ("On S, for 10 epochs; wall time.", searches),
        "What the GPU is asked": (
            """
Counts and busy time by torch's profiler, wall time without it. The counts of an epoch are
the difference of a longer and a shorter training. A busy GPU time far below the wall time
means that the GPU waits for the host.
""",
            profiles,
        ),
    }
    done = []
    for heading, (note, table) in TABLES.items():
        done.append((heading, note, *table()))
        # After each table, because a lent GPU may be taken back.
        write_page(
            out / "gpu.rst",
            "On a GPU",
            "python benchmarks/gpu.py",
            f"One {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}.",
            done,
        )
