"""What happens around the epochs of a training: history, validation, callbacks, the end."""

import math
from threading import Event

import numpy as np
import torch
from sklearn.callback import CallbackContext
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skae._data import Rows, Standardization
from skae._evaluation import shared_scale
from skae._fitting import diagnosis
from skae._fitting.problem import FitProblem, FitResult
from skae._fitting.snapshot import Snapshot
from skae._module import AutoencoderModule
from skae._optim import CosineSchedule, FlatParameters, Plateau
from skae.objectives import Objective, gradient_balance

# Rows and different draws that the balance of the gradients is computed from.
_BALANCE_ROWS = 512
_BALANCE_DRAWS = 256


class TrainingMonitor:
    """Follows the training of one model, and finishes the model at the end.

    The monitor is the set of hooks (``EpochHooks``) that the training loop calls. It
    writes the history, computes the validation score, calls the user's callbacks, ends the
    training on a plateau and restores finite parameters if the training diverges.

    Parameters
    ----------
    problem : FitProblem
        The model and its data.
    parameters : FlatParameters
        The parameters that are trained.
    model : int
        The model's position in these parameters.
    interrupted : Event
        Set if the user interrupts; then this training ends too.
    """

    def __init__(
        self,
        problem: FitProblem,
        parameters: FlatParameters,
        model: int,
        interrupted: Event,
    ) -> None:
        options = problem.options
        self.problem = problem
        self.parameters = parameters
        self.model = model
        self.interrupted = interrupted
        self.schedule = CosineSchedule(options.learning_rate_init, options.max_iter)
        self.plateau = Plateau(options.tol, options.n_iter_no_change)
        self.epochs: list[dict[str, float]] = []
        self.warnings: list[tuple[str, type[Warning]]] = []
        self.error: Exception | None = None
        self._epoch_context: CallbackContext | None = None
        self._is_settled = False
        self._start = self._last_good = self._snapshot()
        scale = problem.module.scale
        self._start_scale = {name: b.clone() for name, b in scale.named_buffers()}
        self._balance_data: tuple[Tensor, Tensor, Tensor] | None = None
        if options.gradient_balance:
            self._balance_data = choose_balance_data(
                problem.module, problem.objective, problem.rows, problem.standardization
            )
        # Epoch and state of the best validation score.
        self._best: tuple[int, Snapshot] | None = None
        self._has_diverged = self._was_interrupted = False
        if options.early_stopping and problem.validation is not None:
            # The start, too, may be the best.
            self.plateau.update(-problem.first_score)
            self._best = 0, self._start

    def on_epoch_begin(self) -> None:
        """Handle the begin of an epoch; see `EpochHooks.on_epoch_begin`."""
        if self.interrupted.is_set():
            raise KeyboardInterrupt
        callbacks = self.problem.callbacks
        if callbacks is None:
            return
        try:
            with self.problem.callback_lock:
                self._epoch_context = callbacks.context.subcontext(task_name="epoch")
                self._epoch_context.call_on_fit_task_begin(**callbacks.kwargs)
        # A user's callback may raise anything; `conclude` passes the error on.
        except Exception as error:
            self.error = error

    def on_epoch_end(self, metrics: np.ndarray, progress: float) -> bool:
        """Handle the end of an epoch; see `EpochHooks.on_epoch_end`."""
        if self.error is not None:
            return True
        try:
            return self._end_epoch(metrics, progress)
        # Callbacks and modules are the user's, and may raise anything.
        except Exception as error:
            self.error = error
            return True

    def _end_epoch(self, metrics: np.ndarray, progress: float) -> bool:
        """Record an epoch, and return whether the training ends."""
        state = self._snapshot()
        epoch = None
        if np.isfinite(metrics).all() and _is_finite(state.values):
            epoch = self._describe(metrics, progress)
        if epoch is None or not math.isfinite(epoch.get("validation_score", 0.0)):
            self._has_diverged = True
            self.restore_last_epoch()
            self._call_callbacks()
            return True
        self.epochs.append(epoch)
        self._last_good = state
        stop = self._call_callbacks()
        # Epochs are not comparable while the weight of the KL changes.
        self._is_settled = self._is_settled or self.problem.objective.is_settled(progress)
        if self._is_settled:
            self._watch(epoch, state)
        is_last = stop or len(self.epochs) >= self.schedule.n_epochs
        self.problem.report.add(len(self.epochs), epoch, is_last=is_last)
        return stop

    def _describe(self, metrics: np.ndarray, progress: float) -> dict[str, float]:
        """Return the history of an epoch, in the units of X."""
        problem = self.problem
        epoch = problem.objective.history(metrics, progress)
        log_det_units = problem.log_det_units
        epoch["objective"] += log_det_units
        epoch["log_likelihood"] -= log_det_units
        scale = shared_scale(problem.module.scale, problem.standardization)
        if scale is not None:
            epoch["scale"] = math.exp(np.nanmean(np.log(scale)))
        if problem.validation is not None:
            epoch["validation_score"] = problem.validation_score()
        if self._balance_data is not None:
            module, objective = problem.module, problem.objective
            balance = gradient_balance(module, objective, *self._balance_data, progress)
            epoch.update(balance)
        return epoch

    def _call_callbacks(self) -> bool:
        """Call the callbacks at the end of an epoch; return whether one asks to stop."""
        callbacks, context = self.problem.callbacks, self._epoch_context
        if callbacks is None or context is None:
            return False
        with self.problem.callback_lock:
            return context.call_on_fit_task_end(
                **callbacks.kwargs, reconstruction_attributes=callbacks.fitted_attributes
            )

    def _watch(self, epoch: dict[str, float], state: Snapshot) -> None:
        """Keep the best state, and start the cooldown on a plateau."""
        watched = epoch["objective"]
        early_stopping = self.problem.options.early_stopping
        if early_stopping:
            watched = -epoch["validation_score"]
        if self.plateau.update(watched) and early_stopping:
            self._best = len(self.epochs), state
        if self.plateau.reached and not self.schedule.is_cooling:
            self._restore_best()
            self.schedule.start_cooldown(len(self.epochs), self.plateau.patience)

    def _snapshot(self) -> Snapshot:
        """Copy the present state."""
        return Snapshot.take(self.problem.module, self.parameters, self.model)

    def _restore(self, state: Snapshot) -> None:
        """Go back to a former state."""
        state.restore(self.problem.module, self.parameters, self.model)

    def interrupt(self) -> None:
        """Go back to the last whole epoch, because the user interrupts."""
        self._was_interrupted = True
        self.restore_last_epoch()
        self.warnings.append(("Training interrupted by user.", UserWarning))

    def restore_last_epoch(self) -> None:
        """Go back to the state of the last whole epoch, whose parameters are finite."""
        self._restore(self._last_good)

    def _restore_best(self) -> None:
        """Go back to the state of the best validation score, if there is one."""
        if self._best is not None:
            self._restore(self._best[1])

    def conclude(self) -> FitResult:
        """Finish the model and return the result; an error belongs to this model alone."""
        if self.error is None:
            try:
                return self._finish()
            # A user's module may raise here too; the other models must not be affected.
            except Exception as error:
                self.error = error
        return FitResult([], error=self.error)

    def _finish(self) -> FitResult:
        """Set the final scale of the trained model, or restore the start if it is better.

        The result is finite, and no worse than the start: on the training data, or with
        early stopping on the validation data, among whose scores is that of the start.
        """
        problem, early_stopping = self.problem, self.problem.options.early_stopping
        problem.report.end()
        self._restore_best()
        problem.module.requires_grad_(False).eval()
        best_iter = len(self.epochs) if self._best is None else self._best[0]
        last = loss = problem.final_objective()
        is_worse = loss > problem.first_objective and not early_stopping
        if is_worse or not math.isfinite(loss):
            self._has_diverged |= not math.isfinite(loss)
            best_iter, loss = 0, problem.first_objective
            self._restore(self._start)
            for name, value in self._start_scale.items():
                problem.module.scale.get_buffer(name).copy_(value)
        if early_stopping:
            loss = self.plateau.best
        problem.module.leave_shared_memory()
        problem.report.close(best_iter)
        message = diagnosis.end_message(
            problem,
            diverged=self._has_diverged,
            best_iter=best_iter,
            n_iter=len(self.epochs),
            last=last,
        )
        if self._was_interrupted and not self._has_diverged:
            # An interrupt has a message of its own.
            message = None
        found = diagnosis.final_messages(problem, message)
        self.warnings += [(message, ConvergenceWarning) for message in found]
        return FitResult(self.epochs, loss, best_iter, warnings=self.warnings)


