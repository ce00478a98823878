"""
A whole grid search in one training
===================================

A search over ``beta`` and ``variance_mode`` fits dozens of small models. In the context of
the joblib backend ``"skae"``, scikit-learn's ``GridSearchCV`` trains them side by side:
those of one variance mode, all betas and folds, are one training over a leading axis.
"""

import time

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV

X = load_digits().data[::3] / 16
X = X[:, X.var(axis=0) > 0.01]
vae = VariationalAutoencoder(8, max_iter=10, random_state=0)
betas = [0.125, 0.25, 0.5, 1.0, 2.0]
modes = ["fixed", "optimal", "profile", "learned", "predicted"]
grid = {"beta": betas, "variance_mode": modes, "scale": [0.2]}
start = time.perf_counter()
with joblib.parallel_config("skae"):
    search = GridSearchCV(vae, grid, cv=3).fit(X)
seconds = time.perf_counter() - start
print(f"{len(betas) * len(modes)} candidates, 3 folds: {seconds:.1f} s")

# %%
# Every candidate. The score is the unweighted ELBO, whatever beta it was trained with, so
# the rows may be compared.

scores = search.cv_results_["mean_test_score"].reshape(len(betas), len(modes))
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
image = ax.imshow(scores, cmap="viridis", aspect="auto")
for (i, j), score in np.ndenumerate(scores):
    dark = score < (scores.min() + scores.max()) / 2
    ax.text(j, i, f"{score:.1f}", ha="center", va="center", color="w" if dark else "k")
ax.set_xticks(range(len(modes)), modes)
ax.set_yticks(range(len(betas)), [f"{beta:g}" for beta in betas])
ax.set_xlabel("variance_mode")
ax.set_ylabel("beta")
figure.colorbar(image, label="cross-validated ELBO (nats per sample)")
plt.show()

# %%
# The best one, fitted to all data, as in any search.

print("best:", search.best_params_)

# %%
# :class:`~skae.model_selection.BatchedGridSearchCV` activates the backend itself. Without
# the backend, the models are trained one after the other. A part of the search in both ways
# has the same scores.

part = {**grid, "variance_mode": ["learned"]}
expected = scores[:, modes.index("learned")]
for kind in (BatchedGridSearchCV, GridSearchCV):
    found = kind(vae, part, cv=3, refit=False).fit(X).cv_results_["mean_test_score"]
    print(f"{kind.__name__}: largest difference {abs(found - expected).max():.4f} nats")
