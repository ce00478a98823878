"""Student's t density, with fixed and with learned degrees of freedom."""

import copy
import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.base import clone

from skae import VariationalAutoencoder
from skae.likelihoods import StudentTLikelihood
from tests.likelihoods.references import FrozenShape

DEGREES = [2.5, 5.0, 40.0, 1e6]

every_df = pytest.mark.parametrize("df", DEGREES)


def model(likelihood, **parameters):
    """A variational autoencoder that trains briefly, in double precision."""
    defaults = {"max_iter": 4, "precision": "float64", "random_state": 0}
    return VariationalAutoencoder(likelihood=likelihood, **{**defaults, **parameters})


def free_number(df):
    """Return h of degrees of freedom: their excess over 2 is exp(h), or 1 + h above 1."""
    excess = np.asarray(df, dtype=np.float64) - 2
    return torch.tensor(np.where(excess < 1, np.log(excess), excess - 1))


def learned(df):
    """Return the likelihood whose learned degrees of freedom have given values."""
    return StudentTLikelihood("learned").given(free_number(df))


# ------------------------------------------------------------------------- the density


@every_df
def test_log_prob_equals_scipy(df):
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(3, 1))
    scale = np.exp(rng.normal(size=4, scale=3))
    x = scale * rng.standard_cauchy((5, 1, 4))
    arguments = [torch.tensor(a) for a in (x, loc, np.log(scale))]
    expected = FrozenShape(scipy.stats.t, df).logpdf(x, loc, scale)
    for likelihood in (StudentTLikelihood(df), learned([df] * 4)):
        actual = likelihood.log_prob(*arguments)
        # scipy's own digits, of a difference of log-gamma functions, are the fewer ones.
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


def test_each_feature_has_its_own_learned_df():
    df = np.array([2.01, 3.0, 7.5, 300.0])
    t = np.random.default_rng(0).standard_cauchy((6, 4))
    actual = learned(df).standard_log_prob(torch.tensor(t))
    np.testing.assert_allclose(actual, scipy.stats.t.logpdf(t, df), rtol=1e-11)


def test_the_start_of_learned_df_is_that_of_the_default():
    likelihood = StudentTLikelihood("learned")
    start = likelihood.start_parameters(3)
    assert start.shape == (3,)
    assert len(StudentTLikelihood().start_parameters(3)) == 0
    t = torch.linspace(-9, 9, 7, dtype=torch.float64)[:, None]
    expected = scipy.stats.t.logpdf(t.expand(7, 3), 5)
    for own in (likelihood.given(start), StudentTLikelihood(), likelihood):
        actual = own.standard_log_prob(t).expand(7, 3)
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


@every_df
def test_unit_stddev_equals_scipy(df):
    expected = FrozenShape(scipy.stats.t, df).std()
    assert StudentTLikelihood(df).unit_stddev == pytest.approx(expected, rel=1e-12)


