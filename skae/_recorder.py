"""Following a training: history, stopping, callbacks, and a way back from divergence."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from sklearn.callback import CallbackContext
from sklearn.exceptions import ConvergenceWarning

from skae.objectives import Objective
from skae.training import Annealing, FlatParameters, Plateau


class EpochCallbacks:
    """Tells scikit-learn's callbacks of each epoch.

    Parameters
    ----------
    context : CallbackContext
        The context of the fit.
    told : dict
        What callbacks may ask for: estimator, X, y and metadata.
    fitted_attributes : callable
        Returns the attributes of an estimator fitted up to now.
    is_silent : bool, default=False
        Whether to tell nobody: of several starts, callbacks follow the first.
    """

    def __init__(
        self,
        context: CallbackContext,
        told: dict[str, Any],
        fitted_attributes: Callable[[], dict[str, Any]],
        is_silent: bool = False,
    ) -> None:
        self.context = context
        self.told = told
        self.fitted_attributes = fitted_attributes
        self.is_silent = is_silent
        # Whose turn it is, where several threads train.
        self.turn: AbstractContextManager[Any] = nullcontext()

    def begin(self) -> None:
        """Called before each epoch."""
        if self.is_silent:
            return
        with self.turn:
            self.epoch = self.context.subcontext(task_name="epoch")
            self.epoch.call_on_fit_task_begin(**self.told)

    def end(self) -> bool:
        """Called after each epoch.

        Returns
        -------
        bool
            Whether a callback asks to stop.
        """
        if self.is_silent:
            return False
        with self.turn:
            return self.epoch.call_on_fit_task_end(
                **self.told, reconstruction_attributes=self.fitted_attributes
            )


class Recorder:
    """The hooks of a training.

    Parameters
    ----------
    parameters : FlatParameters
        What is being trained.
    model : int
        Which of the models in it.
    objective : Objective
        Names the metrics.
    annealing : Annealing
        Cools down when nothing improves any more.
    plateau : Plateau
        Tells when nothing improves.
    callbacks : EpochCallbacks
        Who else wants to know.
    log_unit : float
        What a log-density loses on the way to the units of X.
    scale : callable
        Returns the model's scale in the units of X, or None.
    validate : callable or None
        Returns the validation score.
    probe : callable or None
        Takes the share of the training that is done, and returns more to be recorded.
    early_stopping : bool
        Whether the validation score, and not the objective, is watched; then the best
        parameters are kept.
    verbose : int
        Whether to print a line for each epoch.
    """

    def __init__(
        self,
        parameters: FlatParameters,
        model: int,
        objective: Objective,
        annealing: Annealing,
        plateau: Plateau,
        callbacks: EpochCallbacks,
        *,
        log_unit: float,
        scale: Callable[[], Any],
        validate: Callable[[], float] | None,
        probe: Callable[[float], dict[str, float]] | None,
        early_stopping: bool,
        verbose: int,
    ) -> None:
        self.parameters = parameters
        self.model = model
        self.objective = objective
        self.annealing = annealing
        self.plateau = plateau
        self.callbacks = callbacks
        self.log_unit = log_unit
        self.scale = scale
        self.validate = validate
        self.probe = probe
        self.early_stopping = early_stopping
        self.verbose = verbose
        self.epochs: list[dict[str, float]] = []
        self.warnings: list[tuple[str, type[Warning]]] = []
        self._is_settled = False
        self._last_good = parameters.get(model)
        self._best: torch.Tensor | None = None
        if early_stopping and validate is not None:
            # The start, too, may turn out to be the best.
            plateau.update(-validate())
            self._best = self._last_good

    def on_epoch_begin(self) -> None:
        """Called before each epoch."""
        self.callbacks.begin()

    def on_epoch_end(self, metrics: np.ndarray, progress: float) -> bool:
        """Called after each epoch with the means of its metrics.

        Parameters
        ----------
        metrics : ndarray
            Means of the loss's metrics.
        progress : float
            Share of the training that is done.

        Returns
        -------
        bool
            Whether to stop.
        """
        values = self.parameters.get(self.model)
        if not (np.isfinite(metrics).all() and _is_finite(values)):
            self.warnings.append(
                (
                    f"Training diverged in epoch {len(self.epochs) + 1}; the parameters "
                    "from before that epoch are kept. Lower learning_rate_init.",
                    ConvergenceWarning,
                )
            )
            self.restore()
            self.callbacks.end()
            return True
        self._last_good = values
        epoch = self._record(metrics, progress)
        if self.verbose:
            print(f"Iteration {len(self.epochs)}, loss = {epoch['objective']:.8f}")
        stop = self.callbacks.end()
        # While the weight of the KL still changes, no two epochs can be compared.
        self._is_settled = self._is_settled or self.objective.is_settled(progress)
        if not self._is_settled:
            return stop
        watched = epoch["objective"]
        if self.early_stopping:
            watched = -epoch["validation_score"]
        if self.plateau.update(watched) and self.early_stopping:
            self._best = values
        if self.plateau.reached and not self.annealing.is_cooling:
            self.restore_best()
            self.annealing.cool_down(len(self.epochs), self.plateau.patience)
        return stop

    def _record(self, metrics: np.ndarray, progress: float) -> dict[str, float]:
        epoch = self.objective.history(metrics, progress)
        # Everything that users see is in the units of X.
        epoch["objective"] += self.log_unit
        epoch["log_likelihood"] -= self.log_unit
        if (scale := self.scale()) is not None:
            epoch["scale"] = math.exp(np.log(scale).mean())
        if self.validate is not None:
            epoch["validation_score"] = self.validate()
        if self.probe is not None:
            epoch.update(self.probe(progress))
        self.epochs.append(epoch)
        return epoch

    def restore(self) -> None:
        """Go back to the parameters of the last whole epoch, which were finite."""
        self.parameters.put(self.model, self._last_good)

    def restore_best(self) -> None:
        """Go back to the parameters of the best validation score, if that was watched."""
        if self._best is not None:
            self.parameters.put(self.model, self._best)


def _is_finite(values: torch.Tensor) -> bool:
    # A sum is faster to come by, and finite numbers nearly always have a finite one.
    return math.isfinite(values.sum()) or bool(torch.isfinite(values).all())
