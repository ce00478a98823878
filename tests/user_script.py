"""A script of a user, whose types `mypy --strict` checks; it is no test to run.

Every comment that ignores an error is needed: mypy reports those that are not.
"""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import skae
from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.impute import AutoencoderImputer
from skae.inspection import LossCurveDisplay
from skae.likelihoods import StudentTLikelihood
from skae.model_selection import BatchedGridSearchCV
from skae.networks import MLP
from skae.objectives import LinearSchedule
from skae.outlier import LikelihoodOutlierDetector
from skae.recipes import make_density_estimator

X = np.random.default_rng(0).normal(size=(100, 4))

model = VariationalAutoencoder(
    n_components=2,
    likelihood=StudentTLikelihood(df="learned"),
    network=MLP((16,)),
    kl_schedule=LinearSchedule(),
    random_state=0,
)
assert_type(model.fit(X, sample_weight=np.ones(100), X_val=X), VariationalAutoencoder)
score: float = model.score(X)
n_epochs: int = model.n_iter_
curve: list[float] = list(model.loss_curve_)
codes: NDArray[Any] = model.transform(X)
rows: NDArray[Any] = model.inverse_transform(codes)
mean, spread = model.posterior(X)
drawn: NDArray[Any] = model.sample(5, random_state=0)
assert_type(GaussianAutoencoder().fit(X), GaussianAutoencoder)

search = BatchedGridSearchCV(VariationalAutoencoder(), {"beta": [0.5, 1.0]}, cv=2)
detector = LikelihoodOutlierDetector(make_density_estimator(), contamination=0.1)
assert_type(detector.fit(X), LikelihoodOutlierDetector)
assert_type(AutoencoderImputer().fit(X), AutoencoderImputer)
flags: NDArray[Any] = detector.predict(X)
LossCurveDisplay.from_estimator(model)
model.save("model.skops")
again = skae.load("model.skops")

VariationalAutoencoder(max_iter=1.5)  # type: ignore[arg-type]
VariationalAutoencoder(epochs=3)  # type: ignore[call-arg]
model.fit(X, weights=np.ones(100))  # type: ignore[call-arg]
model.score(X, X_val=X)  # type: ignore[call-arg]
