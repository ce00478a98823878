"""How the weight of the KL term grows during training (``kl_schedule``)."""

from collections.abc import Callable

# Share of the training that the linear warm-up takes.
_WARM_UP = 0.25


def constant(progress: float) -> float:
    """The full weight from the first step on.

    Parameters
    ----------
    progress : float
        Share of the steps that are done, this one included; 1 at the last step.

    Returns
    -------
    float
        Factor of beta.
    """
    return 1.0


def linear(progress: float) -> float:
    """A rise from 0 to the full weight over the first quarter of the training.

    Since it is told the share of the steps and not their number, a warm-up can never
    outlast the training.

    Parameters
    ----------
    progress : float
        Share of the steps that are done, this one included; 1 at the last step.

    Returns
    -------
    float
        Factor of beta.
    """
    return min(progress / _WARM_UP, 1.0)


KL_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "linear": linear,
}
