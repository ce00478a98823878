"""Compare synthetic rows with real ones: can a classifier tell them apart?

``python benchmarks/synthetic.py`` takes about three minutes.
"""

import warnings

import numpy as np
import torch
from report import write
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from skae.likelihoods import Mixed
from skae.recipes import make_density_estimator

torch.set_num_threads(1)
warnings.simplefilter("ignore")
N_SPLITS = 3
SETS = {"breast_cancer": (load_breast_cancer, 8), "wine": (load_wine, 5)}
PREDICTED = {"variance_mode": "predicted", "covariance_type": "diag"}


def models(k, seed, is_positive):
    """Yield name, model, and whether it is of standardised data."""
    mixture = GaussianMixture(5, random_state=seed)
    settings = {
        "default": {},
        "predicted, diag": PREDICTED,
        "predicted, diag, prior GaussianMixture(5)": {**PREDICTED, "prior": mixture},
        'predicted, diag, prior "mixture"': {**PREDICTED, "prior": "mixture"},
    }
    for name, parameters in settings.items():
        yield name, VariationalAutoencoder(k, random_state=seed, **parameters), True
    likelihood = Mixed([(is_positive, "log_normal")])
    if not is_positive.all():
        likelihood = Mixed([(is_positive, "log_normal"), (~is_positive, "gaussian")])
    parameters = {**PREDICTED, "prior": "mixture", "likelihood": likelihood}
    vae = VariationalAutoencoder(k, random_state=seed, **parameters)
    yield 'the same, "log_normal" for positive columns', vae, False
    yield "make_density_estimator()", make_density_estimator(random_state=seed), True
    yield "GaussianMixture(5)", GaussianMixture(5, reg_covar=1e-3, random_state=seed), True


def told_apart(real, drawn, seed):
    """Return the area under the ROC curve of a forest, by 5-fold cross-validation."""
    X = np.vstack([real, drawn])
    is_drawn = np.repeat([0, 1], [len(real), len(drawn)])
    forest = RandomForestClassifier(random_state=seed)
    found = cross_val_predict(forest, X, is_drawn, cv=5, method="predict_proba")[:, 1]
    return roc_auc_score(is_drawn, found)


def measure(load, k):
    """Return areas and shares of rows with a negative number, by the name of a model."""
    X = load().data
    results = {}
    for seed in range(N_SPLITS):
        train, test = train_test_split(X, test_size=0.3, random_state=seed)
        scaler = StandardScaler().fit(train)
        for name, model, is_scaled in models(k, seed, (X > 0).all(axis=0)):
            model.fit(scaler.transform(train) if is_scaled else train)
            if isinstance(model, GaussianMixture):
                drawn = np.random.default_rng(seed).permutation(model.sample(len(test))[0])
            else:
                drawn = np.asarray(model.sample(len(test), random_state=seed), dtype=float)
            drawn = scaler.inverse_transform(drawn) if is_scaled else drawn
            negative = (drawn < 0).any(axis=1).mean()
            results.setdefault(name, []).append((told_apart(test, drawn, seed), negative))
            print(name, results[name][-1], flush=True)
    return results


found = {name: measure(*arguments) for name, arguments in SETS.items()}
rows = []
for name in found["wine"]:
    cells = []
    for results in found.values():
        area, negative = np.mean(results[name], axis=0)
        cells += [f"{area:.3f}", f"{negative:.0%}"]
    rows.append([name, *cells])
write(
    "synthetic",
    "Synthetic rows",
    "python benchmarks/synthetic.py",
    f"""
Rows that ``sample`` draws, beside as many rows that no fit has seen. AUC is the area under
the ROC curve of a random forest that tells them apart, by 5-fold cross-validation: 0.5 is
chance, and 1 is certainty. "negative" is the share of drawn rows with a negative number;
the tables have none. Means of {N_SPLITS} random splits of 70 % and 30 %. Models of 8
components for breast_cancer and 5 for wine, of standardised columns, except for the one
with "log_normal", whose columns that may be 0 are "gaussian".
""",
    ["model", *(f"{s}, {c}" for s in SETS for c in ("AUC", "negative"))],
    rows,
)
