"""Load the bundled data sets of the quality benchmarks, split 80/20."""

import numpy as np
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

# Name -> number of components.
N_COMPONENTS = {
    "iris": 2,
    "wine": 5,
    "breast_cancer": 8,
    "diabetes": 5,
    "digits, 47 columns": 16,
    "digits, dequantised": 16,
    "digits, one scale": 8,
    "wine, raw": 5,
    "breast_cancer, raw": 5,
}
_LOADERS = {
    "iris": load_iris,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "diabetes": load_diabetes,
}


def load(name, split=0):
    """Return training and test part, standardised by training statistics unless raw."""
    if name.startswith("digits"):
        X = load_digits().data / 16
        if name.endswith("dequantised"):
            X = (load_digits().data + np.random.RandomState(0).uniform(size=X.shape)) / 17
    else:
        X = _LOADERS[name.removesuffix(", raw")]().data
    train, test = train_test_split(X, test_size=0.2, random_state=split)
    if name.endswith("raw"):
        return train, test
    if name.endswith("47 columns"):
        varying = train.var(axis=0) > 0.01
        train, test = train[:, varying], test[:, varying]
    if name.endswith("one scale"):
        varying = train.var(axis=0) > 0.01
        mean, scale = train[:, varying].mean(axis=0), train[:, varying].std()
        return (train[:, varying] - mean) / scale, (test[:, varying] - mean) / scale
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)
