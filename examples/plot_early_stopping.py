"""
Early stopping
==============

A network that is too large for its data overfits: the training loss still falls, but the
score of new data does not improve. ``early_stopping=True`` sets data aside and keeps the
parameters with the best score on them. :class:`~skae.inspection.ScaleProfileDisplay` shows
another effect of overfitting: the fitted scale is too small for new data.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import VariationalAutoencoder
from skae.inspection import LossCurveDisplay, ScaleProfileDisplay

X, X_test = train_test_split(load_digits().data / 16, train_size=500, random_state=0)
X_train, X_val = train_test_split(X, test_size=100, random_state=0)
common = {
    "likelihood": "laplace",
    "hidden_layer_sizes": (128,),
    "max_iter": 100,
    "alpha": 0.0,
    "random_state": 0,
}
models = {
    "to the end": VariationalAutoencoder(8, **common),
    "stopped": VariationalAutoencoder(8, early_stopping=True, **common),
}

# %%
# ``X_val`` is the validation data. Without ``early_stopping`` the fit only records its
# score; with ``early_stopping`` the score decides when training ends.

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for name, model in models.items():
    model.fit(X_train, X_val=X_val)
    LossCurveDisplay.from_estimator(model, name=name, ax=ax)
    print(
        f"{name}: {model.n_iter_} epochs, train {model.score(X_train):.2f}, "
        f"test {model.score(X_test):.2f} nats"
    )
plt.show()

# %%
# The score as a function of the scale. All other parameters have their fitted values.

figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
for ax, (name, model) in zip(axes, models.items(), strict=True):
    for data, colour, title in ((X_train, "C0", "train"), (X_test, "C1", "test")):
        display = ScaleProfileDisplay.from_estimator(
            model, data, span=3, ax=ax, name=title, line_kwargs={"color": colour}
        )
    print(f"{name}: the scale should be {display.best_factor:.2f} times as large")
    ax.set_title(name)
plt.show()
