"""The deterministic autoencoders: a likelihood each, one objective."""

from skae.estimators.base import BaseAutoencoder
from skae.likelihoods import GaussianLikelihood, LaplaceLikelihood, Likelihood
from skae.objectives import NegativeLogLikelihood, Objective


class GaussianAutoencoder(BaseAutoencoder):
    r"""Deterministic autoencoder with a Gaussian likelihood.

    An encoder takes x to a code z(x) of `n_components` numbers, a decoder takes the code
    to a location, and training maximises the log-likelihood

    .. math::
        \log p(x|z) = -\tfrac12 \sum_i
            \left[\log 2\pi s_i^2 + (x_i - \mu_i(z))^2 / s_i^2\right]

    of x given its own code, summed over features and averaged over samples. With the
    closed-form scale, the default, that is the logarithm of the mean
    squared error: :math:`-\tfrac d2 (\log 2\pi\,\mathrm{MSE} + 1)`.

    The score is log p(x | z(x)). It is *not* a density of x (its integral over x is not 1,
    and infinite for the linear model), so it may be compared between deterministic
    autoencoders, but never with ``PCA.score`` or the score of
    :class:`VariationalAutoencoder`.

    Parameters
    ----------
    n_components : int, default=2
        Number of components of the code.

    variance_mode : str, default="optimal"
        Where the scale of the likelihood comes from:

        - "fixed": the constant `scale`;
        - "optimal": the closed form, from the batch at each step and from the whole
          training set at the end;
        - "profile": the closed form for each sample on its own while training, and for
          the whole training set at the end; spherical only;
        - "learned": a free parameter trained with the weights;
        - "predicted": an output of the decoder, a function of the code.

    covariance_type : {"spherical", "diag"}, default="spherical"
        One scale for all features, or one for each.

    scale : float or array-like of shape (n_features,), default=1.0
        The scale in the units of X, for `variance_mode="fixed"` only; an array goes with
        `covariance_type="diag"`.

    min_scale : float or "auto", default="auto"
        Smallest scale that can be fitted, in the units of X. The likelihood is unbounded
        as the scale goes to 0, so there has to be one. "auto" is the resolution of the
        data: the smallest difference between two values of a feature, over the square
        root of 12 (the standard deviation of rounding to it). A fit that ends there
        warns. Not used by `variance_mode="fixed"`.

    network : "mlp" or object, default="mlp"
        The nonlinear encoder and decoder, which are added to a linear path. "mlp" is
        :class:`skae.networks.MLP` with the next two parameters; or an object with methods
        ``encoder(n_features, n_outputs)`` and ``decoder(n_components, n_outputs)`` that
        return torch modules.

    hidden_layer_sizes : int or array-like of int, default=(64,)
        Widths of the encoder's hidden layers; the decoder mirrors them. ``()`` makes the
        model linear. For `network="mlp"`.

    activation : {"identity", "logistic", "relu", "tanh"}, default="relu"
        Activation of the hidden layers. For `network="mlp"`.

    init : {"pca", "random"}, default="pca"
        Where the linear path starts: at probabilistic PCA in closed form, or at random.
        From "pca" the fit is never worse on its training data than where it started.

    n_init : int, default=1
        Number of starts that are trained side by side; the one that ends with the best
        training objective (with early stopping, the best validation score) is kept. The
        first starts as `init` says, the others at random. Callbacks follow the first.
        Ignored when ``warm_start=True`` continues a fit.

    batch_size : int or "auto", default="auto"
        Size of the minibatches. "auto" is a sixteenth of the samples, as a power of 2
        between 32 and 512.

    max_iter : int, default=100
        Number of epochs (passes over the data). The learning rate falls to 0 over them
        along half a cosine.

    learning_rate_init : float, default=5e-3
        Learning rate of Adam at the start. Weights from a hidden layer of h units to the
        next one take 16/h of it if h is above 16: their steps add up over the units.

    alpha : float, default=1.0
        Strength of the L2 penalty on the weights of the networks: half the sum of their
        squares, over the number of (different) samples, is added to the objective. It
        pulls the model towards its linear path; 1 is a standard normal prior.

    early_stopping : bool, default=False
        Whether to set part of the data aside, and to keep the parameters that score best
        on it.

    validation_fraction : float, default=0.1
        Share of the data to set aside if `early_stopping=True` and `fit` gets no `X_val`.

    n_iter_no_change : int, default=10
        If the objective (or the validation score, with `early_stopping=True`), as an
        exponential mean over so many epochs, has not improved by `tol` for that many epochs
        in a row, the learning rate is brought to 0 within as many, and training ends.

    tol : float, default=1e-4
        Improvement that counts, in nats per sample.

    shuffle : bool, default=True
        Whether to shuffle the samples in each epoch. Then their order in X does not
        matter at all, and equal samples are merged into one with their total weight. If
        False, they are taken in the order given.

    warm_start : bool, default=False
        Whether a call of `fit` goes on from the last one, with its standardisation.

    device : str, default="auto"
        Torch's name of the device to train on; "auto" is "cuda" where there is one, else
        "cpu".

    precision : {"auto", "float32", "float64", "tf32", "bf16"}, default="auto"
        Precision of the training; "auto" is float32. "tf32" lets a GPU round the factors
        of its products to TF32 and changes nothing elsewhere; "bf16" makes them bfloat16,
        by autocast, which pays for large models only. Codes and scores are computed in
        the precision of the X that they are asked for.

    random_state : int, RandomState instance or None, default=None
        Determines the first weights, the order of the samples, the validation split and
        the noise. An int gives the same fit, to the bit, at each call. No global random
        state is read or moved, not even with None.

    verbose : bool or int, default=0
        Whether to print the loss of each epoch.

    Attributes
    ----------
    n_components_ : int
        Number of components.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had such.

    scale_ : float, ndarray of shape (`n_features_in_`,) or None
        Scale of the likelihood in the units of X (the standard deviation of a Gaussian,
        the b of a Laplace); None for `variance_mode="predicted"`.

    n_iter_ : int
        Number of epochs.

    loss_curve_ : list of float
        Objective of each epoch, in nats per sample, `alpha`'s penalty left out.

    history_ : dict of str to ndarray of shape (`n_iter_`,)
        Of each epoch: ``objective`` and ``log_likelihood`` in nats per sample,
        ``scale`` (the geometric mean, where it does not depend on the code) and
        ``validation_score``, where there is one. Means over the batches as they were
        trained on.

    module_ : AutoencoderModule
        The torch module, without gradients.

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

    def _make_likelihood(self) -> Likelihood:
        return GaussianLikelihood()

    def _make_objective(self) -> Objective:
        return NegativeLogLikelihood()


class LaplaceAutoencoder(BaseAutoencoder):
    r"""Deterministic autoencoder with a Laplace likelihood.

    An encoder takes x to a code z(x) of `n_components` numbers, a decoder takes the code
    to a location, and training maximises the log-likelihood

    .. math:: \log p(x|z) = -\sum_i \left[\log 2 b_i + |x_i - \mu_i(z)| / b_i\right]

    of x given its own code, summed over features and averaged over samples. With the
    closed-form scale, the default, that is the logarithm of the mean
    absolute error: :math:`-d (\log 2\,\mathrm{MAE} + 1)`.

    The score is log p(x | z(x)). It is *not* a density of x (its integral over x is not 1,
    and infinite for the linear model), so it may be compared between deterministic
    autoencoders, but never with ``PCA.score`` or the score of
    :class:`VariationalAutoencoder`.

    Parameters
    ----------
    n_components : int, default=2
        Number of components of the code.

    variance_mode : str, default="optimal"
        Where the scale of the likelihood comes from:

        - "fixed": the constant `scale`;
        - "optimal": the closed form, from the batch at each step and from the whole
          training set at the end;
        - "profile": the closed form for each sample on its own while training, and for
          the whole training set at the end; spherical only;
        - "learned": a free parameter trained with the weights;
        - "predicted": an output of the decoder, a function of the code.

    covariance_type : {"spherical", "diag"}, default="spherical"
        One scale for all features, or one for each.

    scale : float or array-like of shape (n_features,), default=1.0
        The scale in the units of X, for `variance_mode="fixed"` only; an array goes with
        `covariance_type="diag"`.

    min_scale : float or "auto", default="auto"
        Smallest scale that can be fitted, in the units of X. The likelihood is unbounded
        as the scale goes to 0, so there has to be one. "auto" is the resolution of the
        data: the smallest difference between two values of a feature, over the square
        root of 12 (the standard deviation of rounding to it). A fit that ends there
        warns. Not used by `variance_mode="fixed"`.

    network : "mlp" or object, default="mlp"
        The nonlinear encoder and decoder, which are added to a linear path. "mlp" is
        :class:`skae.networks.MLP` with the next two parameters; or an object with methods
        ``encoder(n_features, n_outputs)`` and ``decoder(n_components, n_outputs)`` that
        return torch modules.

    hidden_layer_sizes : int or array-like of int, default=(64,)
        Widths of the encoder's hidden layers; the decoder mirrors them. ``()`` makes the
        model linear. For `network="mlp"`.

    activation : {"identity", "logistic", "relu", "tanh"}, default="relu"
        Activation of the hidden layers. For `network="mlp"`.

    init : {"pca", "random"}, default="pca"
        Where the linear path starts: at probabilistic PCA in closed form, or at random.
        From "pca" the fit is never worse on its training data than where it started.

    n_init : int, default=1
        Number of starts that are trained side by side; the one that ends with the best
        training objective (with early stopping, the best validation score) is kept. The
        first starts as `init` says, the others at random. Callbacks follow the first.
        Ignored when ``warm_start=True`` continues a fit.

    batch_size : int or "auto", default="auto"
        Size of the minibatches. "auto" is a sixteenth of the samples, as a power of 2
        between 32 and 512.

    max_iter : int, default=100
        Number of epochs (passes over the data). The learning rate falls to 0 over them
        along half a cosine.

    learning_rate_init : float, default=5e-3
        Learning rate of Adam at the start. Weights from a hidden layer of h units to the
        next one take 16/h of it if h is above 16: their steps add up over the units.

    alpha : float, default=1.0
        Strength of the L2 penalty on the weights of the networks: half the sum of their
        squares, over the number of (different) samples, is added to the objective. It
        pulls the model towards its linear path; 1 is a standard normal prior.

    early_stopping : bool, default=False
        Whether to set part of the data aside, and to keep the parameters that score best
        on it.

    validation_fraction : float, default=0.1
        Share of the data to set aside if `early_stopping=True` and `fit` gets no `X_val`.

    n_iter_no_change : int, default=10
        If the objective (or the validation score, with `early_stopping=True`), as an
        exponential mean over so many epochs, has not improved by `tol` for that many epochs
        in a row, the learning rate is brought to 0 within as many, and training ends.

    tol : float, default=1e-4
        Improvement that counts, in nats per sample.

    shuffle : bool, default=True
        Whether to shuffle the samples in each epoch. Then their order in X does not
        matter at all, and equal samples are merged into one with their total weight. If
        False, they are taken in the order given.

    warm_start : bool, default=False
        Whether a call of `fit` goes on from the last one, with its standardisation.

    device : str, default="auto"
        Torch's name of the device to train on; "auto" is "cuda" where there is one, else
        "cpu".

    precision : {"auto", "float32", "float64", "tf32", "bf16"}, default="auto"
        Precision of the training; "auto" is float32. "tf32" lets a GPU round the factors
        of its products to TF32 and changes nothing elsewhere; "bf16" makes them bfloat16,
        by autocast, which pays for large models only. Codes and scores are computed in
        the precision of the X that they are asked for.

    random_state : int, RandomState instance or None, default=None
        Determines the first weights, the order of the samples, the validation split and
        the noise. An int gives the same fit, to the bit, at each call. No global random
        state is read or moved, not even with None.

    verbose : bool or int, default=0
        Whether to print the loss of each epoch.

    Attributes
    ----------
    n_components_ : int
        Number of components.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had such.

    scale_ : float, ndarray of shape (`n_features_in_`,) or None
        Scale of the likelihood in the units of X (the standard deviation of a Gaussian,
        the b of a Laplace); None for `variance_mode="predicted"`.

    n_iter_ : int
        Number of epochs.

    loss_curve_ : list of float
        Objective of each epoch, in nats per sample, `alpha`'s penalty left out.

    history_ : dict of str to ndarray of shape (`n_iter_`,)
        Of each epoch: ``objective`` and ``log_likelihood`` in nats per sample,
        ``scale`` (the geometric mean, where it does not depend on the code) and
        ``validation_score``, where there is one. Means over the batches as they were
        trained on.

    module_ : AutoencoderModule
        The torch module, without gradients.

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

    def _make_likelihood(self) -> Likelihood:
        return LaplaceLikelihood()

    def _make_objective(self) -> Objective:
        return NegativeLogLikelihood()
