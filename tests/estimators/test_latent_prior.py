"""Tests of a density of the codes in place of the standard normal."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from skae import VariationalAutoencoder
from tests.callbacks import Callback


class StandardNormal(BaseEstimator):
    """The default prior, as a density estimator."""

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return multivariate_normal(np.zeros(X.shape[1])).logpdf(X).reshape(-1)

    def sample(self, n_samples, random_state=None):
        return np.random.RandomState(random_state).standard_normal((n_samples, 2))


class Failing(StandardNormal):
    """A density that cannot be fitted."""

    def fit(self, X, y=None):
        raise ArithmeticError("the density cannot be fitted")


@pytest.fixture(scope="module")
def blobs():
    """Return training and test rows of four clusters on a plane in five dimensions."""
    Z, _ = make_blobs(600, centers=4, n_features=2, cluster_std=0.4, random_state=3)
    rng = np.random.RandomState(0)
    X = Z @ rng.standard_normal((2, 5)) + 0.3 * rng.standard_normal((600, 5))
    return X[:400], X[400:]


def vae(prior, **parameters):
    """Return a model of two components with a prior."""
    return VariationalAutoencoder(
        2, prior=prior, **{"max_iter": 20, "random_state": 0} | parameters
    )


def exact_marginal(model, X):
    """Return the log-density (nats) of a linear model, a mixture like its prior."""
    module = model.module_.double()
    decode = module.linear_decoder
    unit, mean = model._standardization.likelihood_unit, model._standardization.mean
    gain = (module.loc_gain.numpy() * unit)[:, None]
    W, b = gain * decode.weight.numpy(), gain[:, 0] * decode.bias.numpy() + mean
    prior = model.prior_
    terms = [
        np.log(weight)
        + multivariate_normal(
            W @ loc + b, W @ S @ W.T + model.scale_**2 * np.eye(len(b))
        ).logpdf(X)
        for weight, loc, S in zip(
            prior.weights_, prior.means_, prior.covariances_, strict=True
        )
    ]
    return logsumexp(terms, axis=0)


def test_standard_normal_prior_equals_the_default(blobs):
    """A standard normal prior gives the codes and bounds of `prior=None`."""
    X, X_test = blobs
    plain, same = vae(None).fit(X), vae(StandardNormal()).fit(X)
    assert plain.prior_ is None
    assert isinstance(same.prior_, StandardNormal)
    assert_array_equal(plain.transform(X), same.transform(X))
    assert_allclose(plain.score_samples(X_test), same.score_samples(X_test), atol=1e-9)
    assert_allclose(plain.log_marginal(X_test), same.log_marginal(X_test), atol=1e-9)


@pytest.mark.parametrize("n_components", [1, 4])
def test_bounds_of_a_linear_model_reach_the_exact_marginal(blobs, n_components):
    """The bound with many draws reaches the exact marginal, which is also a mixture."""
    X, X_test = blobs
    model = vae(GaussianMixture(n_components, random_state=0), hidden_layer_sizes=()).fit(X)
    exact = exact_marginal(model, X_test)
    bound = model.log_marginal(X_test, 4096)
    assert_allclose(bound, exact, atol=0.02)
    assert_allclose(bound.mean(), exact.mean(), atol=1e-3)
    elbo = model.score_samples(X_test)
    assert elbo.mean() < exact.mean()
    assert (elbo < exact + 0.05).all()


def test_mixture_prior_improves_scores_on_clusters(blobs):
    """On clusters, a mixture prior has better held-out scores than the default."""
    X, X_test = blobs
    plain, mixture = vae(None).fit(X), vae(GaussianMixture(4, random_state=0)).fit(X)
    assert mixture.score(X_test) > plain.score(X_test) + 0.5
    assert mixture.log_marginal(X_test).mean() > plain.log_marginal(X_test).mean() + 0.5
    # The prior is fitted after training, so both trainings are equal.
    assert_array_equal(plain.loss_curve_, mixture.loss_curve_)


@pytest.mark.parametrize(
    "prior",
    [
        GaussianMixture(4),
        GaussianMixture(4, covariance_type="diag", random_state=1),
        BayesianGaussianMixture(n_components=6, max_iter=300),
        KernelDensity(bandwidth=0.2),
    ],
)
def test_samples_come_from_the_prior(blobs, prior):
    """Samples have the data's mean, covariance and clusters, in random order."""
    X, _ = blobs
    model = vae(prior, hidden_layer_sizes=()).fit(X)
    samples = model.sample(1000, random_state=0)
    assert_array_equal(samples, model.sample(1000, random_state=0))
    assert not np.array_equal(samples, model.sample(1000, random_state=1))
    spread = X.std(axis=0)
    assert_allclose(samples.mean(axis=0), X.mean(axis=0), atol=0.1 * spread.max())
    assert_allclose(np.cov(samples.T), np.cov(X.T), atol=0.15 * spread.max() ** 2)
    # The default prior draws samples between the clusters, which have worse scores.
    plain = vae(None, hidden_layer_sizes=()).fit(X).sample(1000, random_state=0)
    assert model.score(samples[:100]) > model.score(plain[:100]) + 0.5
    # If the samples were sorted by component, the halves would differ.
    halves = samples[:500].mean(axis=0) - samples[500:].mean(axis=0)
    assert (np.abs(halves) < 0.15 * spread).all()


