"""
Impute a table with missing values
==================================

A quarter of the entries of the wine table is hidden. The model learns from what is left,
and its likelihood is that of the observed entries.
"""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.impute import KNNImputer, SimpleImputer

from skae.impute import AutoencoderImputer
from skae.inspection import ImputationDisplay

wine = load_wine(as_frame=True)
complete = wine.data
hidden = np.random.default_rng(0).random(complete.shape) < 0.25
X = complete.mask(hidden)

# %%
# The imputer is a transformer, in the place of scikit-learn's. The error is that of the
# hidden entries, in standard deviations of their columns.

unit = complete.std()
imputer = AutoencoderImputer(random_state=0).set_output(transform="pandas").fit(X)
for each in (imputer, KNNImputer(), SimpleImputer()):
    filled = each.set_output(transform="pandas").fit_transform(X)
    error = ((filled - complete) / unit).to_numpy()[hidden]
    print(f"{type(each).__name__}: {np.sqrt(np.mean(error**2)):.2f}")

# %%
# Draws from the conditional distribution of the hidden entries look like the observed
# values. Their means vary less: a single imputation hides its own uncertainty.

model = imputer.estimator_
display = ImputationDisplay.from_estimator(model, X)

# %%
# Several draws show how sure the model is of each entry: here of proline and magnesium.
# Proline follows from the other columns better than magnesium does.

draws = model.impute(X, n_samples=50)
spread = draws.std(axis=0) / unit.to_numpy()
for name in ("proline", "magnesium"):
    column = list(X.columns).index(name)
    own = spread[hidden[:, column], column]
    print(f"{name}: {own.mean():.2f} standard deviations")

# %%
# An analysis of the filled table repeats for each draw, and pools the results by Rubin's
# rules: the mean of the estimates, and the sum of their mean variance and (1 + 1/m) times
# the variance among the m estimates. Here for the mean of magnesium.

m, n, _ = draws.shape
column = list(X.columns).index("magnesium")
estimates = draws[:, :, column].mean(axis=1)
within = (draws[:, :, column].var(axis=1, ddof=1) / n).mean()
between = estimates.var(ddof=1)
pooled = np.sqrt(within + (1 + 1 / m) * between)
print(f"{estimates.mean():.2f} +- {pooled:.2f}, as if all were observed {within**0.5:.2f}")