def choose_balance_data(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose rows and draws for the balance of the gradients, the same in each epoch.

    Returns rows ``(n, d)``, row weights ``(n, 1)`` and draws ``(n_draws, n, k)``. No random
    number is drawn, so that the training does not depend on the measurement.
    """
    rows = rows.subsample(_BALANCE_ROWS)
    y = torch.from_numpy(standardization.standardize(rows.block())).to(module.device)
    y = module.prepare(y)
    row_weight = torch.from_numpy(rows.weight / len(rows))[:, None]
    # The draws are pairs, z and -z, half the set apart. Each row takes two different
    # pairs, one for each half of its own draws.
    draws = objective.draws(module.spec, _BALANCE_DRAWS)
    half = len(draws) // 2
    shift = torch.tensor([[0], [half // 3]], device="cpu")
    pair = (torch.arange(len(rows), device="cpu") + shift) % half
    draws = torch.stack([draws[pair], draws[pair + half]], dim=1).flatten(0, 1)
    like = module.std_in_units
    return y.to(like), row_weight.to(like), draws.to(like)


def _is_finite(values: Tensor) -> bool:
    """Whether all numbers are finite."""
    # A sum is faster, and that of finite numbers is nearly always finite.
    return math.isfinite(values.sum()) or bool(torch.isfinite(values).all())
