"""The variational autoencoder."""

from __future__ import annotations

import math
import os
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch, Tags, check_scalar
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skae._data import take_rows
from skae._data.columns import package_of
from skae._fitting.lockstep import shared_result
from skae._fitting.problem import FitProblem
from skae._utils.choices import choices, positive_integer
from skae._utils.errors import NoStopIteration
from skae._utils.memory import require_memory
from skae._utils.messages import warn_user, without_deferred
from skae._utils.names import own_method_names, suggest_keywords
from skae._utils.namespaces import Home, like, like_input, on_host
from skae._utils.numbers import check_count
from skae._utils.random import draw_seed, local_random_state, torch_generator
from skae._utils.settings import own_settings
from skae.estimators.base import BaseAutoencoder
from skae.estimators.frames import as_frame, configured_package
from skae.estimators.latent_prior import (
    check_prior,
    check_prior_size,
    fit_prior,
    log_ratio,
    make_prior,
    sample_prior,
    with_tree,
    without_tree,
)
from skae.estimators.training_data import TrainingData
from skae.likelihoods import LIKELIHOODS, Likelihood, make_likelihood
from skae.networks import Network
from skae.networks.randomness import fixed_draws
from skae.objectives import ELBO, KL_SCHEDULES, Objective
from skae.objectives.draws import row_shift, sobol_normal
from skae.objectives.elbo import DRAWS_AT_ONCE
from skae.objectives.schedules import Schedule, check_schedule

# Most draws of an importance-weighted bound with a tolerance. More would take long: the
# error of heavy-tailed weights decreases slowly.
_MOST_DRAWS = 16384


