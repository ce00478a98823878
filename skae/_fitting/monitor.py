"""What happens around the epochs of a training: history, validation, callbacks, the end."""

import math
from collections.abc import Mapping
from dataclasses import replace
from threading import Event

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skae._evaluation import choose_balance_data, shared_scale
from skae._fitting import diagnosis
from skae._fitting.problem import FitProblem, FitResult
from skae._fitting.report import counted
from skae._fitting.snapshot import EpochState, Snapshot, copy_buffers, restore_buffers
from skae._fitting.training_state import TrainingState
from skae._optim import SCHEDULES, Adam, ModelSnapshot, ModelState, Plateau
from skae._utils.compat import CallbackContext
from skae._utils.errors import InvalidFileError
from skae._utils.random import set_stream_state, stream_state
from skae.objectives import gradient_balance

# Epochs that may diverge before a training gives up: the rate is then 1/32 of the first.
_MOST_DIVERGENCES = 5


class TrainingMonitor:
    """Follows the training of one model, and finishes the model at the end.

    The monitor is the set of hooks (``EpochHooks``) that the training loop calls. It
    writes the history, computes the validation score, calls the user's callbacks, ends the
    training on a plateau and restores finite parameters if the training diverges.

    Parameters
    ----------
    problem : FitProblem
        The model and its data.
    optimizer : Adam
        The optimiser of the parameters that are trained.
    model : int
        The model's position in these parameters.
    interrupted : Event
        Set if the user interrupts; then this training ends too.
    """

    def __init__(
        self,
        problem: FitProblem,
        optimizer: Adam,
        model: int,
        interrupted: Event,
    ) -> None:
        options = problem.options
        self.problem = problem
        self.peers = problem.rows.peers
        self.optimizer = optimizer
        self.model = model
        self.interrupted = interrupted
        schedule = SCHEDULES[options.learning_rate]
        self.schedule = schedule(options.learning_rate_init, options.max_iter)
        self.plateau = Plateau(options.tol, options.n_iter_no_change)
        self.epochs: list[dict[str, float]] = []
        self.warnings: list[tuple[str, type[Warning]]] = []
        self.error: Exception | None = None
        # Epochs that are done, those that diverged included.
        self.n_done = 0
        self.n_divergences = 0
        # Whether a callback or a divergence ended the training.
        self.has_stopped = False
        self._epoch_context: CallbackContext | None = None
        self._is_settled = self._has_diverged = self._was_interrupted = False
        buffers = copy_buffers(problem.module)
        self._start = Snapshot(optimizer.parameters.get(model), buffers)
        # Number of good epochs, and the state after the last of them.
        self._last_good: tuple[int, ModelSnapshot | ModelState, Mapping[str, Tensor]]
        # Kept whole, because a training may be interrupted in the middle of an epoch's end.
        self._state: TrainingState | None = None
        self._balance_data: tuple[Tensor, Tensor, Tensor] | None = None
        if options.gradient_balance:
            self._balance_data = choose_balance_data(
                problem.module, problem.objective, problem.rows, problem.standardization
            )
        # Epoch and state of the best validation score.
        self._best: tuple[int, Snapshot] | None = None
        if options.early_stopping and problem.validation is not None:
            # The start, too, may be the best.
            self.plateau.update(-problem.first_score)
            self._best = 0, self._start
        if problem.resumed is not None:
            try:
                self._resume(problem.resumed)
            # A file may hold anything, and torch and numpy raise errors of many kinds. The
            # models beside this one go on.
            except Exception as error:
                self.error = InvalidFileError(
                    f"The state of the training in the checkpoint is of no use: {error!r}"
                )
                self.error.__cause__ = error
                self.has_stopped = True

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.has_stopped or self.n_done >= self.schedule.n_epochs

    def begin(self, snapshot: ModelSnapshot) -> None:
        """Keep the state before the first epoch."""
        resumed = self.problem.resumed
        buffers = self._start.buffers if resumed is None else resumed.buffers
        self._last_good = len(self.epochs), snapshot, buffers
        if resumed is None:
            self._state = self._capture()

    def _resume(self, state: TrainingState) -> None:
        """Go on after the epochs of a former training."""
        problem, progress = self.problem, state.progress
        own = state.optimizer.state()
        snapshots = [state.start] if state.best is None else [state.start, state.best]
        for values in (own.values, *(snapshot.values for snapshot in snapshots)):
            if values.shape != self._start.values.shape or not values.isfinite().all():
                raise ValueError("parameters are missing or not finite")
        self.optimizer.restore(self.model, own)
        restore_buffers(problem.module, state.buffers, with_scale=True)
        streams = [*problem.generators, *problem.streams]
        for stream, kept in zip(streams, state.generators, strict=True):
            set_stream_state(stream, kept)
        problem.first_objective = float(progress["first_objective"])
        problem.first_score = float(progress["first_score"])
        self.schedule.restore(progress["schedule"])
        self.plateau = Plateau(problem.options.tol, problem.options.n_iter_no_change)
        self.plateau.restore(progress["plateau"])
        self.epochs = list(state.history)
        self.n_done, self.n_divergences = state.epoch, int(progress["n_divergences"])
        self.has_stopped = bool(progress["has_stopped"])
        self._has_diverged = bool(progress["has_diverged"])
        self._is_settled = bool(progress["is_settled"])
        self._start = state.start
        if state.best is not None:
            self._best = int(progress["best_iter"]), state.best
        self._state = state

    def _capture(self) -> TrainingState | None:
        """Return the present state of the training, if it has to be kept."""
        problem = self.problem
        if problem.checkpoint is None and not problem.keeps_state:
            return None
        _, optimizer, buffers = self._last_good
        best_iter, best = self._best or (0, None)
        return TrainingState(
            optimizer,
            buffers,
            self._start,
            best,
            [stream_state(each) for each in (*problem.generators, *problem.streams)],
            list(self.epochs),
            {
                "epoch": self.n_done,
                "n_divergences": self.n_divergences,
                "has_stopped": self.has_stopped,
                "has_diverged": self._has_diverged,
                "is_settled": self._is_settled,
                "best_iter": best_iter,
                "first_objective": float(problem.first_objective),
                "first_score": float(problem.first_score),
                "schedule": self.schedule.state(),
                "plateau": self.plateau.state(),
            },
        )

    def on_epoch_begin(self) -> None:
        """Handle the begin of an epoch; see `EpochHooks.on_epoch_begin`."""
        if self.interrupted.is_set():
            raise KeyboardInterrupt
        callbacks, checkpoint = self.problem.callbacks, self.problem.checkpoint
        try:
            if checkpoint is not None:
                # The states of all starts are there now, if they are trained side by side.
                checkpoint.write()
            if callbacks is not None:
                with self.peers.together(), self.problem.callback_lock:
                    self._epoch_context = callbacks.context.subcontext(task_name="epoch")
                    self._epoch_context.call_on_fit_task_begin(**callbacks.kwargs)
        # A user's callback may raise anything; `conclude` passes the error on.
        except Exception as error:
            self.error = error

    def on_epoch_end(self, metrics: np.ndarray, progress: float, state: EpochState) -> bool:
        """Handle the end of an epoch; see `EpochHooks.on_epoch_end`."""
        if self.error is not None:
            return True
        try:
            self.n_done += 1
            self.has_stopped = self._end_epoch(metrics, progress, state)
            kept = self._capture()
            if kept is not None:
                self._state = kept
                checkpoint = self.problem.checkpoint
                if checkpoint is not None and checkpoint.is_due(self.n_done):
                    checkpoint.put(self.problem.start, kept)
            if self.is_over:
                self._leave_snapshots()
            return self.has_stopped
        # Callbacks and modules are the user's, and may raise anything.
        except Exception as error:
            self.error = error
            return True

    def _end_epoch(self, metrics: np.ndarray, progress: float, state: EpochState) -> bool:
        """Record an epoch, and return whether the training ends."""
        snapshot, buffers, epoch = state.snapshot, state.buffers, None
        metrics = self.peers.sum(metrics)
        if np.isfinite(metrics).all() and snapshot.is_finite():
            epoch = self._describe(metrics, progress, state)
        if epoch is None or not state.has_finite_buffers:
            return self._end_diverged_epoch()
        if not math.isfinite(epoch.get("validation_score", 0.0)):
            return self._end_diverged_epoch()
        self.epochs.append(epoch)
        self._last_good = len(self.epochs), snapshot, buffers
        stop = self._call_callbacks()
        # Epochs are not comparable while the weight of the KL changes.
        self._is_settled = self._is_settled or self.problem.objective.is_settled(progress)
        if self._is_settled:
            self._watch(epoch, snapshot, buffers)
        is_last = stop or self.n_done >= self.schedule.n_epochs
        n_left = 0 if stop else self.schedule.n_epochs - self.n_done
        self.problem.report.add(len(self.epochs), epoch, is_last=is_last, n_left=n_left)
        return stop

    def _end_diverged_epoch(self) -> bool:
        """Go back to the last good state with half the rate; return whether to give up."""
        self.n_divergences += 1
        self.restore_last_epoch()
        stop = self._call_callbacks()
        self._has_diverged = self.n_divergences >= _MOST_DIVERGENCES
        self.schedule.halve()
        return stop or self._has_diverged

    def _describe(
        self, metrics: np.ndarray, progress: float, state: EpochState
    ) -> dict[str, float]:
        """Return the history of an epoch, in the units of X."""
        problem = self.problem
        epoch = problem.objective.history(metrics, progress)
        log_det_units = problem.log_det_units
        epoch["objective"] += log_det_units
        epoch["log_likelihood"] -= log_det_units
        in_units = shared_scale(state.scale, problem.standardization)
        if in_units is not None:
            epoch["scale"] = math.exp(np.nanmean(np.log(in_units)))
        if problem.validation is not None:
            score = state.validation_score
            epoch["validation_score"] = (
                problem.validation_score() if score is None else score
            )
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
        with self.peers.together(), self.problem.callback_lock:
            stop = context.call_on_fit_task_end(
                **callbacks.kwargs, reconstruction_attributes=callbacks.fitted_attributes
            )
        return bool(self.peers.largest(stop))

    def _watch(
        self,
        epoch: dict[str, float],
        snapshot: ModelSnapshot,
        buffers: Mapping[str, Tensor],
    ) -> None:
        """Keep the best state, and let the training end on a plateau."""
        watched = epoch["objective"]
        early_stopping = self.problem.options.early_stopping
        if early_stopping:
            watched = -epoch["validation_score"]
        if self.plateau.update(watched) and early_stopping:
            self._best = len(self.epochs), Snapshot(snapshot.values(), buffers)
        if self.plateau.reached and not self.schedule.is_ending:
            self._go_on_with_best(snapshot, buffers)
            self.schedule.end_soon(self.n_done, self.plateau.patience)

    def _go_on_with_best(
        self, snapshot: ModelSnapshot, buffers: Mapping[str, Tensor]
    ) -> None:
        """Go back to the best state, if there is one, but for moments and running scale."""
        if self._best is None:
            return
        best = self._best[1]
        self._restore(best, with_scale=False)
        state = replace(snapshot.state(), values=best.values)
        # From here the training goes on after an interrupt or a divergence, too.
        self._last_good = len(self.epochs), state, {**buffers, **best.without_scale()}

    def _restore(self, state: Snapshot, *, with_scale: bool = True) -> None:
        """Go back to the parameters and buffers of a former state."""
        parameters, module = self.optimizer.parameters, self.problem.module
        state.restore(module, parameters, self.model, with_scale=with_scale)

    def interrupt(self) -> None:
        """Go back to the last whole epoch, because the user interrupts."""
        self._was_interrupted = True
        if self.problem.keeps_state and self._state is not None:
            # An interrupt may come in the middle of an epoch's end. A warm start goes on
            # from the model that is kept.
            state = self._state
            self._last_good = len(state.history), state.optimizer, state.buffers
        self.restore_last_epoch()
        checkpoint = self.problem.checkpoint
        if checkpoint is not None and self._state is not None:
            checkpoint.put(self.problem.start, self._state)

    def restore_last_epoch(self) -> None:
        """Go back to the state of the last whole epoch, whose parameters are finite."""
        n_epochs, snapshot, buffers = self._last_good
        # An interrupt may come in the middle of an epoch's end.
        del self.epochs[n_epochs:]
        self.optimizer.restore(self.model, snapshot.state())
        restore_buffers(self.problem.module, buffers, with_scale=True)

    def _leave_snapshots(self) -> None:
        """Keep the numbers of this model only, while others beside it go on."""
        n_epochs, snapshot, buffers = self._last_good
        self._last_good = n_epochs, snapshot.state(), buffers
        if self._state is not None:
            self._state = self._state.detach()

    def _reason_of_end(self) -> str:
        """Return why the training ended before the last epoch, or ""."""
        if self._was_interrupted or self.n_done >= self.schedule.max_epochs:
            return ""
        if self._has_diverged:
            return "the training diverged"
        if self.schedule.is_ending:
            options = self.problem.options
            score = " of the validation score" if options.early_stopping else ""
            epochs = counted(self.plateau.patience, "epoch")
            return f"no improvement{score} by tol={options.tol:g} in {epochs}"
        return "by a callback"

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
        if self._was_interrupted:
            has_checkpoint = problem.checkpoint is not None
            problem.report.interrupt(len(self.epochs), has_checkpoint=has_checkpoint)
        if problem.checkpoint is not None and self._state is not None:
            problem.checkpoint.put(problem.start, self._state)
        self._restore_best()
        problem.module.requires_grad_(False).eval()
        best_iter = len(self.epochs) if self._best is None else self._best[0]
        loss = problem.final_objective()
        kept = last = problem.compared_objective(loss)
        is_worse = last > problem.first_objective and not early_stopping
        if is_worse or not math.isfinite(loss):
            self._has_diverged |= not math.isfinite(loss)
            best_iter, loss = 0, problem.first_objective
            kept = problem.first_objective
            self._restore(self._start)
            if problem.compared_rows is not problem.rows:
                loss = problem.final_objective()
        if early_stopping:
            loss = self.plateau.best
        module = problem.module
        # Processors of different kinds may round differently.
        self.peers.broadcast_([*module.parameters(), *module.buffers()])
        problem.module.leave_shared_memory()
        problem.report.close(best_iter, kept + problem.log_det_units, self._reason_of_end())
        message = diagnosis.end_message(
            problem,
            diverged=self._has_diverged,
            n_divergences=self.n_divergences,
            learning_rate=self.schedule.learning_rate,
            best_iter=best_iter,
            n_iter=len(self.epochs),
            last=last,
        )
        if self._was_interrupted and not self._has_diverged:
            # An interrupt has a message of its own.
            message = None
        found = diagnosis.final_messages(problem, message)
        self.warnings += [(message, ConvergenceWarning) for message in found]
        return FitResult(
            self.epochs,
            loss,
            best_iter,
            is_interrupted=self._was_interrupted,
            state=self._state.detach() if problem.keeps_state and self._state else None,
            warnings=self.warnings,
        )
