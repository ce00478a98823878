"""The systems of the imputation benchmark: each maps a table with NaN to a filled one."""

import math

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (it enables)
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from torch import nn

from skae.impute import AutoencoderImputer

# Share of the observed entries that a tuned system hides to compare candidates.
_VALIDATION_SHARE = 0.1


def _trees(quick):
    """Make scikit-learn's imputer by forests, in the place of missForest."""
    trees = ExtraTreesRegressor(n_estimators=5 if quick else 50, random_state=0)
    return IterativeImputer(trees, max_iter=2 if quick else 10, random_state=0)


def ppca(holes, k):
    """Fill rows by probabilistic PCA, fitted by EM to the observed entries, (n, d)."""
    n, d = holes.shape
    observed = ~np.isnan(holes)
    mean = np.nanmean(holes, axis=0)
    W = np.random.default_rng(0).normal(scale=0.1, size=(d, k))
    s2, last = 1.0, -math.inf
    for _ in range(500):
        S, first, total = np.zeros((d, d)), np.zeros((n, d)), 0.0
        for i, o in enumerate(observed):
            Wo, r = W[o], holes[i, o] - mean[o]
            M = Wo.T @ Wo + s2 * np.eye(k)
            inverse = np.linalg.inv(M)
            z = inverse @ Wo.T @ r
            first[i, o], first[i, ~o] = r, W[~o] @ z
            spread = s2 * (W[~o] @ inverse @ W[~o].T + np.eye(d - o.sum()))
            S[np.ix_(~o, ~o)] += spread
            log_det = np.linalg.slogdet(M)[1] + (o.sum() - k) * math.log(s2)
            total -= 0.5 * (log_det + (r @ r - r @ Wo @ z) / s2)
        S = (S + first.T @ first) / n
        shift = first.mean(axis=0)
        S -= np.outer(shift, shift)
        if total < last + 1e-4 * n:
            break
        last, mean = total, mean + shift
        values, V = np.linalg.eigh(S)
        s2 = max(values[:-k].mean() if k < d else 0.0, 1e-6)
        W = V[:, -k:] * np.sqrt(np.maximum(values[-k:] - s2, 0.0))
    return np.where(observed, holes, mean + first)


def tuned_ppca(holes, quick):
    """Fill rows by the number of components that fills hidden entries best."""
    d = holes.shape[1]
    hidden = np.random.default_rng(1).random(holes.shape) < _VALIDATION_SHARE
    hidden &= ~np.isnan(holes)
    hidden[(np.isnan(holes) | hidden).all(axis=1)] = False
    fewer = np.where(hidden, np.nan, holes)
    candidates = sorted({max(1, round(share * d)) for share in (0.15, 0.3, 0.5, 0.7)})

    def error(k):
        return np.square(ppca(fewer, k) - holes)[hidden].mean()

    return ppca(holes, min(candidates, key=error))


class _Miwae(nn.Module):
    """The network of MIWAE: Student densities, zero imputation in the encoder."""

    def __init__(self, d, k, width):
        super().__init__()

        def network(n_in, n_out):
            return nn.Sequential(
                nn.Linear(n_in, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                nn.Linear(width, n_out),
            )  # fmt: skip

        self.d, self.k = d, k
        self.encoder, self.decoder = network(d, 2 * k), network(k, 3 * d)

    def forward(self, x, observed, n_draws):
        """Return the log weights (n_draws, n) and the means of the decoder."""
        mean, h = self.encoder(x).chunk(2, dim=-1)
        q = torch.distributions.Normal(mean, nn.functional.softplus(h) + 1e-3)
        z = q.rsample((n_draws,))
        loc, scale, freedom = self.decoder(z).chunk(3, dim=-1)
        p = torch.distributions.StudentT(
            nn.functional.softplus(freedom) + 3, loc, nn.functional.softplus(scale) + 1e-3
        )
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z)
        log_weight = (p.log_prob(x) * observed).sum(-1) + (prior - q.log_prob(z)).sum(-1)
        return log_weight, loc


def miwae(holes, quick, k=10, width=128, n_draws=20, batch=64):
    """Fill rows by a plain MIWAE (Mattei and Frellsen 2019), with the article's sizes."""
    torch.manual_seed(0)
    observed = torch.tensor(~np.isnan(holes), dtype=torch.float32)
    x = torch.tensor(np.nan_to_num(holes), dtype=torch.float32)
    model = _Miwae(holes.shape[1], min(k, holes.shape[1] - 1), width)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(3 if quick else 600):
        for rows in torch.randperm(len(x)).split(batch):
            log_weight, _ = model(x[rows], observed[rows], n_draws)
            loss = -(log_weight.logsumexp(dim=0) - math.log(n_draws)).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    with torch.no_grad():
        filled = []
        for rows in torch.arange(len(x)).split(50):
            log_weight, loc = model(x[rows], observed[rows], 100 if quick else 2000)
            filled.append((log_weight.softmax(dim=0)[..., None] * loc).sum(dim=0))
    return np.where(np.isnan(holes), torch.cat(filled).numpy(), holes)


SYSTEMS = {
    "mean": lambda holes, quick: SimpleImputer().fit_transform(holes),
    "KNNImputer": lambda holes, quick: KNNImputer().fit_transform(holes),
    "IterativeImputer, BayesianRidge": lambda holes, quick: IterativeImputer(
        max_iter=2 if quick else 30, random_state=0
    ).fit_transform(holes),
    "IterativeImputer, ExtraTrees": lambda holes, quick: _trees(quick).fit_transform(holes),
    "PPCA by EM": tuned_ppca,
    "MIWAE, plain torch": miwae,
    "AutoencoderImputer": lambda holes, quick: AutoencoderImputer(
        random_state=0
    ).fit_transform(holes),
}
