"""Train scikit-learn's MLPRegressor from X to X, a deterministic autoencoder."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from worker import Coder, Plan, serve


def fit(X: np.ndarray, plan: Plan) -> Coder:
    """Train the model of a plan."""
    model = MLPRegressor(
        hidden_layer_sizes=(*plan.hidden, plan.k, *reversed(plan.hidden)),
        batch_size=plan.batch,
        learning_rate_init=plan.learning_rate,
        max_iter=plan.epochs,
        tol=0.0,
        n_iter_no_change=plan.epochs,
        random_state=plan.seed,
    )
    with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):
        model.fit(X, X)
    if model.n_iter_ != plan.epochs:
        raise RuntimeError(f"{model.n_iter_} epochs in place of {plan.epochs}")
    return Coder(
        lambda X: (X, None),
        model.predict,
        sum(w.size for w in [*model.coefs_, *model.intercepts_]),
        plan.epochs * -(-len(X) // plan.batch),
    )


if __name__ == "__main__":
    serve(fit, "scikit-learn")
