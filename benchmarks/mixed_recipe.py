"""Compare the recipe for densities with smaller models, on tables of several kinds.

    python benchmarks/mixed_recipe.py    # some minutes

Writes docs/results/mixed_recipe.rst.
"""

import warnings

import numpy as np
import pandas as pd
import torch
from report import RESULTS, write_page
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import train_test_split

from skae import VariationalAutoencoder
from skae.recipes import make_density_estimator

torch.set_num_threads(1)
warnings.simplefilter("ignore")

SEEDS = range(3)
LARGER = {"hidden_layer_sizes": "auto", "alpha": "auto", "max_iter": "auto"}
SYSTEMS = {
    "2 components": lambda **mixed: VariationalAutoencoder(2, **mixed),
    "4 components": lambda **mixed: VariationalAutoencoder(4, **mixed),
    '4 components, prior="mixture"': lambda **mixed: VariationalAutoencoder(
        4, prior="mixture", **mixed
    ),
    '4 components, sizes and alpha "auto"': lambda **mixed: VariationalAutoencoder(
        4, **LARGER, **mixed
    ),
    "make_density_estimator": make_density_estimator,
}
TEXT = f"""
Which model is for the density, or for synthetic rows, of a table of several kinds of
columns. All have ``likelihood="mixed"``. *Customers* are 3,000 rows that the script draws:
ages, incomes, visits, balances, a flag and two categories, which depend on one number for
wealth. *Diabetes* has 442 rows of whole and real numbers and the sex; *wine* has 178 rows
of real numbers and the cultivar.

A cell has the mean over {len(SEEDS)} divisions of the rows, of which a quarter are for the
test: the score, and behind it ``log_marginal``, a tighter bound of the same quantity. Both
are in nats per row.
"""


def customers():
    """Draw a table of numbers, amounts, counts, flags and categories."""
    rng = np.random.default_rng(0)
    n, wealth = 3000, rng.normal(size=3000)
    return pd.DataFrame(
        {
            "age": 45 + 12 * rng.normal(size=n),
            "income": np.exp(10 + 0.5 * wealth + 0.2 * rng.normal(size=n)),
            "visits": rng.poisson(np.exp(1.5 + 0.7 * wealth)),
            "balance": 1000 * wealth + 500 * rng.standard_t(3, size=n),
            "owner": wealth + rng.normal(size=n) > 0,
            "city": np.where(wealth + rng.normal(size=n) > 1, "Paris", "Lyon"),
            "plan": rng.choice(["free", "basic", "pro"], size=n),
        }
    )


def diabetes():
    """Return the diabetes of scikit-learn in its own units."""
    frame = load_diabetes(as_frame=True, scaled=False).frame
    return frame.assign(sex=frame["sex"].map({1.0: "a", 2.0: "b"}))


def wine():
    """Return wine with its cultivar as a category."""
    data = load_wine(as_frame=True)
    return data.data.assign(cultivar=data.target.map(lambda k: f"cultivar {k}"))


def main():
    """Fit all models and write the page."""
    tables = {"customers": customers(), "diabetes": diabetes(), "wine": wine()}
    rows = []
    for system, make in SYSTEMS.items():
        cells = []
        for table in tables.values():
            found = []
            for seed in SEEDS:
                train, test = train_test_split(table, random_state=seed)
                model = make(likelihood="mixed", random_state=seed).fit(train)
                found.append((model.score(test), model.log_marginal(test).mean()))
            score, bound = np.mean(found, axis=0)
            cells.append(f"{score:.2f}, {bound:.2f}")
        rows.append([system, *cells])
        print(rows[-1], flush=True)
    tables = [("Score, log_marginal", "", ["model", *tables], rows)]
    command, path = "python benchmarks/mixed_recipe.py", RESULTS / "mixed_recipe.rst"
    write_page(path, "The recipe for tables of several kinds", command, TEXT, tables)


if __name__ == "__main__":
    main()
