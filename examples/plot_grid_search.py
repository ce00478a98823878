"""
Pipeline and GridSearchCV
=========================

The estimators work like those of scikit-learn: here one is the last step of a ``Pipeline``.
A ``GridSearchCV`` compares likelihoods, variance modes and values of ``beta`` by the
held-out ELBO, which has the same meaning for all of them.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from skae.inspection import LatentSpaceDisplay

wine = load_wine()
X_train, X_test, _, y_test = train_test_split(wine.data, wine.target, random_state=0)
search = GridSearchCV(
    make_pipeline(StandardScaler(), VariationalAutoencoder(4, max_iter=25, random_state=0)),
    {
        "variationalautoencoder__likelihood": ["gaussian", "laplace"],
        "variationalautoencoder__variance_mode": ["optimal", "predicted"],
        "variationalautoencoder__beta": [0.5, 1.0, 2.0],
    },
    cv=3,
).fit(X_train)

# %%
# The score of every candidate: mean and standard deviation over the folds.

results = search.cv_results_
order = np.argsort(results["mean_test_score"])
labels = [", ".join(str(value) for value in results["params"][i].values()) for i in order]
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.errorbar(
    results["mean_test_score"][order],
    range(len(order)),
    xerr=results["std_test_score"][order],
    fmt="o",
)
ax.set_yticks(range(len(order)), labels)
ax.set_xlabel("cross-validated ELBO (nats per sample)")
plt.show()

# %%
# The best candidate against PCA and factor analysis. All scores are log-densities of the
# standardised data in nats; the ELBO is a lower bound on a log-density.

print("best:", search.best_params_)
print(f"ELBO            {search.score(X_test):8.2f}")
for model in (PCA(4), FactorAnalysis(4)):
    pipeline = make_pipeline(StandardScaler(), model).fit(X_train)
    print(f"{type(model).__name__:<15} {pipeline.score(X_test):8.2f}")

# %%
# The displays accept the whole search.

LatentSpaceDisplay.from_estimator(search, X_test, wine.target_names[y_test])
plt.show()
