"""Compare learning rates of the weights between hidden layers.

``python benchmarks/step_sizes.py`` takes about two minutes.
"""

import math
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
from data import load
from report import write

sys.path.append(str(Path(__file__).parent / "training"))

from workloads import draw

from skae import VariationalAutoencoder

warnings.simplefilter("ignore")
# Number of inputs up to which these weights have the whole learning rate.
LIMITS = [math.inf, 16, 8, 4, 2]
WIDTHS = [(64, 64), (128, 64), (128, 128, 128)]
# Data, hidden layers, max_iter, seeds.
CASES = [
    (name, widths, 100, 3)
    for name in ("wine", "breast_cancer", "digits, 47 columns")
    for widths in WIDTHS
]
CASES += [
    ("drawn, 20,000 x 64", (128, 64), 15, 1),
    ("drawn, 20,000 x 256", (256, 128), 10, 1),
    ("drawn, 20,000 x 784", (512, 256), 10, 1),
]


def parts(name):
    """Return training and test part in float32."""
    if not name.startswith("drawn"):
        return [part.astype(np.float32) for part in load(name)]
    X = draw(22_000, int(name.split()[-1]))
    return X[:20_000], X[20_000:]


rows = []
for name, widths, max_iter, seeds in CASES:
    train, test = parts(name)
    scores = []
    for limit in LIMITS:
        with patch("skae._optim.learning_rate._FEW_INPUTS", limit):
            found = [
                VariationalAutoencoder(
                    5 if seeds > 1 else 16,
                    hidden_layer_sizes=widths,
                    max_iter=max_iter,
                    random_state=seed,
                )
                .fit(train)
                .score(test)
                for seed in range(seeds)
            ]
        scores.append(f"{np.mean(found):.2f}")
    rows.append([name, widths, max_iter, *scores])
    print(rows[-1], flush=True)

write(
    "step_sizes",
    "Steps of the weights between hidden layers",
    "python benchmarks/step_sizes.py",
    """
Held-out ELBO, in nats per sample, of networks with several hidden layers. The weights from
a hidden layer of h units to the next one have w/h of the learning rate if h is above w.
With "all" they have the whole rate. The default is w = 2. All other parameters have their
defaults. The bundled sets have 5 components and means over 3 seeds, the drawn sets 16
components and one seed. See :doc:`../guide/training`.
""",
    ["data", "hidden layers", "max_iter", "all", *(f"w = {w}" for w in LIMITS[1:])],
    rows,
)
