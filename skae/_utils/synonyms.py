"""Names that other libraries have for what skae names as scikit-learn does."""

# Names of parameters, in lower case.
PARAMETERS = {
    **dict.fromkeys(
        [
            *("latent_dim", "latent_dims", "latent_size", "n_latent", "n_latents"),
            *("latent_dimension", "encoding_dim", "embedding_dim", "code_size", "z_dim"),
        ],
        "n_components",
    ),
    **dict.fromkeys(
        ["epochs", "n_epochs", "num_epochs", "max_epochs", "epoch_num"], "max_iter"
    ),
    **dict.fromkeys(["lr", "step_size"], "learning_rate_init"),
    **dict.fromkeys(["seed", "random_seed"], "random_state"),
    **dict.fromkeys(
        [
            *("hidden_dim", "hidden_dims", "hidden_size", "hidden_sizes"),
            *("hidden_neurons", "hidden_neuron_list", "encoder_neuron_list"),
        ],
        "hidden_layer_sizes",
    ),
    **dict.fromkeys(["kl_weight", "kld_weight"], "beta"),
    **dict.fromkeys(["weight_decay", "l2_reg"], "alpha"),
    **dict.fromkeys(
        ["loss", "loss_fn", "loss_function", "reconstruction_loss"], "likelihood"
    ),
    "patience": "n_iter_no_change",
    "validation_split": "validation_fraction",
    "strategy": "statistic",  # of scikit-learn's SimpleImputer
}

_NO_NETWORK = (
    "Set hidden_layer_sizes, or pass as network= an object whose methods encoder and "
    "decoder build the modules."
)
_NO_SCHEDULER = (
    "The rate begins at learning_rate_init, and learning_rate says how it changes: "
    "'cosine' or 'constant'."
)

# Names that are no parameters here: the parameter that a class, or the estimator inside it,
# has if the advice is for it, and the advice.
NO_PARAMETERS = {
    "dropout": ("network", "Pass network=skae.networks.MLP(dropout=...)."),
    "optimizer": (
        "learning_rate_init",
        "There is no choice of it: Adam is used, with the rate learning_rate_init.",
    ),
    **dict.fromkeys(["encoder", "decoder"], ("network", _NO_NETWORK)),
    **dict.fromkeys(
        ["scheduler", "scheduler_cls", "lr_scheduler", "lr_schedule"],
        ("learning_rate", _NO_SCHEDULER),
    ),
    **dict.fromkeys(
        ["input_dim", "input_size", "in_features", "n_features"],
        ("n_components", "There is none: fit takes the number of features from X."),
    ),
    **dict.fromkeys(
        ["callbacks", "callback"],
        (
            "max_iter",
            "The method set_callbacks of an autoencoder takes them, before its fit.",
        ),
    ),
    **dict.fromkeys(
        ["validation_data", "validation_set", "val_data", "x_valid", "eval_set"],
        (
            "max_iter",
            "The fit of an autoencoder takes validation rows as X_val=..., and "
            "early_stopping=True takes a part of X.",
        ),
    ),
    **dict.fromkeys(
        ["amp", "use_amp", "mixed_precision"],
        ("precision", "Set precision='bf16', which is autocast, or 'tf32'."),
    ),
}

# Names of choices, in lower case.
CHOICES = {
    **dict.fromkeys(["normal", "mse", "l2"], "gaussian"),
    **dict.fromkeys(["mae", "l1"], "laplace"),
    **dict.fromkeys(["bce", "binary"], "bernoulli"),
    "sigmoid": "logistic",
    **dict.fromkeys(["gmm", "mog"], "mixture"),
    **dict.fromkeys(["full", "diagonal"], "diag"),
    "isotropic": "spherical",
}

_NO_AXES = (
    "the code of a network has no axes in the space of X. n_components_ is its length, "
    "transform returns the codes, and for VariationalAutoencoder "
    "skae.inspection.KLSpectrumDisplay shows how much each component carries."
)

# Names of methods and attributes of what can be saved, and what to use.
OF_SAVED = {"load": "skae.load(path) returns what save has written."}

# The same for autoencoders.
OF_AUTOENCODERS = {
    **OF_SAVED,
    "predict": (
        "an autoencoder predicts no target. A scorer that needs predict, such as "
        "scoring='neg_mean_squared_error', cannot be used. For the error of "
        "reconstructions, set scoring=skae.model_selection.reconstruction_error_scorer; "
        "the default is the score method."
    ),
    **dict.fromkeys(["encode", "embed"], "its name here is transform."),
    "decode": "its name here is inverse_transform.",
    "generate": "VariationalAutoencoder.sample draws new rows.",
    "interpolate": (
        "inverse_transform decodes codes between those of two rows, such as "
        "numpy.linspace(Z[0], Z[1], 10) with Z = transform(X)."
    ),
    "get_nll": "-score_samples(X) is the negative log-likelihood of each row, in nats.",
    "history": "its name here is history_, which fit sets.",
    **dict.fromkeys(
        [
            *("components_", "explained_variance_", "explained_variance_ratio_"),
            "singular_values_",
        ],
        _NO_AXES,
    ),
    "mean_": (
        "rows are centred inside, and X.mean(axis=0) of the training rows is their mean."
    ),
    "noise_variance_": (
        "its square root is scale_, in the units of X. It is None if each row has a scale "
        "of its own."
    ),
    "get_covariance": (
        "it has no closed form for a network. For VariationalAutoencoder, "
        "numpy.cov(sample(10_000), rowvar=False) estimates it."
    ),
    "reconstruction_error": (
        "reconstruct returns reconstructions, and the scorer of their error is "
        "skae.model_selection.reconstruction_error_scorer."
    ),
}

# The same for outlier detectors.
OF_DETECTORS = {
    **OF_SAVED,
    "labels_": (
        "fit_predict(X), or predict of the training rows, returns 1 for inliers and -1 for "
        "outliers."
    ),
    "decision_scores_": (
        "-score_samples of the training rows has their order: high is abnormal."
    ),
    "threshold_": (
        "its name here is offset_, the smallest value of score_samples of an inlier."
    ),
    "predict_proba": (
        "a log-density is no probability of being an outlier. score_samples returns it, "
        "and decision_function is below 0 for outliers."
    ),
}
