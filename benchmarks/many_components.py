"""Measure what more components cost or bring.

``python benchmarks/many_components.py`` takes half a minute.
"""

import warnings

from data import load
from report import RESULTS, write_page

from skae import VariationalAutoencoder

MODELS = (("gaussian", "optimal"), ("laplace", "predicted"))
N_DRAWS = 200
TABLES = ("digits, 47 columns", "breast_cancer", "wine")


def main() -> None:
    """Measure all tables and write the page."""
    warnings.simplefilter("ignore")
    rows = []
    for name in TABLES:
        train, test = load(name)
        d = train.shape[1]
        for likelihood, variance_mode in MODELS:
            cells = []
            for k in (d // 4, d // 2, d):
                model = VariationalAutoencoder(
                    k,
                    likelihood=likelihood,
                    variance_mode=variance_mode,
                    covariance_type="diag",
                    random_state=0,
                ).fit(train)
                found = (model.log_marginal(part, N_DRAWS).mean() for part in (train, test))
                cells += [f"{value:.2f}" for value in found]
            rows.append([f"{name}, {d}", f"{likelihood}, {variance_mode}", *cells])
            print(rows[-1], flush=True)
    header = ["data, features d", "model"]
    for k in ("d/4", "d/2", "d"):
        header += [f"k = {k}, training", f"k = {k}, test"]
    write_page(
        RESULTS / "many_components.rst",
        "As many components as features",
        "python benchmarks/many_components.py",
        f"""
The importance-weighted bound with {N_DRAWS} draws, in nats per row, of training rows and of
test rows, a fifth of all. Columns are standardised, and have a scale each. All other
parameters have their defaults. With k = d the start has half of the components
(:doc:`../guide/networks`).
""",
        [("Bounds", "", header, rows)],
    )


if __name__ == "__main__":
    main()
