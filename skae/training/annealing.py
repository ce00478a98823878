"""How the learning rate falls."""

import math


class Annealing:
    """Half a cosine from the full learning rate to 0 over the whole training.

    Noise in the gradients keeps the parameters at a distance from the optimum that the
    learning rate sets, so a training that ends early has to be annealed too:
    :meth:`cool_down` brings the rate to 0 within a few epochs.

    Parameters
    ----------
    learning_rate : float
        Learning rate at the start.
    n_epochs : int
        Epochs of the training.

    Attributes
    ----------
    n_epochs : int
        Epochs that the training will have as things stand.
    max_epochs : int
        Epochs that it was to have at first.
    """

    def __init__(self, learning_rate: float, n_epochs: int) -> None:
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.max_epochs = n_epochs
        self._cooling: tuple[float, float] | None = None

    @property
    def is_cooling(self) -> bool:
        """Whether the end has been called early."""
        return self._cooling is not None

    def rate(self, epoch: float) -> float:
        """Learning rate at a time.

        Parameters
        ----------
        epoch : float
            Epochs that are done, whole and in part.

        Returns
        -------
        float
            The rate.
        """
        if self._cooling is None:
            return (
                self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.max_epochs))
            )
        start, rate = self._cooling
        return rate * (self.n_epochs - epoch) / (self.n_epochs - start)

    def cool_down(self, epoch: int, length: int) -> None:
        """End the training early, the rate falling in a straight line.

        Parameters
        ----------
        epoch : int
            Epochs that are done.
        length : int
            Epochs that may follow, if the training is not over before.
        """
        self._cooling = (epoch, self.rate(epoch))
        self.n_epochs = min(self.n_epochs, epoch + length)
