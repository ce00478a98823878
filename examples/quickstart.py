"""Quickstart: tune a Laplace VAE on the digits, score it in nats and plot its results.

``python examples/quickstart.py`` writes ``quickstart.png`` into the current folder.
"""

import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.feature_selection import VarianceThreshold
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.recipes import make_density_estimator

K = 8
images, labels = load_digits(return_X_y=True)
X, X_test, _, label = train_test_split(images / 16, labels, test_size=0.2, random_state=0)


def pipeline(model):
    """Return a pipeline that standardises the varying pixels before the model.

    All models then have the same units, so that their scores can be compared.
    """
    return make_pipeline(VarianceThreshold(0.01), StandardScaler(), model)


# A usual search of scikit-learn. The scores are mean ELBOs in nats.
vae = VariationalAutoencoder(K, likelihood="laplace", max_iter=40, random_state=0)
search = GridSearchCV(
    pipeline(vae),
    {
        "variationalautoencoder__beta": [0.5, 1.0, 2.0],
        "variationalautoencoder__variance_mode": ["fixed", "optimal", "predicted"],
    },
    cv=3,
)
search.set_callbacks(ProgressBar(max_propagation_depth=0))
search.fit(X)

print("\nGridSearchCV: mean cross-validated ELBO in nats (higher is better)\n")
results = search.cv_results_
print(f"{'beta':>6} {'variance_mode':>14} {'ELBO':>10}")
for i in results["rank_test_score"].argsort():
    beta, mode = results["params"][i].values()
    print(f"{beta:>6} {mode:>14} {results['mean_test_score'][i]:>10.2f}")

best = search.best_estimator_
models = {
    f"PCA({K})": pipeline(PCA(K)).fit(X),
    f"FactorAnalysis({K})": pipeline(FactorAnalysis(K)).fit(X),
    "Laplace VAE, best of the search": best,
    "Laplace VAE, a scale per pixel": pipeline(
        VariationalAutoencoder(
            K,
            likelihood="laplace",
            covariance_type="diag",
            variance_mode="learned",
            random_state=0,
        )
    ).fit(X),
    "the recipe for densities, not tuned": pipeline(
        make_density_estimator(random_state=0)
    ).fit(X),
}
print("\nHeld-out log p(x) in nats per image; for a VAE its lower bound, the ELBO.")
print("These scores can be compared with each other:\n")
for name, model in models.items():
    print(f"  {name:<34} {model.score(X_test):>9.2f}")
print("\nlog p(x | z(x)) of a deterministic autoencoder is not a density of x.")
print("These scores can be compared with each other, but not with those above:\n")
for model in (GaussianAutoencoder, LaplaceAutoencoder):
    fitted = pipeline(model(K, random_state=0)).fit(X)
    print(f"  {model.__name__:<34} {fitted.score(X_test):>9.2f}")

# Originals, reconstructions, samples and the loss curve.
prepare, vae = best[:-1], best[-1]
density = models["the recipe for densities, not tuned"][-1]
shown = X_test[[int((label == digit).argmax()) for digit in range(10)]]
rows = {
    "original": shown,
    "reconstruction": prepare.inverse_transform(vae.reconstruct(prepare.transform(shown))),
    "sample": prepare.inverse_transform(density.sample(10, random_state=0, noise=False)),
}
figure = plt.figure(figsize=(11, 6), layout="constrained")
pictures, curve = figure.subfigures(2, 1, height_ratios=[3, 2])
axes = pictures.subplots(len(rows), 10)
for row, (name, images) in zip(axes, rows.items(), strict=True):
    row[0].set_title(name, loc="left", fontsize=10)
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.axis("off")
ax = curve.subplots()
epochs = range(1, vae.n_iter_ + 1)
ax.plot(epochs, vae.history_["log_likelihood"] - vae.history_["kl"], label="Laplace VAE")
ax.axhline(models[f"PCA({K})"].score(X), color="gray", ls="--", label=f"PCA({K})")
ax.set(xlabel="epoch", ylabel="training ELBO (nats)")
ax.legend(frameon=False)
figure.savefig("quickstart.png", dpi=120)
print("\nWrote quickstart.png", file=sys.stderr)