@every_df
def test_influence_equals_autograd(df):
    t = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)
    likelihood = StudentTLikelihood(df)
    likelihood.standard_log_prob(t).sum().backward()
    overwritten = t.detach().clone()
    out, no_outputs = torch.empty_like(t), torch.empty(0, dtype=torch.float64)
    returned = likelihood.differentiate_(overwritten, out=out, grad_outputs=no_outputs)
    assert returned is overwritten
    np.testing.assert_allclose(overwritten, -t.grad, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(out, scipy.stats.t.logpdf(t.detach(), df), rtol=1e-9)


def test_derivatives_by_the_free_numbers_equal_autograd():
    """For small and large numbers, on both sides of the join of their two branches."""
    h = torch.tensor([-9.0, -1.5, -1e-9, 1e-9, 0.7, 30.0, 1e4], dtype=torch.float64)
    h.requires_grad_()
    t = torch.randn(
        11, len(h), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).mul_(3)
    t.requires_grad_()
    weight = torch.linspace(0.2, 3, 11, dtype=torch.float64)[:, None]
    log_f = StudentTLikelihood("learned").given(h.expand(11, -1)).standard_log_prob(t)
    (weight * log_f).sum().backward()
    own = StudentTLikelihood("learned").given(h.detach().expand(11, -1))
    out, grad = torch.empty(2, *t.shape, dtype=torch.float64)
    influence = own.differentiate_(t.detach().clone(), out=out, grad_outputs=grad)
    np.testing.assert_allclose(out, log_f.detach(), rtol=1e-12)
    np.testing.assert_allclose(weight * influence, -t.grad, rtol=1e-11)
    np.testing.assert_allclose((weight * grad).sum(dim=0), h.grad, rtol=1e-7)


def test_derivatives_by_the_free_numbers_equal_differences_of_scipy():
    df = np.array([2.2, 3.5, 12.0])
    t = np.array([[0.0], [1.3], [-8.0]]) * np.ones(3)
    grad, out = torch.empty(3, 3, dtype=torch.float64), torch.empty(3, 3).double()
    learned(df).differentiate_(torch.tensor(t), out=out, grad_outputs=grad)
    step = 1e-5
    by_df = scipy.stats.t.logpdf(t, df + step) - scipy.stats.t.logpdf(t, df - step)
    # The excess over 2 is exp(h) below 1, and 1 + h above.
    by_h = by_df / (2 * step) * np.minimum(df - 2, 1)
    np.testing.assert_allclose(grad, by_h, rtol=1e-6, atol=1e-9)


def test_weighted_derivatives_have_the_shape_of_the_outputs():
    """`derivatives` is the contract with parts of a mixed likelihood."""
    x, loc = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)).double()
    log_scale = torch.tensor([[0.1, -0.4, 0.3]], dtype=torch.float64)
    weight = torch.linspace(0.5, 2, 5, dtype=torch.float64)[:, None]
    h = torch.tensor([-0.5, 0.5, 4.0], dtype=torch.float64)
    leaves = [v.requires_grad_() for v in (loc, log_scale, h)]
    own = StudentTLikelihood("learned").given(h.expand(5, -1))
    (weight * own.log_prob(x, loc, log_scale)).sum().backward()
    with torch.no_grad():
        found = own.derivatives(x, loc, log_scale, weight)
    assert found.outputs.shape == (5, 3)
    for actual, leaf in zip(found[1:], leaves, strict=True):
        summed = actual.sum_to_size(leaf.shape if leaf.ndim == 2 else (1, 3))
        np.testing.assert_allclose(summed.view_as(leaf), leaf.grad, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_influence_of_extreme_values(dtype):
    """The limits at 0 and far out are 0, although the square of t overflows."""
    largest = torch.finfo(dtype).max
    t = torch.tensor([0.0, -0.0, largest, -largest, math.inf], dtype=dtype)
    out, no_outputs = torch.empty_like(t), t.new_empty(0)
    influence = StudentTLikelihood().differentiate_(t, out=out, grad_outputs=no_outputs)
    assert (influence.abs() < 1e-30).all()


@pytest.mark.parametrize("df", [2.001, 5.0, 1e6])
def test_large_residuals_in_single_precision(df):
    """float32 has the log-density of residuals whose squares it can hold."""
    t = np.array([1e-20, 1e-3, 1.0, 1e3, 1e10, 1e18], dtype=np.float32)
    expected = scipy.stats.t.logpdf(t.astype(np.float64), df)
    for likelihood in (StudentTLikelihood(df), learned([df] * len(t))):
        out, grad = torch.empty(len(t)), torch.empty(len(t))
        if likelihood.df != "learned":
            grad = grad[:0]
        else:
            likelihood = likelihood.given(free_number([df] * len(t)).float())
        likelihood.differentiate_(torch.tensor(t), out=out, grad_outputs=grad)
        np.testing.assert_allclose(out, expected, rtol=2e-5, atol=1e-5)
        assert grad.isfinite().all()


@pytest.mark.parametrize("df", [3.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_have_the_distribution(df, dtype):
    loc = torch.tensor([-3.0, 50.0], dtype=dtype).repeat(20_000, 1)
    log_scale = torch.tensor([[-2.0, 1.5]], dtype=dtype)
    for likelihood in (StudentTLikelihood(df), learned([df, df])):
        generator, global_state = torch.Generator().manual_seed(0), torch.get_rng_state()
        draws = likelihood.sample(loc, log_scale, generator)
        assert torch.equal(torch.get_rng_state(), global_state)
        assert draws.shape == loc.shape
        for column in range(2):
            scale = math.exp(log_scale[0, column])
            expected = scipy.stats.t(df, loc[0, column], scale)
            values = draws[:, column].double().numpy()
            assert scipy.stats.kstest(values, expected.cdf).pvalue > 1e-3


# ------------------------------------------------------------------------ the parameter


@pytest.mark.parametrize(
    "df", [2, 2.0, 1.0, -1.0, math.nan, math.inf, True, "auto", None, [3.0]]
)
def test_other_degrees_of_freedom_are_refused(df):
    with pytest.raises(ValueError, match="df must be a number above 2, or 'learned'"):
        StudentTLikelihood(df)


@pytest.mark.parametrize("df", [3, 2.5, np.float32(7), np.int64(4), "learned"])
def test_repr_and_batch_key(df):
    likelihood = StudentTLikelihood(df)
    assert repr(likelihood) == f"StudentTLikelihood(df={df!r})"
    assert likelihood.batch_key == copy.deepcopy(likelihood).batch_key
    assert likelihood.batch_key != StudentTLikelihood(99.0).batch_key
    outputs = torch.zeros(3)
    assert likelihood.given(outputs).batch_key == likelihood.batch_key
    assert repr(likelihood.given(outputs)) == repr(likelihood)
    assert likelihood.capabilities.has_analytic_gradient
    assert likelihood.capabilities.is_thread_safe


def test_estimators_are_cloned_with_the_parameter(X):
    fitted = model(StudentTLikelihood("learned")).fit(X)
    copied = clone(fitted)
    assert copied.likelihood.df == "learned"
    np.testing.assert_array_equal(copied.fit(X).score_samples(X), fitted.score_samples(X))


# --------------------------------------------------------------------------- training


def learned_df(fitted):
    """Return the degrees of freedom of a fitted model: of each feature, ``(d,)``."""
    with torch.no_grad():
        z = fitted.module_.std_in_units.new_zeros(1, fitted.n_components_)
        _, outputs = fitted.module_.decode(z)
        likelihood, _ = fitted.module_.conditional(outputs)
        return likelihood._df(outputs).cpu().numpy().ravel()


def heavy_and_light():
    """Draw rows near a line; six features have noise of 3 degrees of freedom, six of 30."""
    rng = np.random.default_rng(0)
    loc = 3 * rng.normal(size=(4000, 1)) @ rng.uniform(0.5, 1.5, size=(1, 12))
    noise = rng.standard_t(np.repeat([3.0, 30.0], 6), size=loc.shape)
    return np.split(loc + 0.5 * noise, 2)


def test_learned_df_is_that_of_the_data():
    X, X_test = heavy_and_light()
    keywords = {"n_components": 1, "hidden_layer_sizes": (), "covariance_type": "diag"}
    keywords |= {"max_iter": 40, "precision": "float32"}
    fits = {
        df: model(StudentTLikelihood(df), **keywords).fit(X)
        for df in ("learned", 2.2, 5.0, 100.0)
    }
    found = learned_df(fits["learned"])
    # The spread of the code adds normal noise, so the degrees are some more than 3.
    assert np.median(found[:6]) == pytest.approx(3.7, abs=0.7)
    # Above 3, they grow by at most the learning rate in a step, and 40 epochs are few.
    assert (found[6:] > 6.5).all()
    scores = {df: fitted.score(X_test) for df, fitted in fits.items()}
    assert scores["learned"] > scores[5.0] + 0.03
    assert scores["learned"] > max(scores[2.2], scores[100.0]) + 0.3


def test_the_fit_of_learned_df_agrees_with_autograd(X):
    class Autograd(StudentTLikelihood):
        # The base class finds that the density is overridden without its derivative.
        def standard_log_prob(self, t, *, out=None):
            return super().standard_log_prob(t, out=out)

    assert not Autograd("learned").has_analytic_gradient
    analytic, by_autograd = (
        model(kind("learned")).fit(X) for kind in (StudentTLikelihood, Autograd)
    )
    np.testing.assert_allclose(analytic.loss_curve_, by_autograd.loss_curve_, rtol=1e-8)
    np.testing.assert_allclose(learned_df(analytic), learned_df(by_autograd), rtol=1e-6)
