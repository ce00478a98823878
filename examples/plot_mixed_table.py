"""
Model a table with flags, categories and counts
===============================================

A table of 2,000 made-up customers has numbers, an amount, a count, a flag and a category.
One model has a likelihood for each column, and its samples are rows of the same table.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skae import VariationalAutoencoder
from skae.likelihoods import Mixed

rng = np.random.default_rng(0)
wealth, age = rng.normal(size=2000), rng.uniform(20, 80, size=2000)
is_retired = age + 5 * rng.normal(size=2000) > 65
customers = pd.DataFrame(
    {
        "age": age.round(1),
        "income": np.exp(
            10 + 0.5 * wealth - 0.4 * is_retired + 0.2 * rng.normal(size=2000)
        ),
        "visits": rng.poisson(np.exp(1.2 + 0.5 * wealth) * rng.gamma(2, 0.5, size=2000)),
        "retired": is_retired,
        "city": rng.choice(["Lyon", "Nice", "Paris"], size=2000),
    }
)
customers.loc[(wealth > 0.8) & (rng.random(2000) < 0.7), "city"] = "Paris"

# %%
# ``likelihood="mixed"`` would choose by dtypes and values. Here the amount is told to be
# log-normal, and the other columns are chosen.

mixed = Mixed([("income", "log_normal"), (["age", "visits", "retired", "city"], "auto")])
model = VariationalAutoencoder(
    3, likelihood=mixed, variance_mode="auto", max_iter=200, random_state=0
).fit(customers)
print(model.likelihood_)

# %%
# Samples are rows of such a table. Their columns have the distributions of the data, and
# depend on each other as in the data.

samples = model.sample(2000, random_state=0)
print(samples.head())

tables = {"data": customers, "samples": samples}
figure, axes = plt.subplots(2, 3, layout="constrained", figsize=(9, 5))
options = {"alpha": 0.6, "density": True}
for name, table in tables.items():
    axes[0, 0].hist(table["age"], bins=np.arange(0, 105, 5), label=name, **options)
    axes[0, 1].hist(np.log10(table["income"]), bins=25, **options)
    axes[0, 2].hist(table["visits"].clip(upper=20), bins=np.arange(22) - 0.5, **options)
    axes[1, 0].hist(table["age"][table["retired"]], bins=np.arange(0, 105, 5), **options)
titles = ["age", "log10 of income", "visits, up to 20", "age of the retired"]
for ax, title in zip(axes.flat, titles, strict=False):
    ax.set_title(title)
axes[0, 0].legend()
limit = customers["income"].quantile(0.75)
for ax, rows in ((axes[1, 1], "all incomes"), (axes[1, 2], "upper quarter of incomes")):
    shares = {}
    for name, table in tables.items():
        chosen = table if rows == "all incomes" else table[table["income"] > limit]
        shares[name] = chosen["city"].value_counts(normalize=True)
    title = f"city, {rows}"
    pd.DataFrame(shares).plot.bar(ax=ax, rot=0, legend=False, title=title, xlabel="")

# %%
# The score of a row is the sum of the parts of its columns, less the KL. A row with a
# strange value shows where.

strange = customers.iloc[:1].assign(age=22.0, retired=True, visits=90)
parts = model.score_features(strange).iloc[0] - model.score_features(customers).mean()
print(parts.round(1))

# %%
# What is missing is filled by what the other columns say.

holes = customers.iloc[:5].copy()
holes["retired"] = holes["retired"].astype("boolean")
holes.loc[[0, 1], "retired"] = pd.NA
holes.loc[2, "city"] = None
print(model.impute(holes))
