"""The base classes of callbacks in the tests."""


class Callback:
    """A callback that does nothing."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        return False


class FolderCallback(Callback):
    """A callback that writes files, which other processes can read.

    Parameters
    ----------
    folder : Path
        Where to.
    """

    def __init__(self, folder):
        self.folder = folder
