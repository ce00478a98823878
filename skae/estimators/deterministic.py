"""The deterministic autoencoders, Gaussian and Laplace."""

from __future__ import annotations

from typing import ClassVar

from skae._utils.names import MissingMethod, own_method_names
from skae.estimators.base import BaseAutoencoder
from skae.likelihoods import GaussianLikelihood, LaplaceLikelihood, Likelihood
from skae.objectives import NegativeLogLikelihood, Objective

_NO_DENSITY = (
    "a deterministic autoencoder has no density of x to sample or to bound. Use "
    "VariationalAutoencoder."
)
# Parameters that VariationalAutoencoder has, and these classes have not.
_OF_A_DENSITY = dict.fromkeys(
    ["beta", "gradient_balance", "kl_schedule", "likelihood", "n_mc_samples", "prior"],
    "VariationalAutoencoder has it; this class has one likelihood and no KL.",
)


@own_method_names
class GaussianAutoencoder(BaseAutoencoder):
    r"""Deterministic autoencoder with a Gaussian likelihood.

    An encoder maps x to a code z(x) of `n_components` numbers, and a decoder maps the code
    to a location. Training maximises the log-likelihood

    .. math::
        \log p(x|z) = -\tfrac12 \sum_i
            \left[\log 2\pi s_i^2 + (x_i - \mu_i(z))^2 / s_i^2\right]

    of x given its own code, summed over features and averaged over samples. With the
    closed-form scale, which is the default, the log-likelihood is a function of the mean
    squared error: :math:`-\tfrac d2 (\log 2\pi\,\mathrm{MSE} + 1)`.

    The score is log p(x | z(x)). It is *not* a density of x: its integral over x is not 1,
    and it is infinite for the linear model. So compare the score between deterministic
    autoencoders only, never with ``PCA.score`` or the score of
    :class:`VariationalAutoencoder`.

    Parameters
    ----------
    n_components : int, float or "auto", default=2
        Number of components of the code. A float between 0 and 1 takes as many components
        as PCA needs to explain more than this share of the variance (of the standardised
        features with `covariance_type="diag"`). "auto" is 0.6 for each feature, at most 64.
        With as many components as features, or more, X is reproduced exactly, and the scale
        ends at its floor.

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
        the batches of an epoch, at the time of their step: ``objective`` and
        ``log_likelihood`` in nats per sample. At the end of each epoch: ``scale``, the
        geometric mean, if the scale does not depend on the code; and ``validation_score``,
        if there are validation data.

    module_ : AutoencoderModule
        The fitted torch module; its parameters do not require gradients.

    device_ : str
        Device of the module.

    See Also
    --------
    LaplaceAutoencoder : Absolute in place of squared errors.
    VariationalAutoencoder : Its score is a lower bound of log p(x).
    sklearn.decomposition.PCA : The linear Gaussian autoencoder.

    References
    ----------
    C. Beckham (2021). "A statistical introduction to Gaussian and Laplace autoencoders".

    O. Rybkin, K. Daniilidis and S. Levine (2021). "Simple and effective VAE training with
    calibrated decoders". ICML, eq. 6, for the optimal scale.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import GaussianAutoencoder
    >>> X = load_iris().data
    >>> ae = GaussianAutoencoder(n_components=2, random_state=0).fit(X)
    >>> ae.transform(X).shape
    (150, 2)
    >>> bool(((X - ae.reconstruct(X)) ** 2).mean() < 0.025)  # PCA leaves more
    True
    """

    _parameter_advice: ClassVar[dict[str, str]] = _OF_A_DENSITY

    sample = MissingMethod(_NO_DENSITY)
    posterior = MissingMethod(_NO_DENSITY)
    elbo = MissingMethod(_NO_DENSITY)
    log_marginal = MissingMethod(_NO_DENSITY)

    def _make_likelihood(self) -> Likelihood:
        return GaussianLikelihood()

    def _make_objective(self) -> Objective:
        return NegativeLogLikelihood()


@own_method_names
class LaplaceAutoencoder(BaseAutoencoder):
    r"""Deterministic autoencoder with a Laplace likelihood.

    An encoder maps x to a code z(x) of `n_components` numbers, and a decoder maps the code
    to a location. Training maximises the log-likelihood

    .. math:: \log p(x|z) = -\sum_i \left[\log 2 b_i + |x_i - \mu_i(z)| / b_i\right]

    of x given its own code, summed over features and averaged over samples. With the
    closed-form scale, which is the default, the log-likelihood is a function of the mean
    absolute error: :math:`-d (\log 2\,\mathrm{MAE} + 1)`.

    The score is log p(x | z(x)). It is *not* a density of x: its integral over x is not 1,
    and it is infinite for the linear model. So compare the score between deterministic
    autoencoders only, never with ``PCA.score`` or the score of
    :class:`VariationalAutoencoder`.

    Parameters
    ----------
    n_components : int, float or "auto", default=2
        Number of components of the code. A float between 0 and 1 takes as many components
        as PCA needs to explain more than this share of the variance (of the standardised
        features with `covariance_type="diag"`). "auto" is 0.6 for each feature, at most 64.
        With as many components as features, or more, X is reproduced exactly, and the scale
        ends at its floor.

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
        the batches of an epoch, at the time of their step: ``objective`` and
        ``log_likelihood`` in nats per sample. At the end of each epoch: ``scale``, the
        geometric mean, if the scale does not depend on the code; and ``validation_score``,
        if there are validation data.

    module_ : AutoencoderModule
        The fitted torch module; its parameters do not require gradients.

    device_ : str
        Device of the module.

    See Also
    --------
    GaussianAutoencoder : Squared in place of absolute errors.
    VariationalAutoencoder : Its score is a lower bound of log p(x).
    sklearn.decomposition.PCA : The linear Gaussian autoencoder.

    References
    ----------
    C. Beckham (2021). "A statistical introduction to Gaussian and Laplace autoencoders".

    O. Rybkin, K. Daniilidis and S. Levine (2021). "Simple and effective VAE training with
    calibrated decoders". ICML, eq. 6, for the optimal scale.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import LaplaceAutoencoder
    >>> X = load_iris().data
    >>> ae = LaplaceAutoencoder(n_components=2, random_state=0).fit(X)
    >>> ae.transform(X).shape
    (150, 2)
    >>> bool(abs(X - ae.reconstruct(X)).mean() < 0.11)
    True
    """

    _parameter_advice: ClassVar[dict[str, str]] = _OF_A_DENSITY

    sample = MissingMethod(_NO_DENSITY)
    posterior = MissingMethod(_NO_DENSITY)
    elbo = MissingMethod(_NO_DENSITY)
    log_marginal = MissingMethod(_NO_DENSITY)

    def _make_likelihood(self) -> Likelihood:
        return LaplaceLikelihood()

    def _make_objective(self) -> Objective:
        return NegativeLogLikelihood()
