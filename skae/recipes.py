"""Estimators whose parameters are chosen for a task.

A recipe returns an ordinary estimator. All parameters are visible in its repr, and can be
set and searched.
"""

from typing import Any

from skae.estimators.variational import VariationalAutoencoder
from skae.likelihoods import LIKELIHOODS, Likelihood, make_likelihood
from skae.scales import fits

__all__ = [
    "make_density_estimator",
    "make_imputation_estimator",
    "make_outlier_estimator",
]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)


# Chosen on the tables of docs/results/recipes.rst, none of which docs/results/density.rst
# reports.
_DENSITY = {
    "n_components": "auto",
    "likelihood": "mixture",
    "variance_mode": "predicted",
    "covariance_type": "diag",
    "hidden_layer_sizes": "auto",
    "alpha": "auto",
    "max_iter": "auto",
    "n_iter_no_change": 50,
    "prior": "mixture",
}

# Means of a density whose scale is a function of the code may lie far outside of the data.
# One scale for each feature had about the same errors on tables without outliers, and much
# smaller ones with outliers; none of these tables is in docs/results/imputation.rst.
_IMPUTATION = {**_DENSITY, "variance_mode": "learned"}

# Chosen on tables that docs/results/outliers.rst does not report.
_OUTLIERS = {
    "n_components": 2,
    "likelihood": "logistic",
    "variance_mode": "learned",
    "covariance_type": "diag",
}


def make_density_estimator(**parameters: Any) -> VariationalAutoencoder:
    """Make a variational autoencoder that estimates the density of a table.

    The likelihood of a feature is a mixture of three logistic densities, whose shape, scale
    and location are functions of the code. A mixture of normal densities is the prior of
    the codes. Sizes, penalty and length of the training follow from the data.
    It is meant for about 150 rows or more. With fewer, a linear model may be better: on 89
    rows of wine, factor analysis was ahead by 1 to 2 nats, and on 133 rows by 0.1 or behind
    by 1.2, by the division. It is ``VariationalAutoencoder(3, covariance_type="diag",
    hidden_layer_sizes=())``.
    Features are expected to be continuous. For a table with counts, flags or categories,
    pass ``likelihood="mixed"``: each column then has a likelihood of its own, and the other
    settings stay.

    Parameters
    ----------
    **parameters : dict
        Parameters of `VariationalAutoencoder` that replace those of the recipe.

    Returns
    -------
    VariationalAutoencoder
        The estimator, not fitted. Its `score` is the evidence lower bound, in nats. It may
        be several nats below the importance-weighted bound of `log_marginal`, which is
        closer to log p(x). On held-out rows of wine and breast_cancer, it was 2 and 5
        nats lower. So compare with other models by `log_marginal`, and search with
        :data:`skae.model_selection.log_marginal_scorer`.

    Raises
    ------
    TypeError
        If `VariationalAutoencoder` has no such parameter.

    See Also
    --------
    sklearn.mixture.GaussianMixture : A mixture of normal densities of the data.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.mixture import GaussianMixture
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.preprocessing import scale
    >>> from skae.recipes import make_density_estimator
    >>> X, X_test = train_test_split(scale(load_wine().data), random_state=0)
    >>> vae = make_density_estimator(random_state=0).fit(X)
    >>> bound = vae.log_marginal(X_test).mean()
    >>> bool(bound > GaussianMixture().fit(X).score(X_test))
    True
    >>> bool(bound > vae.score(X_test) + 1)
    True
    """
    return _make(_DENSITY, parameters)


def make_imputation_estimator(**parameters: Any) -> VariationalAutoencoder:
    """Make a variational autoencoder that fills the missing values of a table.

    It is that of :func:`make_density_estimator`, except that each feature has one scale
    (``variance_mode="learned"``). The conditional means of such a density are more robust
    to outliers.

    Parameters
    ----------
    **parameters : dict
        Parameters of `VariationalAutoencoder` that replace those of the recipe.

    Returns
    -------
    VariationalAutoencoder
        The estimator, not fitted.

    Raises
    ------
    TypeError
        If `VariationalAutoencoder` has no such parameter.

    See Also
    --------
    skae.impute.AutoencoderImputer : A transformer, by this recipe or any estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skae.recipes import make_imputation_estimator
    >>> X = load_iris().data
    >>> X[::3, 2] = np.nan
    >>> vae = make_imputation_estimator(random_state=0).fit(X)
    >>> error = np.abs(vae.impute(X) - load_iris().data)[::3, 2].mean()
    >>> bool(error < 0.5)
    True
    """
    return _make(_IMPUTATION, parameters)


def make_outlier_estimator(**parameters: Any) -> VariationalAutoencoder:
    """Make a variational autoencoder whose score is low for outliers.

    A model with two components fits few of the outliers among its training data. A
    logistic likelihood, with one scale for each feature, limits the influence of a large
    residual. The result of `score_samples` has the order of
    :class:`sklearn.ensemble.IsolationForest`: the lower, the more abnormal.
    Rows of usual values in a wrong combination may need more components. A search over
    `n_components` by the `score` of held-out rows says how many.

    Parameters
    ----------
    **parameters : dict
        Parameters of `VariationalAutoencoder` that replace those of the recipe.

    Returns
    -------
    VariationalAutoencoder
        The estimator, not fitted.

    Raises
    ------
    TypeError
        If `VariationalAutoencoder` has no such parameter.

    See Also
    --------
    skae.outlier.LikelihoodOutlierDetector : Predictions, by this recipe or any estimator.
    sklearn.ensemble.IsolationForest : A detector that isolates rows by random splits.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from skae.recipes import make_outlier_estimator
    >>> X = np.vstack([load_wine().data, load_wine().data.max(axis=0)])
    >>> vae = make_outlier_estimator(random_state=0).fit(X)
    >>> int(np.argmin(vae.score_samples(X)))
    178
    """
    return _make(_OUTLIERS, parameters)


def _make(recipe: dict[str, Any], parameters: dict[str, Any]) -> VariationalAutoencoder:
    """Make an estimator by a recipe, with some parameters replaced.

    A likelihood that the variance mode of the recipe does not fit has "auto".
    """
    chosen = {**recipe, **parameters}
    likelihood, mode = chosen["likelihood"], chosen["variance_mode"]
    if isinstance(likelihood, str) and likelihood in LIKELIHOODS:
        likelihood = make_likelihood(likelihood)
    is_known = isinstance(likelihood, Likelihood)  # else fit refuses it
    if is_known and "variance_mode" not in parameters and not fits(mode, likelihood):
        chosen["variance_mode"] = "auto"
    return VariationalAutoencoder(**chosen)


def parameter_advice(recipe: str) -> dict[str, str]:
    """Return how a class with the parameter `estimator` takes those of its estimator.

    Parameters
    ----------
    recipe : str
        Name of the recipe that makes the estimator by default.

    Returns
    -------
    dict of str
        The advice by the name of a parameter of `VariationalAutoencoder`.
    """
    return {
        name: f"Pass estimator=skae.recipes.{recipe}({name}=...)."
        for name in VariationalAutoencoder._get_param_names()
    }


def advice_on_estimator(recipe: str, value: Any) -> str:
    """Return what to pass for a string that is no estimator.

    Parameters
    ----------
    recipe : str
        Name of the recipe that makes the estimator by default.
    value : object
        The parameter `estimator` of a class.

    Returns
    -------
    str
        The advice; "" for what is no string.
    """
    if not isinstance(value, str):
        return ""
    argument = f"likelihood={value!r}" if value in LIKELIHOODS else "..."
    return f"Pass an object, such as estimator=skae.recipes.{recipe}({argument})."
