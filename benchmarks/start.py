"""Compare the closed-form start with a random one by the held-out ELBO.

``python benchmarks/start.py`` takes about five minutes.
"""

import warnings

import torch
from data import N_COMPONENTS, load
from report import write

from skae import VariationalAutoencoder

torch.set_num_threads(1)
warnings.simplefilter("ignore")
EPOCHS = (1, 10, 40, 150)
rows = []
for name, k in N_COMPONENTS.items():
    train, test = load(name)
    for likelihood in ("gaussian", "laplace"):
        for covariance_type in ("spherical", "diag"):
            cells = []
            for max_iter in EPOCHS:
                scores = [
                    VariationalAutoencoder(
                        k,
                        likelihood=likelihood,
                        covariance_type=covariance_type,
                        init=init,
                        max_iter=max_iter,
                        n_iter_no_change=max_iter,
                        random_state=0,
                    )
                    .fit(train)
                    .score(test)
                    for init in ("random", "pca")
                ]
                mark = "" if scores[1] >= scores[0] else " (worse)"
                cells.append(f"{scores[0]:.2f} -> {scores[1]:.2f}{mark}")
            rows.append([name, likelihood, covariance_type, *cells])
            print(rows[-1], flush=True)

write(
    "start",
    "What the closed-form start brings",
    "python benchmarks/start.py",
    """
Held-out ELBO in nats per sample after a number of training epochs: random start -> start at
PCA (at factor analysis with a scale per feature). All other parameters have their defaults,
and each model has one seed. "worse" marks a closed-form start that ends below the random
one.
""",
    ["data", "likelihood", "covariance_type", *(f"{n} epochs" for n in EPOCHS)],
    rows,
)
