"""Make the recipe of skae that the density benchmark shows, the same for all tables."""

from sklearn.mixture import GaussianMixture

from skae import VariationalAutoencoder


def make_recipe(n_features: int) -> VariationalAutoencoder:
    """Return the estimator for a table with this number of features."""
    return VariationalAutoencoder(
        n_components=max(2, round(0.6 * n_features)),
        likelihood="laplace",
        covariance_type="diag",
        variance_mode="predicted",
        hidden_layer_sizes=(256,),
        max_iter=300,
        prior=GaussianMixture(20),
        random_state=0,
    )
