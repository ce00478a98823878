"""
The derivatives, verified symbolically
======================================

The source article checks its gradients with SymPy. This example checks the correct forms in
the same way. It covers the integrals of the densities, the optimal scales, the likelihood
at the optimal scales and the gradients of the losses. :doc:`/errata` lists the differences
from the article.
"""

# %%
# The densities integrate to 1. The Gaussian density as printed in the article does not,
# even after its sign is corrected.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sympy import (
    Abs,
    Function,
    Rational,
    diff,
    exp,
    integrate,
    lambdify,
    log,
    oo,
    pi,
    sign,
    simplify,
    solve,
    sqrt,
    symbols,
)

from skae.likelihoods import GaussianLikelihood, LaplaceLikelihood

x = symbols("x", real=True)
s, b, mse, mae, n, m = symbols("s b MSE MAE n m", positive=True)

gaussian = exp(-(x**2) / (2 * s**2)) / (s * sqrt(2 * pi))
laplace = exp(-Abs(x) / b) / (2 * b)
printed = exp(-(x**2) / s**2) / (s * sqrt(2 * pi))
for name, density in {
    "Gaussian": gaussian,
    "Laplace": laplace,
    "Gaussian without the 1/2": printed,
}.items():
    print(f"{name}: the integral is {simplify(2 * integrate(density, (x, 0, oo)))}")

# %%
# The negative log-likelihood (NLL) per feature, for n features with one scale. It depends
# on the residuals only through their mean square (MSE) or mean absolute value (MAE). The
# derivative with respect to the scale is 0 at the optimal scale.

nll_gaussian = log(2 * pi * s**2) / 2 + mse / (2 * s**2)
nll_laplace = log(2 * b) + mae / b

(best_s,) = solve(diff(nll_gaussian, s), s)
(best_b,) = solve(diff(nll_laplace, b), b)
print("d NLL / d s =", simplify(diff(nll_gaussian, s)), " so s =", best_s)
print("d NLL / d b =", simplify(diff(nll_laplace, b)), " so b =", best_b)
assert best_s == sqrt(mse)
assert best_b == mae
assert diff(nll_gaussian, s, 2).subs(s, best_s) == 2 / mse  # positive: a minimum
assert diff(nll_laplace, b, 2).subs(b, best_b) == 1 / mae**2

# %%
# The log-likelihood at the optimal scale is -n/2 (log(2 pi MSE) + 1) for the Gaussian
# density. For the Laplace density it is -n (log(2 MAE) + 1).

at_best = n * nll_gaussian.subs(s, best_s)
assert simplify(at_best - n / 2 * (log(2 * pi * mse) + 1)) == 0
at_best = n * nll_laplace.subs(b, best_b)
assert simplify(at_best - n * (log(2 * mae) + 1)) == 0

# %%
# The gradients of log MSE and of log MAE with respect to one residual r. For log MSE, delta
# is the sum of the squares of the other residuals; for log MAE, of their absolute values.

r, r2 = symbols("r r2", real=True, nonzero=True)
delta = symbols("delta", positive=True)

gradient = simplify(diff(log((r**2 + delta) / n), r))
print("log MSE:", gradient)
assert simplify(gradient - 2 * r / (r**2 + delta)) == 0

log_mae = diff(log((Abs(r) + delta) / n), r)
print("log MAE:", simplify(log_mae))
assert simplify(log_mae - sign(r) / (Abs(r) + delta)) == 0

# %%
# Training uses these gradients, with the factor n/2 for the Gaussian and n for the Laplace
# loss. Lines show the formulas; points show gradients of skae's own losses, by autograd.

formulas = {
    "Gaussian": n / 2 * gradient,
    "Laplace": n * sign(r) / (Abs(r) + delta),
}
likelihoods = {"Gaussian": GaussianLikelihood(), "Laplace": LaplaceLikelihood()}
others = np.array([0.2, -0.1])
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, likelihood in likelihoods.items():
    total = np.sum(others**2) if name == "Gaussian" else np.sum(np.abs(others))
    formula = lambdify(r, formulas[name].subs({n: 3, delta: total}))
    residual = np.linspace(-0.5, 0.5, 400)
    (line,) = ax.plot(residual, formula(residual), label=name)
    for value in np.linspace(-0.5, 0.5, 24):
        x_i = torch.tensor([[value, *others]], requires_grad=True)
        deviation = likelihood.deviation(x_i).mean()
        log_scale = likelihood.optimal_scale(deviation).log()
        loss = -likelihood.log_prob(x_i, torch.zeros_like(x_i), log_scale).sum()
        (slope,) = torch.autograd.grad(loss, x_i)
        ax.plot(value, slope[0, 0], "o", color=line.get_color(), markersize=4)
        assert abs(slope[0, 0] - formula(value)) < 1e-9
ax.set(xlabel="residual", ylabel="gradient (nats)")
ax.legend()
plt.show()

# %%
# Without a mean over residuals the gradient explodes at 0. A mean of m logarithms does not
# help: its gradient is 2 / (m r), for any value of the other residuals.

print("log of a square:", simplify(diff(log(r**2), r)))
assert simplify(diff(log(r**2), r) - 2 / r) == 0
mean_of_logs = (log(r**2) + log(r2**2)) / m
assert simplify(diff(mean_of_logs, r) - 2 / (m * r)) == 0

# %%
# The article proposes a loss in which the MSE is the weight of the KL. Its gradient has the
# direction of the log loss plus the KL, so the log loss already has this effect. Here t is
# any parameter, and both terms are functions of t.

t = symbols("t", real=True)
error, kl = Function("MSE")(t), Function("KL")(t)
log_loss = n * Rational(1, 2) * log(error) + kl
weighted = n * Rational(1, 2) * diff(error, t) + error * diff(kl, t)
assert simplify(error * diff(log_loss, t) - weighted) == 0
print("MSE d(n/2 log MSE + KL) = d(SSE / 2) + MSE d(KL)")
