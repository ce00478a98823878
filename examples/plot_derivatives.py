"""
The derivatives, verified symbolically
======================================

The source article checks its gradients with SymPy. Here are the correct forms, checked in
the same way: densities that integrate to 1, the best scales, the likelihood at them, and
the gradients of the losses. See :doc:`/errata` for what differs from the article.
"""

# %%
# The densities integrate to 1; as printed in the article, the Gaussian one does not, even
# with its sign put right.

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
# The negative log-likelihood of n features with a shared scale, for each feature, depends
# on the residuals through their mean square or their mean absolute value alone. Its
# derivative in the scale vanishes at the best one.

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
# There the log-likelihood is -n/2 (log(2 pi MSE) + 1), and -n (log(2 MAE) + 1).

at_best = n * nll_gaussian.subs(s, best_s)
assert simplify(at_best - n / 2 * (log(2 * pi * mse) + 1)) == 0
at_best = n * nll_laplace.subs(b, best_b)
assert simplify(at_best - n * (log(2 * mae) + 1)) == 0

# %%
# The gradient of log MSE in one of the residuals, delta being the sum of the squares of
# the others, and that of log MAE.

r, r2 = symbols("r r2", real=True, nonzero=True)
delta = symbols("delta", positive=True)

gradient = simplify(diff(log((r**2 + delta) / n), r))
print("log MSE:", gradient)
assert simplify(gradient - 2 * r / (r**2 + delta)) == 0

log_mae = diff(log((Abs(r) + delta) / n), r)
print("log MAE:", simplify(log_mae))
assert simplify(log_mae - sign(r) / (Abs(r) + delta)) == 0

# %%
# With the factor n/2, or n, that belongs to it, that is what training follows: lines are
# the formulas, points are gradients of skae's own losses, from autograd.

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
# Without a mean the gradient explodes, and a mean of logarithms does not help: it is
# 2 / (m r), whatever the other residuals are.

print("log of a square:", simplify(diff(log(r**2), r)))
assert simplify(diff(log(r**2), r) - 2 / r) == 0
mean_of_logs = (log(r**2) + log(r2**2)) / m
assert simplify(diff(mean_of_logs, r) - 2 / (m * r)) == 0

# %%
# With the best scale, reconstruction plus KL has the direction of half the squared error
# plus the KL weighted with the MSE: the log loss does by itself what the article proposes
# as another loss. Here t is any parameter, and both terms are functions of it.

t = symbols("t", real=True)
error, kl = Function("MSE")(t), Function("KL")(t)
log_loss = n * Rational(1, 2) * log(error) + kl
weighted = n * Rational(1, 2) * diff(error, t) + error * diff(kl, t)
assert simplify(error * diff(log_loss, t) - weighted) == 0
print("MSE d(n/2 log MSE + KL) = d(SSE / 2) + MSE d(KL)")
