"""Is beta easier to tune with a Laplace likelihood? The source article's claim, tested.

    python benchmarks/balance.py --quick --out /tmp/pages    # does it run? a minute
    python benchmarks/balance.py    # about ten minutes on one core

Replaces the tables and pictures of docs/results/balance.rst. The text is edited in the page
itself: after a run, correct what it concludes from the tables.
"""

import argparse
import shlex
import sys
import warnings
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from balance_fits import LIKELIHOODS, METHODS, MODES, SETS, UNIT_SETS, UNITS, Study, measure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from report import RESULTS, update_page
from scipy import stats

QUICK = Study(2, 8, np.logspace(-1, 1, 5), np.logspace(-2, 1, 4), n_draws=4)


def interval(values):
    """Return the mean, and half the width of its 95% t interval over the splits."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return np.mean(values), half


def shown(values):
    """Return the mean and its interval as text."""
    mean, half = interval(values)
    return f"{mean:.2f} ± {half:.2f}"


def factors(values):
    """Return the geometric mean of factors and its interval as text."""
    mean, half = interval(np.log(values))
    return f"{np.exp(mean):.2f} ({np.exp(mean - half):.2f} to {np.exp(mean + half):.2f})"


def best_beta(betas, scores):
    """Return the top of the parabola through the three best points."""
    x, i = np.log10(betas), int(np.argmax(scores))
    if i in (0, len(x) - 1):
        return betas[i]
    near = slice(i - 1, i + 2)
    curvature, slope, _ = np.polyfit(x[near] - x[i], scores[near], 2)
    return 10 ** (x[i] - slope / (2 * curvature))


def width(betas, scores):
    """Return the decades of beta that lose less than a nat, and if the grid cuts them."""
    x = np.linspace(np.log10(betas[0]), np.log10(betas[-1]), 3001)
    curve = np.interp(x, np.log10(betas), scores)
    top, far = np.argmax(curve), np.flatnonzero(curve <= scores.max() - 1)
    below, above = far[far < top], far[far > top]
    left = x[below[-1] + 1] if len(below) else x[0]
    right = x[above[0] - 1] if len(above) else x[-1]
    return right - left, len(below) == 0 or len(above) == 0


def beta_table(scores, betas, kind):
    """Make a row for each set and method: the best score, its beta, and the width."""
    header = ["data", "training"]
    for likelihood in LIKELIHOODS:
        header += [f"{likelihood.title()}: best score", "at beta", "width (decades)"]
    rows = []
    for name, method in product(SETS, METHODS):
        row, best, widths = [name, method], {}, {}
        for likelihood in LIKELIHOODS:
            curves = scores[name, likelihood, method][kind]  # (splits, betas)
            best[likelihood] = curves.max(axis=1)
            widths[likelihood], cut = zip(*(width(betas, c) for c in curves), strict=True)
            row += [
                shown(best[likelihood]),
                factors([best_beta(betas, c) for c in curves]),
                ("≥ " if any(cut) else "") + shown(widths[likelihood]),
            ]
        row += [shown(np.subtract(v["laplace"], v["gaussian"])) for v in (best, widths)]
        rows.append(row)
    return [*header, *(f"{of}, Laplace less Gaussian" for of in ("score", "width"))], rows


def loss_table(scores, betas):
    """Make a row for each set: what beta = 1 loses against the best beta."""
    one, kinds = np.argmin(np.abs(np.log(betas))), list(product(LIKELIHOODS, MODES))
    rows = []
    for name in SETS:
        curves = [scores[name, *kind]["elbo"] for kind in kinds]
        rows.append([name, *(shown(c.max(axis=1) - c[:, one]) for c in curves)])
    return ["data", *(f"{a.title()}, {mode} scale" for a, mode in kinds)], rows


def unit_table(units, betas):
    """Make a row for each set and likelihood: the best beta in each unit, and its power."""
    rows = []
    for name, likelihood in product(UNIT_SETS, LIKELIHOODS):
        curves = [units[name, likelihood, unit]["elbo"] for unit in UNITS]
        best = [[best_beta(betas, c) for c in splits] for splits in curves]
        powers = np.log(np.divide(best[-1], best[0])) / np.log(UNITS[-1] / UNITS[0])
        rows.append([name, likelihood, *map(factors, best), shown(powers)])
    headings = (f"unit {unit:g}" for unit in UNITS)
    return ["data", "likelihood", *headings, "power of the unit"], rows


def gradient_table(histories, start, of):
    """Make a row for each fit: how the norms change, and where they end."""
    header = ["data", "scale", "likelihood", "reconstruction, end over start"]
    header += ["KL, end over start", "ratio at the start", "ratio at the end"]
    rows = []
    for name, mode, likelihood in product(SETS, MODES, LIKELIHOODS):
        history = histories[name, likelihood, start, mode]
        norms = np.array([history[f"grad_reconstruction_{of}"], history[f"grad_kl_{of}"]])
        warm_up = norms.shape[2] // 4
        first, last = norms[:, :, warm_up - 1], norms[:, :, -1]  # (terms, splits)
        found = [*(last / first), first[0] / first[1], last[0] / last[1]]
        cosine = history[f"grad_cosine_{of}"][:, -1]
        rows.append([name, mode, likelihood, *map(factors, found), shown(cosine)])
    return [*header, "cosine at the end"], rows


def draw_betas(axes, scores, betas):
    """Draw the held-out bound as a function of beta, a row for each likelihood."""
    for ax, (likelihood, name) in zip(axes.flat, product(LIKELIHOODS, SETS), strict=True):
        for method in METHODS:
            curves = scores[name, likelihood, method]["bound"]
            mean, error = curves.mean(axis=0), stats.sem(curves, axis=0)
            (line,) = ax.plot(betas, mean, ".-", label=method)
            band = {"color": line.get_color(), "alpha": 0.15}
            ax.fill_between(betas, mean - error, mean + error, **band)
        ax.set(xscale="log", title=f"{name.partition(',')[0]}: {likelihood}")


def draw_gradients(axes, histories, n_epochs):
    """Draw the norms of both gradients over the training, a row for each scale."""
    for ax, (mode, name) in zip(axes.flat, product(MODES, SETS), strict=True):
        for color, likelihood in enumerate(LIKELIHOODS):
            history = histories[name, likelihood, "warm-up", mode]
            for term, style in (("reconstruction", "-"), ("kl", "--")):
                norms = np.exp(np.log(history[f"grad_{term}_outputs"]).mean(axis=0))
                label = f"{likelihood}, {term.replace('kl', 'KL')}"
                ax.plot(range(1, n_epochs + 1), norms, f"C{color}{style}", label=label)
        ax.set(yscale="log", title=f"{name.partition(',')[0]}: {mode} scale")
        ax.axvline(n_epochs / 4, color="gray", linewidth=0.8, linestyle=":")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_formatter(NullFormatter())


def save_picture(path, xlabel, ylabel, sharey, draw, *args):
    """Draw a picture with a column for each set, its legend above all panels."""
    layout = {"figsize": (11, 5.5), "layout": "constrained", "sharex": True}
    with plt.rc_context({"axes.titlesize": 10, "font.size": 9}):
        figure, axes = plt.subplots(2, len(SETS), sharey=sharey, **layout)
    draw(axes, *args)
    for ax in axes[1]:
        ax.set_xlabel(xlabel)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main():
    """Run all fits, then write the page and its pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small study")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the page")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    plt.switch_backend("agg")

    study = QUICK if args.quick else Study()
    scores, units, histories = measure(study)
    command = shlex.join(["python", "benchmarks/balance.py", *sys.argv[1:]])
    tables = {
        "Held-out ELBO and beta": beta_table(scores, study.betas, "elbo"),
        "What beta = 1 loses": loss_table(scores, study.betas),
        "Held-out bound and beta": beta_table(scores, study.betas, "bound"),
        "The unit of the data": unit_table(units, study.unit_betas),
        "Gradients after a warm-up": gradient_table(histories, "warm-up", "outputs"),
        "The same for the parameters": gradient_table(histories, "warm-up", "parameters"),
        "From the start at PCA": gradient_table(histories, "pca", "outputs"),
    }
    update_page(RESULTS / "balance.rst", args.out / "balance.rst", command, tables)
    file, ylabel = args.out / "balance_beta.png", "held-out bound (nats)"
    save_picture(file, "beta", ylabel, "col", draw_betas, scores, study.betas)
    file, ylabel = args.out / "balance_gradients.png", "norm of the gradient (nats)"
    save_picture(file, "epoch", ylabel, False, draw_gradients, histories, study.n_epochs)


if __name__ == "__main__":
    main()
