"""A callback of scikit-learn that lets a trial of Optuna end a fit."""

import optuna


class Prune:
    def __init__(self, trial, X_val):
        self.trial, self.X_val = trial, X_val

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            self.trial.report(fitted_estimator.score(self.X_val), context.task_id)
            if self.trial.should_prune():
                raise optuna.TrialPruned

    def teardown(self, estimator, context):
        pass
