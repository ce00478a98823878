"""The variational autoencoder."""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skae._base import BaseAutoencoder
from skae._evaluate import to_precision
from skae._random import local_random_state, torch_generator
from skae.likelihoods import LIKELIHOODS, Likelihood, make_likelihood
from skae.networks import Network
from skae.objectives import ELBO, KL_SCHEDULES, sobol_normal


class VariationalAutoencoder(BaseAutoencoder):
    """Variational autoencoder.

    @@SHARED@@
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseAutoencoder._parameter_constraints,
        "likelihood": [StrOptions(set(LIKELIHOODS)), Likelihood],
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_schedule": [StrOptions(set(KL_SCHEDULES))],
        "n_mc_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 2,
        *,
        likelihood: str | Likelihood = "gaussian",
        beta: float = 1.0,
        kl_schedule: str = "constant",
        n_mc_samples: int = 1,
        variance_mode: str = "optimal",
        covariance_type: str = "spherical",
        scale: float | ArrayLike = 1.0,
        min_scale: float | str = "auto",
        network: str | Network = "mlp",
        hidden_layer_sizes: int | ArrayLike = (64,),
        activation: str = "relu",
        init: str = "pca",
        batch_size: int | str = "auto",
        max_iter: int = 100,
        learning_rate_init: float = 1e-3,
        alpha: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        shuffle: bool = True,
        warm_start: bool = False,
        device: str = "auto",
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
            batch_size=batch_size,
            max_iter=max_iter,
            learning_rate_init=learning_rate_init,
            alpha=alpha,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            shuffle=shuffle,
            warm_start=warm_start,
            device=device,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )
        self.likelihood = likelihood
        self.beta = beta
        self.kl_schedule = kl_schedule
        self.n_mc_samples = n_mc_samples

    def _make_likelihood(self) -> Likelihood:
        return make_likelihood(self.likelihood)

    def _make_objective(self) -> ELBO:
        return ELBO(self.beta, self.kl_schedule, self.n_mc_samples)

    def posterior(self, X: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Posterior q(z|x) of each sample: independent normal components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        mean, std : ndarray of shape (n_samples, n_components)
            Mean and standard deviation of each component. The dtype is that of X.
        """
        data = self._validate(X)
        objective = self._make_objective()
        both = self._over_rows(
            lambda module, y: torch.stack(objective.posterior(module, y), dim=1), data
        )
        return both[:, 0], np.exp(both[:, 1])

    def elbo(self, X: ArrayLike) -> np.ndarray:
        """Evidence lower bound of each sample, the KL term unweighted.

        The same as :meth:`score_samples`, whatever ``beta`` the model was trained with.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        elbo : ndarray of shape (n_samples,)
            In nats, of data in the units of X: a lower bound of log p(x).
        """
        return self.score_samples(X)

    def log_marginal(
        self, X: ArrayLike, n_samples: int = 128, *, random_state: int = 0
    ) -> np.ndarray:
        r"""Importance-weighted lower bound of log p(x) of each sample.

        .. math:: \log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)},
            \quad z_k \sim q(z|x)

        with K = ``n_samples`` (Burda, Grosse and Salakhutdinov 2016, eq. 8). It grows in
        expectation with K, from the ELBO at K = 1 towards log p(x). The draws, a
        scrambled Sobol sequence, are the same for all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        n_samples : int, default=128
            Draws of the code for each row, K.

        random_state : int, default=0
            Seed of the draws.

        Returns
        -------
        log_marginal : ndarray of shape (n_samples,)
            In nats, of data in the units of X.
        """
        data = self._validate(X)
        objective = self._make_objective()
        draws = sobol_normal(n_samples, self.n_components_, seed=random_state)
        draws = draws[:, None].to(self.device_)
        bounds = self._over_rows(
            lambda module, y: objective.log_marginal(module, y, draws),
            data,
            n_draws=n_samples,
        )
        return self._to_units(bounds, data)

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        *,
        noise: bool = True,
    ) -> np.ndarray:
        """Draw from the model: z ~ N(0, I), then x ~ p(x|z).

        Parameters
        ----------
        n_samples : int, default=1
            Number of draws.

        random_state : int, RandomState instance or None, default=None
            Source of the randomness; None draws anew at each call.

        noise : bool, default=True
            Whether to draw x from the likelihood; else its location is returned.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Draws in the units of the training data, float64.
        """
        check_is_fitted(self)
        module = to_precision(self.module_, torch.float64)
        device = module.ratio.device
        generator = torch_generator(local_random_state(random_state), device)
        z = torch.empty(
            n_samples, self.n_components_, dtype=torch.float64, device=device
        ).normal_(generator=generator)
        with torch.inference_mode():
            loc, outputs = module.decode(z)
            if noise:
                log_scale = module.scale.log_scale(outputs)
                loc = module.spec.likelihood.sample(loc, log_scale, generator)
        return loc.cpu().numpy() * self._units.unit + self._units.mean
