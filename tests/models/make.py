"""Write models of this version, which all later versions are to open, and their results.

    python -m tests.models.make

Each release has three files here: ``skae-<version>.skops``, ``skae-<version>.pickle`` and
``skae-<version>.npz`` with what the methods of the models return for :func:`tables`.
"""

import argparse
import pickle
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import skae
from skae.likelihoods import Mixed, StudentTLikelihood
from skae.persistence import save

FOLDER = Path(__file__).parent
# Methods whose results are kept, of those models that have them.
METHODS = ("transform", "score_samples", "reconstruct", "impute", "log_marginal")


def tables():
    """Return the data of each model by name, ``(30, d)``; the same for all versions."""
    # A formula, because numpy may draw other numbers in a later version.
    i, j = np.arange(30.0)[:, None], np.arange(4)
    X = np.sin(i * (1 + j)) + 0.3 * np.cos(7 * i + j)
    mixed = np.column_stack([X[:, 0], i % 2])
    mixed[::5, 0] = np.nan
    return {"real": X, "mixed": mixed}


def models():
    """Return an unfitted model for each table."""
    options = {"max_iter": 2, "random_state": 0, "hidden_layer_sizes": (3,)}
    vae = skae.VariationalAutoencoder
    likelihood = Mixed([(0, StudentTLikelihood("learned")), (1, "bernoulli")])
    return {
        "real": vae(1, prior=GaussianMixture(2), **options),
        "mixed": vae(1, likelihood=likelihood, **options),
    }


def results(fitted):
    """Return the results of fitted models as arrays, by the names of model and method."""
    return {
        f"{name}.{method}": np.asarray(getattr(fitted[name], method)(X), dtype=np.float64)
        for name, X in tables().items()
        for method in METHODS
        if hasattr(fitted[name], method)
    }


def main():
    """Fit the models, and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write")
    folder = parser.parse_args().folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # about so short trainings
        fitted = {name: model.fit(tables()[name]) for name, model in models().items()}
    stem = folder / f"skae-{skae.__version__}"
    save(fitted, f"{stem}.skops")
    Path(f"{stem}.pickle").write_bytes(pickle.dumps(fitted, protocol=5))
    np.savez_compressed(f"{stem}.npz", **results(fitted))


if __name__ == "__main__":
    main()
