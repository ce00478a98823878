"""Missing entries of a row, filled by the linear model of the start."""

import torch
from torch import Tensor, nn

from skae._utils.device import to_double

# Rows whose systems of equations are solved together, times their numbers: 32 MB.
_NUMBERS = 2**22
# Smallest noise of a standardised feature: with less, rows of fewer observed entries than
# components have equations that rounding makes singular.
_SMALLEST_NOISE = 1e-3


# Posterior standard deviations whose squares have eigenvalues in float64.
_POSSIBLE_STD = 1e-30, 1e30


class LinearFill(nn.Module):
    r"""Conditional mean of missing entries under a linear model, and its wider posterior.

    With standardised rows y, :math:`u = (y - c)/\sigma` in units of the noise, loadings L
    and the weight :math:`\beta` of the KL, the posterior of the code given the observed
    entries o has

    .. math:: M_o = L_o^T L_o + \beta I, \quad E[z|u_o] = M_o^{-1} L_o^T u_o

    The missing entries are :math:`c + \sigma L E[z|u_o]`. The linear encoder of the filled
    row then gives :math:`E[z|u_o]` again, because :math:`E[z|u_o] = E[E[z|u] | u_o]`. The
    best posterior of independent components has the variances
    :math:`\beta / \mathrm{diag}(M_o)`, and what is missing adds
    :math:`\tfrac12 \log(\mathrm{diag}(M) / \mathrm{diag}(M_o))` to the log of its standard
    deviations.

    Before :meth:`set`, loadings are 0: the fill is the mean.

    Parameters
    ----------
    n_features, n_components : int
        Sizes of data and code.
    """

    center: Tensor
    noise: Tensor
    loadings: Tensor
    beta: Tensor

    def __init__(self, n_features: int, n_components: int) -> None:
        super().__init__()
        zeros = torch.zeros(n_features, n_components + 2, device="cpu")
        self.register_buffer("center", zeros[:, 0].clone())
        self.register_buffer("noise", zeros[:, 1] + 1)
        self.register_buffer("loadings", zeros[:, 2:].clone())
        self.register_buffer("beta", torch.ones(1, device="cpu"))

    def set(self, center: Tensor, noise: Tensor, loadings: Tensor, beta: float) -> None:
        """Set the linear model, in units of standardised rows.

        Parameters
        ----------
        center : Tensor of shape (n_features,)
            Means.
        noise : Tensor of shape (n_features,)
            Standard deviations of the noise.
        loadings : Tensor of shape (n_features, q)
            Loadings in units of the noise; q is at most the number of components.
        beta : float
            Weight of the KL.
        """
        bounded = noise.clamp_min(_SMALLEST_NOISE)
        self.center.copy_(center)
        self.noise.copy_(bounded)
        scaled = loadings * (noise / bounded)[:, None]
        self.loadings.zero_()[:, : loadings.shape[1]] = scaled
        self.beta.fill_(beta)

    def forward(self, y: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the missing entries of rows.

        Parameters
        ----------
        y : Tensor of shape (n, n_features)
            Standardised rows.
        missing : Tensor of bool of shape (n, n_features)
            Which entries are missing.

        Returns
        -------
        filled : Tensor of shape (n, n_features)
            Filled rows, float64; complete rows stay as they are.
        widening : Tensor of shape (n, n_components)
            What is added to the log of the posterior's standard deviations, float64; 0 for
            complete rows.
        """
        filled = to_double(y)
        missing = missing.to(filled.device)
        widening = filled.new_zeros(len(y), self.loadings.shape[1])
        chosen = missing.any(dim=1).nonzero()[:, 0]
        size = max(1, _NUMBERS // self.loadings.numel())
        for rows in chosen.split(size):
            filled[rows], widening[rows] = self._fill(filled[rows], missing[rows])
        return filled, widening

    def posterior_factor(self, missing: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Factorise a posterior of the code whose components depend on each other.

        Its precision has the correlations of the linear model's, and the diagonal that
        belongs to the given standard deviations of independent components.

        Parameters
        ----------
        missing : Tensor of bool of shape (n, n_features)
            Which entries are missing.
        std : Tensor of shape (n, n_components)
            Standard deviations of the best independent components, float64.

        Returns
        -------
        factor : Tensor of shape (n, n_components, n_components)
            U, such that U U' is the covariance, float64. Its eigenvalues are at most 1, the
            prior's, or the square of the largest standard deviation.
        log_det : Tensor of shape (n,)
            Logarithm of its determinant, float64.
        """
        size = max(1, _NUMBERS // self.loadings.numel())
        parts = [
            self._posterior_factor(*rows)
            for rows in zip(missing.split(size), std.split(size), strict=True)
        ]
        factors, log_dets = zip(*parts, strict=True)
        return torch.cat(factors), torch.cat(log_dets)

    def _posterior_factor(self, missing: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Factorise the posteriors of some rows; see :meth:`posterior_factor`."""
        M = self._precision(missing)
        # The encoder of a distant row may overflow, and its result is then replaced.
        std = std.nan_to_num(nan=1.0).clamp(*_POSSIBLE_STD)
        unit = M.diagonal(dim1=1, dim2=2).rsqrt() / std
        precision = M * unit[:, :, None] * unit[:, None, :]
        # The symmetric root depends on the matrix continuously.
        values, vectors = torch.linalg.eigh(precision)
        largest = std.amax(dim=1, keepdim=True).square().clamp_min(1.0)
        values = torch.maximum(values, 1 / largest).rsqrt()
        return (vectors * values[:, None, :]) @ vectors.mT, values.log().sum(dim=1)

    def _precision(self, missing: Tensor) -> Tensor:
        """Compute beta times the precision of the posterior, ``(n, k, k)``, float64."""
        L = to_double(self.loadings)
        M = ((~missing)[:, :, None] * L).mT @ L
        M.diagonal(dim1=1, dim2=2).add_(to_double(self.beta))
        return M

    def _fill(self, y: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Fill rows ``(n, d)``, float64; see :meth:`forward`."""
        center, noise, L = map(to_double, (self.center, self.noise, self.loadings))
        u = ((y - center) / noise).masked_fill(missing, 0.0)
        M = self._precision(missing)
        diagonal = M.diagonal(dim1=1, dim2=2)
        z = torch.linalg.solve(M, u @ L)
        complete = L.square().sum(dim=0) + to_double(self.beta)
        filled = torch.where(missing, center + noise * (z @ L.T), y)
        return filled, 0.5 * (complete.log() - diagonal.log())