def test_clones_pickles_and_searches_with_a_prior(blobs):
    """Clones, pickles and searches handle the prior and its parameters."""
    X, X_test = blobs
    model = vae(GaussianMixture(2))
    search = GridSearchCV(model, {"prior__n_components": [1, 4]}, cv=3).fit(X)
    assert search.best_params_ == {"prior__n_components": 4}
    assert not hasattr(model.prior, "weights_")
    best = search.best_estimator_
    again = pickle.loads(pickle.dumps(best))
    assert_array_equal(best.score_samples(X_test), again.score_samples(X_test))
    assert_array_equal(best.sample(5, 0), again.sample(5, 0))
    refitted = clone(best).fit(X)
    assert_array_equal(best.score_samples(X_test), refitted.score_samples(X_test))


def test_integer_weight_equals_copies_of_a_row(blobs):
    """A fit with integer weights equals a fit with that many copies of each row."""
    X, X_test = blobs[0][:60], blobs[1]
    weight = np.random.RandomState(0).randint(0, 4, len(X))
    model = vae(GaussianMixture(3))
    weighted = clone(model).fit(X, sample_weight=weight)
    repeated = clone(model).fit(np.repeat(X, weight, axis=0))
    assert_allclose(
        weighted.score_samples(X_test), repeated.score_samples(X_test), rtol=1e-9
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_the_prior_is_fitted_to_draws_of_the_posteriors(weighted):
    """For probabilistic PCA the mean posterior is N(0, I); its means spread less.

    The covariance of the posterior means is I - s2 / l for eigenvalues l of the covariance
    of the data and noise variance s2, and each posterior has the covariance s2 / l.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5)) * [1.6, 1.4, 1.0, 1.0, 1.0]
    # Weights that move the mean of the data.
    weight = np.where(X[:, 0] > 0, 8.0, 1.0) if weighted else np.ones(400)
    # A fit with steps of next to nothing is at its start, which is probabilistic PCA.
    model = vae(
        GaussianMixture(1), hidden_layer_sizes=(), max_iter=1, learning_rate_init=1e-12
    ).fit(X, sample_weight=weight)
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T, aweights=weight, ddof=0))[::-1]
    means = np.cov(model.transform(X).T, aweights=weight, ddof=0)
    narrow = 1 - eigenvalues[2:].mean() / eigenvalues[:2]
    assert_allclose(np.linalg.eigvalsh(means), narrow[::-1], rtol=1e-4)
    assert narrow.max() < 0.8
    assert_allclose(model.prior_.means_[0], 0, atol=0.06)
    assert_allclose(model.prior_.covariances_[0], np.eye(2), atol=0.06)


def test_score_of_a_row_does_not_depend_on_other_rows(blobs):
    """The score of a single row equals its score among other rows."""
    X, X_test = blobs
    model = vae(GaussianMixture(4)).fit(X)
    together = model.score_samples(X_test)
    alone = [model.score_samples(row[None])[0] for row in X_test[:5]]
    assert_allclose(together[:5], alone, rtol=1e-9)


class NoEstimator:
    """A density that has the methods but cannot be cloned."""

    fit = score_samples = sample = StandardNormal.fit


def test_prior_that_cannot_be_cloned_is_refused_before_training(blobs, monkeypatch):
    """`fit` refuses such a prior before it calls `train`, which this test deletes."""
    monkeypatch.delattr("skae.estimators.base.train")
    with pytest.raises(TypeError, match="prior cannot be used: Cannot clone"):
        vae(NoEstimator()).fit(blobs[0])


def test_fit_warns_if_the_prior_cannot_sample(blobs):
    """`fit` warns of a prior that cannot sample, and the model samples without it."""
    with pytest.warns(ConvergenceWarning, match="NotImplementedError"):
        model = vae(KernelDensity(kernel="exponential")).fit(blobs[0])
    assert model.sample(2, random_state=0).shape == (2, 5)


@pytest.mark.filterwarnings("error")
def test_scores_of_extreme_rows(blobs):
    """Scores of far rows are finite; beyond the range of the dtype, its smallest number."""
    model = vae(GaussianMixture(4, random_state=0)).fit(blobs[0])
    far = blobs[1][:2] * 1e6
    assert np.isfinite(model.score_samples(far)).all()
    smallest = np.finfo(np.float64).min
    assert (model.score_samples(far * 1e194) == smallest).all()


def test_failure_of_the_prior_keeps_the_trained_model(blobs):
    """If the prior cannot be fitted, `fit` warns and uses the standard normal."""
    X, X_test = blobs
    with pytest.warns(ConvergenceWarning, match="the density cannot be fitted") as caught:
        model = vae(Failing()).fit(X)
    assert caught[0].filename == __file__
    assert model.prior_ is None
    assert_allclose(model.score(X_test), vae(None).fit(X).score(X_test))


@pytest.mark.parametrize(
    "prior",
    ["normal", 3, GaussianMixture, GaussianMixture(0), KernelDensity(bandwidth=-1)],
)
def test_bad_prior_is_refused(blobs, prior):
    """`fit` refuses priors that are no density or have bad parameters."""
    with pytest.raises((ValueError, TypeError), match=r"prior|Mixture|bandwidth"):
        vae(prior).fit(blobs[0])


def test_rows_that_overflow_have_scores(blobs):
    """Scores of rows near the largest float32 equal those without a prior."""
    far = np.full((2, 5), 3e38, dtype=np.float32)
    model = vae(GaussianMixture(4, random_state=0)).fit(blobs[0].astype(np.float32))
    plain = vae(None).fit(blobs[0].astype(np.float32))
    assert_array_equal(model.score_samples(far), plain.score_samples(far))


class PriorRecorder(Callback):
    """A callback that records the prior of the model in training."""

    def __init__(self):
        self.seen = []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            self.seen.append(fitted_estimator.prior_)
        return False


def test_snapshots_in_training_have_no_earlier_prior(blobs):
    """In a second fit, snapshots in training do not have the prior of the first fit."""
    recorder = PriorRecorder()
    model = vae(GaussianMixture(2), max_iter=2).fit(blobs[0])
    model.set_callbacks(recorder).fit(blobs[0])
    assert recorder.seen == [None, None]
    assert model.prior_ is not None


def test_a_score_encodes_each_row_once(X):
    """The draws that the likelihood is averaged over also serve for the prior."""
    vae = VariationalAutoencoder(2, prior=GaussianMixture(2), max_iter=3, random_state=0)
    vae.fit(X)
    encoded = []
    hook = vae.module_.linear_encoder.register_forward_hook(
        lambda module, inputs, output: encoded.append(len(output))
    )
    vae.score(X.astype(np.float32))
    hook.remove()
    assert sum(encoded) == len(X)


@pytest.mark.parametrize(
    ("n", "weight", "n_components"),
    [(20, 1, 1), (120, 1, 4), (120, 3, 14), (1100, 1, 40), (1100, 10, 73)],
)
def test_components_of_the_mixture_follow_the_samples(n, weight, n_components):
    X = np.random.default_rng(0).standard_normal((n, 3))
    vae = VariationalAutoencoder(1, prior="mixture", max_iter=1, random_state=0)
    vae.fit(X, sample_weight=np.full(n, weight))
    assert vae.prior_.n_components == n_components
    same = clone(vae).set_params(prior=GaussianMixture(n_components, tol=0.01))
    same.fit(X, sample_weight=np.full(n, weight))
    np.testing.assert_array_equal(vae.score_samples(X), same.score_samples(X))


@pytest.mark.parametrize(("total", "n_codes"), [(40, 8192), (9000, 9000), (1e5, 16384)])
def test_number_of_codes_follows_the_samples(total, n_codes):
    class Counting(GaussianMixture):
        def fit(self, X, y=None):
            self.n_codes_ = len(X)
            return super().fit(X)

    X = np.random.default_rng(0).standard_normal((40, 3))
    vae = VariationalAutoencoder(1, prior=Counting(), max_iter=1, random_state=0)
    vae.fit(X, sample_weight=np.full(40, total / 40))
    assert vae.prior_.n_codes_ == n_codes


def test_other_names_of_a_prior_are_refused():
    with pytest.raises(ValueError, match=r"'prior'.*Did you mean 'mixture'"):
        VariationalAutoencoder(prior="mixtures").fit(np.eye(4))
