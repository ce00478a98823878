"""What a fitted variational autoencoder can do: posteriors, bounds and samples."""

import warnings
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch, check_scalar
from sklearn.utils.validation import check_is_fitted

from skae._evaluate import to_precision
from skae._fitted import FittedAutoencoder
from skae._prior import log_ratio, sample_prior
from skae._random import local_random_state, torch_generator
from skae.objectives import DRAWS_AT_ONCE, ELBO, row_shift, sobol_normal

# Draws of an importance-weighted bound that no tolerance asks more of.
_MOST_DRAWS = 16384


class FittedVariational(FittedAutoencoder):
    """The methods that need a posterior, and the prior that a fit leaves."""

    prior_: Any

    def _fitted_objective(self) -> ELBO:
        ratio = None if self.prior_ is None else partial(log_ratio, self.prior_)
        # A score depends neither on beta nor on a schedule.
        return ELBO(1.0, "constant", 1, ratio)

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
        objective = self._fitted_objective()
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
        self,
        X: ArrayLike,
        n_samples: int = 128,
        *,
        tol: float | None = None,
        random_state: int | np.random.RandomState | None = 0,
        return_diagnostics: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, Bunch]:
        r"""Importance-weighted lower bound of log p(x) of each sample.

        .. math:: \log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)},
            \quad z_k \sim q(z|x)

        with K = `n_samples` (Burda, Grosse and Salakhutdinov 2016, eq. 8). It grows in
        expectation with K, from the ELBO at K = 1 towards log p(x). The draws are a
        scrambled Sobol sequence, shifted for each row by an amount that is a function of
        the row: a row's bound depends on that row alone, and the errors of different rows
        average out in a mean. A single row's value may lie above log p(x), the more so
        the fewer draws it has; its expectation never does. Memory does not grow with K.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        n_samples : int, default=128
            Draws of the code for each row, K.

        tol : float, default=None
            If given, rows whose estimated `gap` is above it, in nats, are computed again
            with twice the draws, until none is left or 16384 draws are taken.

        random_state : int, RandomState instance or None, default=0
            Source of the draws; None takes others at each call.

        return_diagnostics : bool, default=False
            Whether to say how tight the bounds are.

        Returns
        -------
        log_marginal : ndarray of shape (n_samples,)
            In nats, of data in the units of X.

        diagnostics : Bunch
            Only with `return_diagnostics=True`; arrays of shape (n_samples,):

            - ``gap``: estimate of log p(x) minus the bound, in nats: half the relative
              variance of the mean weight, (1/ESS - 1/K) / 2, ESS being the effective
              number of draws. Above 0.1 it says little more than that K is too small.
            - ``n_samples``: draws that the row took.
        """
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        if tol is not None:
            check_scalar(tol, "tol", Real, min_val=0, include_boundaries="neither")
        data = self._validate(X)
        seed = local_random_state(random_state).randint(np.iinfo(np.int32).max)
        bound, gap = self._importance_bound(data, n_samples, seed)
        taken = np.full(len(data), n_samples)
        while tol is not None and n_samples < _MOST_DRAWS:
            open_rows = np.flatnonzero(gap > tol)
            if len(open_rows) == 0:
                break
            n_samples = min(2 * n_samples, _MOST_DRAWS)
            bound[open_rows], gap[open_rows] = self._importance_bound(
                data[open_rows], n_samples, seed
            )
            taken[open_rows] = n_samples
        if tol is not None and (missed := int((gap > tol).sum())):
            warnings.warn(
                f"The bound of {missed} of {len(gap)} samples is not within tol={tol} of "
                f"log p(x) with {n_samples} draws, by their own estimate.",
                ConvergenceWarning,
                stacklevel=2,
            )
        if return_diagnostics:
            return bound, Bunch(gap=gap, n_samples=taken)
        return bound

    def _importance_bound(
        self, data: np.ndarray, n_samples: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The bound with a number of draws, and the estimate of its gap."""
        objective = self._fitted_objective()
        draws = sobol_normal(n_samples, self.n_components_, seed)[:, None]
        draws = draws.to(self.device_)
        both = self._over_rows(
            lambda module, y: objective.log_marginal(
                module, y, draws, row_shift(y, self.n_components_, seed)
            ),
            data,
            n_draws=min(n_samples, DRAWS_AT_ONCE),
        )
        gap = 0.5 * (1 / both[:, 1] - 1 / n_samples)
        if n_samples == 1:  # a single draw says nothing of its own error
            gap = np.full_like(gap, np.inf)
        return self._to_units(both[:, 0], data), gap

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        *,
        noise: bool = True,
    ) -> np.ndarray:
        """Draw from the model: z from the prior, N(0, I) or `prior_`, then x ~ p(x|z).

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
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        module = to_precision(self.module_, self._units, torch.float64)
        device = module.ratio.device
        source = local_random_state(random_state)
        generator = torch_generator(source, device)
        if self.prior_ is None:
            z = module.ratio.new_empty(n_samples, self.n_components_)
            z.normal_(generator=generator)
        else:
            codes = sample_prior(self.prior_, n_samples, source)
            z = torch.from_numpy(codes).to(module.ratio)
        with torch.inference_mode():
            loc, outputs = module.decode(z)
            if noise:
                log_scale = module.scale.log_scale(outputs)
                loc = module.spec.likelihood.sample(loc, log_scale, generator)
        return loc.cpu().numpy() * self._units.unit + self._units.mean
