"""Compare samples of a model with test rows: each category, and all columns together."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

N_FOLDS = 5


def total_variation(first: pd.Series, second: pd.Series) -> float:
    """Return half the sum of the absolute differences of relative frequencies."""
    shares = [values.astype(str).value_counts(normalize=True) for values in (first, second)]
    return float(shares[0].sub(shares[1], fill_value=0.0).abs().sum() / 2)


def mean_total_variation(
    sample: pd.DataFrame, test: pd.DataFrame, names: Sequence[str]
) -> float:
    """Return the mean distance of the columns with these names."""
    return float(np.mean([total_variation(sample[name], test[name]) for name in names]))


def two_sample_auc(sample: pd.DataFrame, test: pd.DataFrame, seed: int) -> float:
    """Return how well a classifier tells samples from test rows.

    It is the area under the ROC curve of gradient boosting by cross-validation, with as
    many samples as test rows. At 0.5 the classifier finds no difference.
    """
    n = min(len(sample), len(test))
    rows = pd.concat([sample[:n], test[:n]], ignore_index=True)
    labels = np.repeat([0, 1], n)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    model = HistGradientBoostingClassifier(
        max_iter=50, categorical_features="from_dtype", random_state=seed
    )
    scores = cross_val_predict(model, rows, labels, cv=folds, method="predict_proba")
    return float(roc_auc_score(labels, scores[:, 1]))
