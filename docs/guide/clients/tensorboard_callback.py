"""A callback of scikit-learn that writes the score of each epoch for TensorBoard."""

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    def __init__(self, folder):
        self.folder = folder

    def setup(self, estimator, context):
        self.writer = SummaryWriter(self.folder)

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        if context.task_name == "epoch":
            score = fitted_estimator.score(X)
            self.writer.add_scalar("score", score, context.task_id)

    def teardown(self, estimator, context):
        self.writer.close()
