"""Meta-estimators of scikit-learn: columns, unions and targets."""

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder

QUICK = {"max_iter": 3, "learning_rate_init": 0.01, "random_state": 0}


def test_column_transformer(X):
    """Each model gets its columns, and its names keep the prefix of its step."""
    frame = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(len(X)) + 7)
    frame["town"] = np.where(X[:, 0] > 0, "Bern", "Basel")
    vae, laplace = VariationalAutoencoder(2, **QUICK), LaplaceAutoencoder(1, **QUICK)
    transformer = ColumnTransformer(
        [
            ("first", vae, ["c", "a", "b"]),
            ("town", OneHotEncoder(sparse_output=False), ["town"]),
            ("last", laplace, ["d", "e"]),
        ],
        remainder="passthrough",
    ).set_output(transform="pandas")
    found = transformer.fit_transform(frame)
    assert found.columns.tolist() == [
        "first__variationalautoencoder0",
        "first__variationalautoencoder1",
        "town__town_Basel",
        "town__town_Bern",
        "last__laplaceautoencoder0",
        "remainder__f",
    ]
    assert found.index.equals(frame.index)
    first = clone(vae).fit(X[:, [2, 0, 1]]).transform(X[:, [2, 0, 1]])
    last = clone(laplace).fit(X[:, [3, 4]]).transform(X[:, [3, 4]])
    np.testing.assert_array_equal(found.iloc[:, :2], first)
    np.testing.assert_array_equal(found.iloc[:, 4:5], last)


def test_feature_union(X):
    vae = VariationalAutoencoder(2, **QUICK)
    union = FeatureUnion([("vae", vae), ("pca", PCA(3))], transformer_weights={"vae": 10})
    found = union.fit(X).transform(X)
    np.testing.assert_allclose(found[:, :2], 10 * clone(vae).fit(X).transform(X), rtol=1e-6)
    np.testing.assert_allclose(found[:, 2:], PCA(3).fit_transform(X))
    assert union.get_feature_names_out().tolist() == [
        *("vae__variationalautoencoder0", "vae__variationalautoencoder1"),
        *(f"pca__pca{i}" for i in range(3)),
    ]


def test_transformed_target_regressor(X):
    """An autoencoder of the targets: the prediction is decoded from predicted codes."""
    targets, inputs = X[:, :4], X[:, 4:]
    coder = GaussianAutoencoder(2, **QUICK)
    # Predictions are not exactly codes, so the inverse is not that of each target.
    model = TransformedTargetRegressor(
        LinearRegression(), transformer=coder, check_inverse=False
    ).fit(inputs, targets)
    codes = clone(coder).fit(targets)
    by_hand = LinearRegression().fit(inputs, codes.transform(targets))
    expected = codes.inverse_transform(by_hand.predict(inputs))
    np.testing.assert_array_equal(model.predict(inputs), expected)
    # Around a regression on codes of X, which is the usual place of an autoencoder.
    pipeline = make_pipeline(StandardScaler(), coder, LinearRegression())
    logarithm = TransformedTargetRegressor(pipeline, func=np.log1p, inverse_func=np.expm1)
    y = np.abs(X[:, 0])
    found = logarithm.fit(X, y).predict(X)
    expected = np.expm1(clone(pipeline).fit(X, np.log1p(y)).predict(X))
    np.testing.assert_array_equal(found, expected)