@own_method_names
class VariationalAutoencoder(BaseAutoencoder):
    r"""Variational autoencoder.

    The model draws a code z ~ N(0, I) of `n_components` numbers, and x from a likelihood. A
    decoder computes the location of the likelihood, and for some variance modes its scale
    and for some likelihoods its shape, from z. An encoder computes a normal posterior
    q(z|x). Training minimises

    .. math:: -E_{q(z|x)} \log p(x|z) + \beta\, KL(q(z|x) \,\|\, N(0, I))

    summed over features and components, and averaged over samples. Scores are always the
    unweighted evidence lower bound (beta = 1) in nats, of data in the units of X. This
    lower bound of log p(x) can be compared with ``PCA.score``, ``FactorAnalysis.score`` and
    ``GaussianMixture.score``.

    Parameters
    ----------
    n_components : int, float or "auto", default=2
        Number of components of the code. A float between 0 and 1 takes as many components
        as PCA needs to explain more than this share of the variance (of the standardised
        features with `covariance_type="diag"`). "auto" is 0.6 for each feature, at most 64.
        In a table of several kinds of columns, each category of a column is a feature, so a
        float and "auto" may take more components than there are columns.
        As many components as features are allowed, and more: those stay inactive, with a KL
        near 0.

    likelihood : str or Likelihood, default="gaussian"
        Distribution of a feature given the decoder's output: a name in
        ``skae.likelihoods.LIKELIHOODS``, or an instance:

        - real numbers: "gaussian", "laplace", "logistic", "student_t", and "mixture", three
          logistic densities whose shape is a function of the code;
        - positive amounts: "log_normal"; numbers from 0 to 1: "continuous_bernoulli";
        - flags: "bernoulli"; categories: "categorical"; counts: "poisson" and
          "negative_binomial";
        - "mixed": one of them for each column, chosen by dtype and values, so that X may be
          a frame with strings, flags and categories; :class:`skae.likelihoods.Mixed` takes
          your choice.

    beta : float, default=1.0
        Weight of the KL term in training. Larger values use fewer components; smaller
        values give better reconstructions.

    kl_schedule : str or callable, default="constant"
        Weight of the KL term over the `max_iter` epochs:

        - "constant": `beta` from the first step on;
        - "linear": a linear increase from 0 to `beta` over the first quarter;
        - "cyclical": four cycles, each with an increase from 0 to `beta` in its first half;
        - "decreasing": from ten times `beta` to `beta` over the first half.

        An instance such as :class:`skae.objectives.CyclicalSchedule` has other parameters.
        A function maps the fraction of the training that is done, above 0 and at most 1, to
        the factor of `beta`. Its value at 1 should be 1. Scores do not depend on it.

    n_mc_samples : int, default=1
        Draws of the code for each sample and training step.

    prior : estimator, "mixture" or None, default=None
        Density of the codes in scores, bounds and samples. None is N(0, I), which training
        always uses. An estimator needs the methods ``fit``, ``score_samples`` and
        ``sample``. After the training, a clone of it is fitted to draws from the posteriors
        of the training data (Ghosh et al. 2020). "mixture" is a
        :class:`sklearn.mixture.GaussianMixture` with ``tol=0.01``. It has one component for
        each 25 samples, at most 40, or for each 150 samples, at most 128, if that is more.
        A mixture of more components than training samples is refused.
        For clustered data, the score is much better than with N(0, I).

    gradient_balance : bool, default=False
        Whether to record the gradients of the two terms of the objective in `history_`, at
        the end of each epoch. The fit does not depend on it. The gradients are those of at
        most 512 samples with four draws each. This takes as long as training on 1,000 to
        2,000 samples, and at least a few milliseconds. So with few samples, a fit takes two
        or three times as long.

    variance_mode : str, default="auto"
        How the scale of the likelihood is determined:

        - "auto": "optimal" if the scale has a closed form ("gaussian", "laplace" and
          "log_normal"), "learned" if it has none, and "none" if there is no scale; in a
          mixed likelihood for each part;
        - "fixed": the constant `scale`;
        - "optimal": the closed form, for the batch at each step and for the whole training
          set at the end;
        - "profile": the closed form, for each sample at each step and for the whole
          training set at the end; spherical only;
        - "learned": a free parameter trained with the weights;
        - "predicted": an output of the decoder, a function of the code;
        - "none": for flags, categories, "poisson" and "continuous_bernoulli", which have no
          scale.

    covariance_type : {"spherical", "diag"}, default="spherical"
        One scale for all features, or one for each. For columns of different units, use
        "diag", or standardise them as for PCA. A mixed likelihood always has one for each.

    scale : float or array-like of shape (n_features,), default=1.0
        The scale in the units of X, for `variance_mode="fixed"` only. An array needs
        `covariance_type="diag"`.

    min_scale : float or "auto", default="auto"
        Smallest scale that can be fitted, in the units of X. It is needed because the
        likelihood is unbounded as the scale goes to 0. "auto" is the resolution of the
        data: the smallest difference between two values of a feature, over the square root
        of 12, which is the standard deviation of a rounding error. A fit whose scale ends
        at this floor warns. Not used by `variance_mode="fixed"`.

    network : "mlp" or object, default="mlp"
        The nonlinear encoder and decoder, which are added to a linear path. "mlp" is
        :class:`skae.networks.MLP` with the next two parameters. An object needs the methods
        ``encoder(n_features, n_outputs)`` and ``decoder(n_components, n_outputs)``, which
        return torch modules.

    hidden_layer_sizes : int, array-like of int or "auto", default=(64,)
        Widths of the encoder's hidden layers; the decoder mirrors them. ``()`` makes the
        model linear. "auto" is one layer of a sixteenth of the samples, as a power of 2
        between 32 and 512. For `network="mlp"`.

    activation : {"identity", "logistic", "relu", "tanh"}, default="relu"
        Activation of the hidden layers. For `network="mlp"`.

    init : {"pca", "random"}, default="pca"
        Start of the linear path: probabilistic PCA in closed form, or random weights. With
        "pca", the objective of the fit on its training data is never worse than at the
        start. With more than 65,536 samples, so many of them are compared.

    n_init : int, default=1
        Number of starts, which are trained side by side. The fit with the best training
        objective (with early stopping, the best validation score) is kept. The first start
        is defined by `init`, the others are random. Callbacks follow the first one. Ignored
        if ``warm_start=True`` continues a fit.

    batch_size : int or "auto", default="auto"
        Size of the minibatches. "auto" is about an eighth of an epoch: a power of 2
        between 64 and 1,024.

    max_iter : int or "auto", default=100
        Largest number of epochs (passes over the data). "auto" takes as many epochs as
        1,600 steps need, between 140 and 1,000, and at least 200 for more than 10,000
        samples.

    learning_rate : {"cosine", "constant"}, default="cosine"
        How the learning rate changes. "cosine" lets it decrease to 0 over `max_iter`
        epochs, along half a cosine, and sooner if `early_stopping` or `tol` end the
        training; the objective is then better by the noise of the steps. "constant" keeps
        it: the training can go on later as if it had not ended (`warm_start`).

    learning_rate_init : float, default=2e-2
        Learning rate of Adam at the start. For the weights from a hidden layer of h > 2
        units to the next hidden layer, the rate is multiplied by 2/h: their steps add up
        over the units.

    alpha : float or "auto", default=10.0
        Strength of the L2 penalty on the weights of the networks. Half the sum of their
        squares, over the sum of the sample weights, times `alpha` is added to the
        objective. The penalty shrinks the model towards its linear path; 1 corresponds to a
        standard normal prior of the weights. The weights to a location count in units of
        what the linear start leaves of the feature. "auto" is 10 d^2 / n for d features and
        a sample size of n, between 1 and 30.

    early_stopping : bool, default=False
        Whether to set a part of the data aside for validation, and to keep the weights
        with the best score on this part.

    validation_fraction : float, default=0.1
        Fraction of the data to set aside if `early_stopping=True` and `fit` is called
        without `X_val`. A sample of weight above 1 counts as copies, which may be in both
        parts. If that is not what the weights mean, pass `X_val`.

    n_iter_no_change : int, default=10
        Patience, in epochs. The criterion is the median, over this many epochs, of the
        objective (with `early_stopping=True`, of the validation score). If it does not
        improve by `tol` in this many epochs in a row, the learning rate decreases to 0
        within as many epochs. Then the training ends.

    tol : float, default=1e-4
        Smallest improvement that counts, in nats per sample.

    shuffle : bool, default=True
        Whether to shuffle the samples in each epoch. If True, equal samples are merged into
        one with their total weight, and the order of the samples in X has no effect. If
        False, each epoch takes the samples in the given order.

    warm_start : bool, default=False
        Whether a call of `fit` continues the last fit, with its standardisation. With
        ``learning_rate="constant"``, no `kl_schedule`, one start, and the same data and
        parameters, n epochs and then m more equal n + m, to the bit. Otherwise a new
        training begins with the model of the last fit, and the learning rate begins again.

    checkpoint : str, path-like or None, default=None
        File in which a fit keeps the state of its training. A later fit with the same
        parameters and data goes on from there, and its result is that of a fit without a
        break, to the bit on the same machine. Of a finished fit, it returns the result. If
        the path is an existing folder or ends with "/", each fit has a file in it, as a
        search needs.

    checkpoint_interval : int or float, default=30.0
        An int is the number of epochs between two writes, a float the number of seconds.
        It is more seconds if writing would otherwise take more than 2% of the time.

    device : str or torch.device, default="auto"
        The device to train on, such as "cpu", "cuda:1", "xpu" or "mps"; "auto" is the
        accelerator that PyTorch finds, else the CPU. A device without float64, such as
        "mps", trains only: the fitted model is on the CPU.

    precision : {"auto", "float32", "float64", "tf32", "bf16"}, default="auto"
        Precision of the training; "auto" is float32. With "tf32", a GPU rounds the factors
        of matrix products to TF32; other devices ignore it. With "bf16", the factors are
        bfloat16, by autocast, which is faster for large models only. Codes and scores are
        computed in the precision of their X.

    random_state : int, RandomState instance or None, default=None
        Source of the first weights, the order of the samples, the validation split and the
        noise. An int gives a bit-identical fit at each call. No global random state is read
        or changed, not even with None.

    verbose : bool or int, default=0
        0 prints nothing. 1 prints what is trained, the objective of the start, the first
        and the last epoch, an epoch whenever two seconds have passed, and which epoch is
        kept, with its objective. 2 prints every epoch. A line has the number
        of the epoch, objective, log-likelihood, KL (variational models), validation score
        (with validation data) and the time since the first line. With several starts, the
        lines are those of the first one. A warm start continues to count.

    Attributes
    ----------
    n_components_ : int
        Number of components.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X has names that are strings.

    scale_ : float, ndarray of shape (`n_features_in_`,) or None
        Scale of the likelihood in the units of X (the standard deviation of a Gaussian,
        the b of a Laplace); None for `variance_mode="predicted"` and without scale. In a
        mixed likelihood, columns without scale have NaN.

    likelihood_ : Likelihood
        The distribution of the features; for a mixed one, what was chosen.

    n_iter_ : int
        Number of epochs; each block of `partial_fit` counts as one.

    best_iter_ : int
        Epoch that the model is from: the last one, or with ``early_stopping=True`` the one
        with the best validation score. 0 if the start is kept, because training did not
        improve on it. A warning says so, unless a model without hidden layers starts at its
        optimum in closed form.

    loss_curve_ : list of float
        Objective of each epoch, in nats per sample, without the penalty of `alpha`. After
        `partial_fit`, it has the newest 100 blocks.

    history_ : dict of str to ndarray of shape (`n_iter_`,)
        Numbers of each epoch, or after `partial_fit` of the newest 100 blocks. Means over
        the batches of an epoch, at the time of their step: ``objective``,
        ``log_likelihood`` and ``kl`` (unweighted) in nats per sample, and ``active_units``,
        the number of components whose mean KL is above 0.01 nats. At the end of each epoch:
        ``beta``, the weight of the KL; ``scale``, the geometric mean, if the scale does not
        depend on the code; and ``validation_score``, if there are validation data. With
        `gradient_balance=True` also norms of the gradients with respect to the encoder's
        outputs, in nats: ``grad_reconstruction_outputs`` and ``grad_kl_outputs``. The
        cosine of their angle is ``grad_cosine_outputs``. Keys with ``_parameters`` have the
        same numbers with respect to the encoder's parameters: see
        :func:`skae.objectives.gradient_balance`.

    prior_ : estimator or None
        The fitted prior; None is N(0, I).

    module_ : AutoencoderModule
        The fitted torch module; its parameters do not require gradients.

    device_ : str
        Device of the module.

    See Also
    --------
    GaussianAutoencoder, LaplaceAutoencoder : Without a posterior, a prior and sampling.
    sklearn.decomposition.PCA : The linear model with one Gaussian scale.
    sklearn.decomposition.FactorAnalysis : The linear model with a scale per feature.

    Notes
    -----
    The closed-form scale, which is the default, is computed from the expectation of the
    squared (or absolute) error under the posterior. So it includes the variance of the
    decoder's output.

    Scores are expectations over q(z|x) with fixed draws, the same for all rows, of mean 0
    and covariance I. So the score of a row depends on that row only. The linear part of the
    decoder has no sampling error. Most rows take 8 draws, rows of a large error 32. The
    error of a row's score is typically 0.02 nats; that of a mean score is below 0.05 nats.

    With a `prior` other than N(0, I), the score includes the log-density of the prior at
    these draws, which adds a sampling error. Apart from this error, the score is still a
    lower bound of log p(x). ``history_`` and ``beta`` always refer to N(0, I).

    References
    ----------
    P. Ghosh, M. S. M. Sajjadi, A. Vergari, M. Black and B. Schoelkopf (2020). "From
    variational to deterministic autoencoders". ICLR. Section 5, for the prior.

    D. P. Kingma and M. Welling (2014). "Auto-encoding variational Bayes". ICLR.

    I. Higgins et al. (2017). "beta-VAE: learning basic visual concepts with a constrained
    variational framework". ICLR.

    Y. Burda, R. Grosse and R. Salakhutdinov (2016). "Importance weighted autoencoders".
    ICLR.

    M. E. Tipping and C. M. Bishop (1999). "Probabilistic principal component analysis".
    JRSS B 61(3).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skae import VariationalAutoencoder
    >>> X = load_iris().data
    >>> vae = VariationalAutoencoder(n_components=2, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (150, 2)
    >>> vae.score(X) > PCA(n_components=2).fit(X).score(X)
    True
    >>> vae.sample(3, random_state=0).shape
    (3, 4)
    """

    prior_: Any

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseAutoencoder._parameter_constraints,
        "likelihood": [StrOptions(LIKELIHOODS.keys()), Likelihood],
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_schedule": [StrOptions(KL_SCHEDULES.keys()), callable],
        "n_mc_samples": [positive_integer()],
        "prior": [None, choices("mixture"), HasMethods(["fit", "score_samples", "sample"])],
        "gradient_balance": ["boolean"],
    }

    _advice_on_strings: ClassVar[str] = "A table with categories takes likelihood='mixed'."

    def __init__(
        self,
        n_components: int | float | str = 2,
        *,
        likelihood: str | Likelihood = "gaussian",
        beta: float = 1.0,
        kl_schedule: str | Schedule = "constant",
        n_mc_samples: int = 1,
        prior: Any = None,
        gradient_balance: bool = False,
        variance_mode: str = "auto",
        covariance_type: str = "spherical",
        scale: float | ArrayLike = 1.0,
        min_scale: float | str = "auto",
        network: str | Network = "mlp",
        hidden_layer_sizes: int | ArrayLike | str = (64,),
        activation: str = "relu",
        init: str = "pca",
        n_init: int = 1,
        batch_size: int | str = "auto",
        max_iter: int | str = 100,
        learning_rate: str = "cosine",
        learning_rate_init: float = 2e-2,
        alpha: float | str = 10.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        shuffle: bool = True,
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_interval: float = 30.0,
        device: str | torch.device = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = 0,
    ) -> None:
        super().__init__(
            n_components,
            variance_mode=variance_mode,
            covariance_type=covariance_type,
            scale=scale,
            min_scale=min_scale,
            network=network,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            init=init,
            n_init=n_init,
            batch_size=batch_size,
            max_iter=max_iter,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            alpha=alpha,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            shuffle=shuffle,
            warm_start=warm_start,
            checkpoint=checkpoint,
            checkpoint_interval=checkpoint_interval,
            device=device,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )
        self.likelihood = likelihood
        self.beta = beta
        self.kl_schedule = kl_schedule
        self.n_mc_samples = n_mc_samples
        self.prior = prior
        self.gradient_balance = gradient_balance

    def _validate_params(self) -> None:
        super()._validate_params()
        with NoStopIteration():
            check_schedule(self.kl_schedule, self.beta)
        check_prior(self.prior)

    def _validate_fit(
        self,
        X: ArrayLike,
        sample_weight: ArrayLike | None,
        X_val: ArrayLike | None,
        objective: Objective,
        home: Home | None,
    ) -> TrainingData:
        """Validate the input of a fit, and the number of components of the prior."""
        data = super()._validate_fit(X, sample_weight, X_val, objective, home)
        with without_deferred():
            check_prior_size(self.prior, max(data.X.shape[0], data.rows.n_samples))
        return data

    def _make_likelihood(self) -> Likelihood:
        return make_likelihood(self.likelihood)

    def __getstate__(self) -> dict[str, Any]:
        """Return a state with plain arrays in place of module and trees."""
        state = super().__getstate__()
        if "prior_" in state:
            state["prior_"] = without_tree(state["prior_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the module on the CPU, and trees."""
        super().__setstate__(state)
        if hasattr(self, "prior_"):
            self.prior_ = with_tree(self.prior_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        support = getattr(self.likelihood, "support", None)
        if isinstance(self.likelihood, str) and self.likelihood in LIKELIHOODS:
            support = LIKELIHOODS[self.likelihood].support
        takes_categories = support == "category"
        tags.input_tags.categorical = tags.input_tags.string = takes_categories
        # A zero is no positive number.
        tags.input_tags.sparse = not takes_categories and support != "positive"
        tags.input_tags.positive_only = support not in (None, "real", "category")
        return tags

    def _make_objective(self) -> ELBO:
        return ELBO(self.beta, self.kl_schedule, self.n_mc_samples)

    def _extra_fitted_attributes(self, problem: FitProblem | None) -> dict[str, Any]:
        if problem is None or self.prior is None:
            return {"prior_": None}
        prior = fit_prior(
            make_prior(self.prior, problem.rows.n_samples),
            problem.module,
            self._make_objective(),
            problem.rows,
            problem.standardization,
            problem.random_state,
        )
        return {"prior_": prior}

    def _fitted_objective(self) -> ELBO:
        ratio = None if self.prior_ is None else partial(log_ratio, self.prior_)
        # A score depends on neither beta nor the schedule.
        return ELBO(1.0, "constant", 1, ratio)

    @own_settings()
    @like_input
    def posterior(self, X: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Compute the posterior q(z|x) of each sample: independent normal components.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        mean, std : ndarray of shape (n_samples, n_components)
            Mean and standard deviation of each component. The dtype is that of X.
        """
        data = self._validate(X)
        objective = self._fitted_objective()
        both = self._in_range(
            lambda module, y: torch.stack(objective.posterior(module, y), dim=1), data
        )
        # Distant rows may have a deviation beyond the range of the dtype.
        largest = math.floor(math.log(torch.finfo(both.dtype).max))
        mean, log_std = both[:, 0], both[:, 1].clamp_max(largest)
        # The two libraries round differently.
        return mean, log_std.exp() if isinstance(data, Tensor) else np.exp(log_std.numpy())

    def elbo(self, X: ArrayLike) -> np.ndarray:
        """Compute the evidence lower bound of each sample, with an unweighted KL term.

        It equals :meth:`score_samples`, for any ``beta`` of the training.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        elbo : ndarray of shape (n_samples,)
            In nats, of data in the units of X: a lower bound of log p(x).
        """
        return self.score_samples(X)

    @own_settings()
    @like_input
    def log_marginal(
        self,
        X: ArrayLike,
        n_samples: int = 128,
        *,
        tol: float | None = None,
        random_state: int | np.random.RandomState | None = 0,
        return_diagnostics: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, Bunch]:
        r"""Compute the importance-weighted lower bound of log p(x) of each sample.

        .. math:: \log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)},
            \quad z_k \sim q(z|x)

        with K = `n_samples` (Burda, Grosse and Salakhutdinov 2016, eq. 8). In expectation
        it increases with K, from the ELBO at K = 1 towards log p(x). The draws are a
        scrambled Sobol sequence, with a shift that is a function of the row. So the bound
        of a row depends on that row only, and the errors of different rows average out in
        a mean. The value of a single row may be above log p(x), mostly with few draws; its
        expectation never is. Memory does not grow with K.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        n_samples : int, default=128
            Draws of the code for each row, K; in :meth:`impute` they are `n_draws`.

        tol : float, default=None
            Largest `gap` in nats. If given, the bounds of rows with a larger estimated gap
            are computed again with twice the draws, up to 16384 draws.

        random_state : int, RandomState instance or None, default=0
            Source of the draws; None gives new draws at each call.

        return_diagnostics : bool, default=False
            Whether to return estimates of how tight the bounds are.

        Returns
        -------
        log_marginal : ndarray of shape (n_samples,)
            In nats, of data in the units of X.

        diagnostics : Bunch
            Only with `return_diagnostics=True`; arrays of shape (n_samples,):

            - ``gap``: estimate of log p(x) minus the bound, in nats. It is half the
              relative variance of the mean weight, (1/ESS - 1/K) / 2, with the effective
              number of draws ESS. An estimate above 0.1 is not precise: K is too small.
            - ``n_samples``: number of draws of the row.
        """
        check_count(n_samples, "n_samples")
        if tol is not None:
            check_scalar(tol, "tol", Real, min_val=0, include_boundaries="neither")
        data = self._validate(X)
        require_memory(
            8 * int(n_samples) * self.n_components_, f"n_samples={n_samples}", "Lower it."
        )
        seed = draw_seed(local_random_state(random_state))
        bound, gap = self._importance_bound(data, n_samples, seed)
        taken = torch.full(gap.shape, int(n_samples), device=gap.device)
        while tol is not None and n_samples < _MOST_DRAWS:
            is_open = gap > tol
            if not is_open.any():
                break
            n_samples = min(2 * n_samples, _MOST_DRAWS)
            bound[is_open], gap[is_open] = self._importance_bound(
                take_rows(data, is_open), n_samples, seed
            )
            taken[is_open] = n_samples
        if tol is not None and (missed := int((gap > tol).sum())):
            warn_user(
                f"The bound of {missed} of {len(gap)} samples is not within tol={tol} of "
                f"log p(x) with {n_samples} draws, by the estimated gap.",
                ConvergenceWarning,
            )
        if return_diagnostics:
            return bound, Bunch(gap=gap, n_samples=taken)
        return bound

    def _importance_bound(self, data: Any, n_samples: int, seed: int) -> tuple[Any, Any]:
        """Compute the bound with n_samples draws, and its estimated gap, as tensors."""
        objective = self._fitted_objective()
        draws = shared_result(sobol_normal, int(n_samples), self.n_components_, seed)
        draws = draws[:, None].to(self.device_)
        both = self._over_rows(
            lambda module, y: objective.log_marginal(
                module,
                y,
                draws,
                row_shift(y[:, : module.spec.n_features], self.n_components_, seed),
            ),
            data,
            n_draws=min(n_samples, DRAWS_AT_ONCE),
        )
        gap = 0.5 * (1 / both[:, 1] - 1 / n_samples)
        if n_samples == 1:  # the gap of one draw cannot be estimated
            gap = torch.full_like(gap, math.inf)
        return self._to_units(both[:, 0], data), gap

    @suggest_keywords
    @own_settings()
    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        *,
        noise: bool = True,
        given: ArrayLike | None = None,
    ) -> Any:
        """Draw from the model: z from the prior, N(0, I) or `prior_`, then x ~ p(x|z).

        With a standard normal prior, samples are often less like the data than with
        ``prior="mixture"``.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows to draw.

        random_state : int, RandomState instance or None, default=None
            Source of the randomness; None gives new draws at each call.

        noise : bool, default=True
            Whether to draw x from the likelihood. If False, its mean is returned.

        given : array-like of shape (n_features,), dict or DataFrame, default=None
            Values that are known, and NaN for all others, which are drawn from their
            distribution given the known ones; see :meth:`impute`. A dict, by the names of
            columns (by their numbers, if there are no names), or a frame of one row may
            have the known columns only.

        Returns
        -------
        X : {ndarray, DataFrame} of shape (n_samples, n_features)
            Draws in the units of the training data, float64; a number beyond its range is
            the largest or smallest of this range. With ``set_output(transform="pandas")``
            or ``"polars"``, a frame with the names of the training data. If these were a
            frame too, the dtypes are theirs; integers and flags only where the likelihood
            draws such. With ``likelihood="mixed"``, a table like the training data in any
            case.

        Raises
        ------
        ValueError
            If `given` is not one row of numbers and NaN, or names a column that X does not
            have.
        """
        drawn = self._draw_rows(n_samples, random_state, noise, given)
        package = configured_package(self)
        is_tensor = not (isinstance(drawn, np.ndarray) or package_of(drawn))
        if package == "default" or is_tensor:
            return drawn
        return as_frame(
            drawn,
            package,
            getattr(self, "feature_names_in_", None),
            self._table.dtypes,
            self._table.likelihood,
            is_whole=noise,
        )

    def _draw_rows(
        self,
        n_samples: int,
        random_state: int | np.random.RandomState | None,
        noise: bool,
        given: ArrayLike | None,
    ) -> Any:
        """Draw rows ``(n_samples, d)``, as they are without `set_output`; see `sample`."""
        check_is_fitted(self)
        check_count(n_samples, "n_samples")
        standardization = self._standardization
        require_memory(
            8 * int(n_samples) * (self.n_components_ + self.n_features_in_),
            f"A sample of n_samples={n_samples}",
            "Lower n_samples.",
        )
        if given is not None:
            drawn = self._sample_given(on_host(given), n_samples, random_state, noise)
            return like(self._fitted_to, drawn)
        module = self.module_.in_precision(torch.float64, standardization.module_buffers)
        source = local_random_state(random_state)
        generator = torch_generator(source, module.device)
        if self.prior_ is None:
            z = module.std_in_units.new_empty(n_samples, self.n_components_)
            z.normal_(generator=generator)
        else:
            codes = sample_prior(self.prior_, n_samples, source)
            z = torch.from_numpy(codes).to(module.std_in_units)
        with (
            torch.inference_mode(),
            fixed_draws(module.decoder, device=module.device),
        ):
            loc, outputs = module.decode(z)
            likelihood, log_scale = module.conditional(outputs)
            units = self._center_and_unit(z.device)
            if noise:
                x = likelihood.data_sample(loc, log_scale, *units, generator)
            else:
                x = likelihood.data_mean(loc, log_scale, *units)
        largest = np.finfo(np.float64).max
        return like(self._fitted_to, self._decode(x.clamp(-largest, largest)))
