"""Training a module that has been started, and finishing it."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skae._evaluate import mean_over_rows, training_objective, validation_score
from skae._module import AutoencoderModule
from skae._random import torch_generator
from skae._recorder import EpochCallbacks, Recorder
from skae._rows import Rows
from skae._units import Units
from skae.objectives import Objective
from skae.training import Adam, Annealing, Batches, FlatParameters, Plateau, train

# Rows that are enough to see a scale while training, and whether it lies at its floor.
_SCALE_ROWS = 1024
# Frames from a warning here to the line that called fit.
_CALLER = 6


@dataclass(frozen=True)
class Settings:
    """The parameters of an estimator that rule its training."""

    batch_size: int | str
    max_iter: int
    learning_rate_init: float
    alpha: float
    early_stopping: bool
    n_iter_no_change: int
    tol: float
    shuffle: bool
    verbose: int

    def rows_per_batch(self, n_samples: int) -> int:
        """Largest size of a batch.

        Parameters
        ----------
        n_samples : int
            Rows to train on.

        Returns
        -------
        int
            ``batch_size``, or for "auto" a sixteenth of the rows as a power of 2 between
            32 and 512.
        """
        if isinstance(self.batch_size, str):
            return int(np.clip(2 ** round(np.log2(n_samples / 16)), 32, 512))
        return int(self.batch_size)


def fit_module(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    validation: Rows | None,
    units: Units,
    settings: Settings,
    callbacks: EpochCallbacks,
    random_state: RandomState,
) -> list[dict[str, float]]:
    """Train a module that has been started, in place, and fix its scale.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        What to minimise.
    rows : Rows
        Training data.
    validation : Rows or None
        Validation data.
    units : Units
        Statistics of the training data.
    settings : Settings
        How to train.
    callbacks : EpochCallbacks
        Who wants to know of the epochs.
    random_state : RandomState
        Source of the randomness.

    Returns
    -------
    list of dict
        What is known of each epoch.

    Warns
    -----
    ConvergenceWarning
        If training diverges, or if a scale ends at its floor.
    UserWarning
        If the user interrupts; then the last whole epoch counts.
    """
    device = module.ratio.device
    generator = torch_generator(random_state, torch.device("cpu"))
    noise_generator = torch_generator(random_state, device)
    networks = [module.encoder, module.decoder]
    parameters = FlatParameters(
        [p for p in module.parameters() if p.requires_grad],
        # The penalty pulls the networks' correction towards 0, so the model towards its
        # linear path; biases go free.
        penalized=[p for net in networks for p in net.parameters() if p.ndim > 1],
    )
    batches = Batches(
        rows.X,
        rows.index,
        rows.weight,
        units.mean,
        units.std,
        batch_size=settings.rows_per_batch(len(rows)),
        shuffle=settings.shuffle,
        dtype=module.ratio.dtype,
        device=device,
    )
    validate = None
    if validation is not None:

        def validate() -> float:
            # A closed-form scale is only a running mean between the steps.
            _finalize_scale(module, objective, rows.thin(_SCALE_ROWS), units)
            return validation_score(module, objective, validation, units)

    annealing = Annealing(settings.learning_rate_init, settings.max_iter)
    recorder = Recorder(
        parameters,
        objective,
        annealing,
        Plateau(settings.tol, settings.n_iter_no_change),
        callbacks,
        log_unit=units.log_unit,
        scale=lambda: shared_scale(module, units),
        validate=validate,
        early_stopping=settings.early_stopping,
        verbose=settings.verbose,
    )

    def loss(y: Tensor, weight: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        return objective.loss(module, y, weight, noise_generator, progress)

    def finalized_objective() -> float:
        _finalize_scale(module, objective, rows, units)
        return training_objective(module, objective, rows, units)

    first = parameters.values.clone()
    first_objective = finalized_objective()
    optimizer = Adam(parameters, l2=settings.alpha / len(rows))
    try:
        train(
            loss,
            parameters,
            batches,
            optimizer,
            annealing,
            recorder,
            generator=generator,
        )
    except KeyboardInterrupt:
        recorder.restore()
        warnings.warn("Training interrupted by user.", stacklevel=2)
    recorder.restore_best()
    for parameter in module.parameters():
        parameter.grad = None
    module.requires_grad_(False).eval()
    # What a fit returns is finite, and no worse than what it started from: on the training
    # data, or else on the validation data, where the start took part in the comparison.
    last_objective = finalized_objective()
    worse = last_objective > first_objective and not settings.early_stopping
    if worse or not math.isfinite(last_objective):
        if not math.isfinite(last_objective):
            _warn_of_divergence()
        parameters.values.copy_(first)
        _finalize_scale(module, objective, rows, units)
    _warn_of_floor(module, objective, rows, units)
    return recorder.epochs


def shared_scale(module: AutoencoderModule, units: Units) -> float | np.ndarray | None:
    """The model's scale as it stands.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    units : Units
        Statistics of the training data.

    Returns
    -------
    float, ndarray of shape (n_features,) or None
        The scale in the units of X; None if it is a function of the code.
    """
    if not module.scale.is_shared:
        return None
    with torch.no_grad():
        log_scale = module.scale.log_scale(module.ratio.new_empty(1, 0))
    scale = np.exp(log_scale.double().cpu().numpy()[0]) * units.unit
    return scale if module.spec.covariance_type == "diag" else float(scale[0])


def _finalize_scale(
    module: AutoencoderModule, objective: Objective, rows: Rows, units: Units
) -> None:
    """Take a closed-form scale from the whole training set."""
    scale, likelihood = module.scale, module.spec.likelihood
    if not scale.needs_optimal_scale:
        return

    def deviation(y: Tensor, draws: Tensor) -> Tensor:
        return objective.expectation(
            module,
            y,
            draws,
            lambda x, loc, _: scale.pool(likelihood.deviation(x - loc)),
        )[0]

    scale.finalize(mean_over_rows(module, objective, rows, units, deviation))


def _warn_of_floor(
    module: AutoencoderModule, objective: Objective, rows: Rows, units: Units
) -> None:
    """Say so if the scale, or its mean over the data, ends at its floor."""

    def log_scale(y: Tensor, draws: Tensor) -> Tensor:
        return objective.expectation(
            module,
            y,
            draws,
            lambda x, _, outputs: module.scale.log_scale(outputs).expand(len(x), -1),
        )[0]

    some = rows.thin(_SCALE_ROWS)
    mean = mean_over_rows(module, objective, some, units, log_scale)
    at_floor = (mean.exp() <= 1.05 * module.scale.floor).cpu().numpy()[0]
    if at_floor.any():
        warnings.warn(_floor_message(at_floor), ConvergenceWarning, stacklevel=_CALLER)


def _warn_of_divergence() -> None:
    warnings.warn(
        "Training diverged: its last objective is not finite, so the start is kept. "
        "Lower learning_rate_init.",
        ConvergenceWarning,
        stacklevel=_CALLER,
    )


def _floor_message(at_floor: np.ndarray) -> str:
    if len(at_floor) == 1:
        where = "The scale of the likelihood is at its floor min_scale"
    else:
        features = np.flatnonzero(at_floor)
        shown = ", ".join(map(str, features[:10])) + (", ..." if len(features) > 10 else "")
        where = (
            f"The scale of {len(features)} of {len(at_floor)} features (columns {shown}) "
            "is at its floor min_scale"
        )
    return (
        f"{where}: the model reproduces the training data to within their resolution, as "
        "happens with constant features, few samples or many components. The "
        "log-likelihood is finite, but says how small min_scale is. Set min_scale to the "
        "precision of the measurement, drop constant features, lower n_components, or use "
        "variance_mode='fixed'."
    )
