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
    **dict.fromkeys(["epochs", "n_epochs", "num_epochs", "max_epochs"], "max_iter"),
    **dict.fromkeys(["lr", "step_size"], "learning_rate_init"),
    **dict.fromkeys(["seed", "random_seed"], "random_state"),
    **dict.fromkeys(
        ["hidden_dim", "hidden_dims", "hidden_size", "hidden_sizes"], "hidden_layer_sizes"
    ),
    **dict.fromkeys(["kl_weight", "kld_weight"], "beta"),
    **dict.fromkeys(["weight_decay", "l2_reg"], "alpha"),
    "patience": "n_iter_no_change",
}

# Names that are no parameters here: the parameter that a class has if the advice is for it,
# and the advice.
NO_PARAMETERS = {
    "dropout": ("network", "Pass network=skae.networks.MLP(dropout=...)."),
    "optimizer": (
        "learning_rate_init",
        "There is no choice of it: Adam is used, with the rate learning_rate_init.",
    ),
}

# Names of choices, in lower case.
CHOICES = {
    **dict.fromkeys(["normal", "mse", "l2"], "gaussian"),
    **dict.fromkeys(["mae", "l1"], "laplace"),
    **dict.fromkeys(["bce", "binary"], "bernoulli"),
}
