"""A callback of the benchmarks."""


class EpochEnds:
    """Callback that keeps the time of a clock, in seconds, at the end of each epoch."""

    def __init__(self, clock):
        self.clock = clock
        self.times = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.times.append(self.clock())
        return False
