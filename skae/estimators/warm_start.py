"""What a warm start takes over from the last fit: its weights and its history."""

from numbers import Number

import numpy as np
import torch

from skae._module import AutoencoderModule
from skae._utils.fingerprint import describe
from skae.likelihoods import Likelihood

# What continues the last fit, and how to begin anew, in the words of an error.
WARM_START = "warm_start=True continues from the last fit", "Set warm_start=False."


def continue_from(
    last: AutoencoderModule,
    module: AutoencoderModule,
    fixed_scale: np.ndarray | None,
    words: tuple[str, str] = WARM_START,
) -> None:
    """Copy the weights of the last fit, or raise ValueError if its model was another one.

    A fixed scale, ``(1, 1)`` or ``(1, n_features)``, is in the likelihood's units. Floors
    of the scale stay those of the module.
    """
    continues, remedy = words
    before, now = last.spec, module.spec
    for name in ("n_components", "variance_mode", "covariance_type", "network"):
        old, new = getattr(before, name), getattr(now, name)
        if describe(old) != describe(new):
            raise ValueError(
                f"{continues}, which had {name}={old!r} and not {new!r}. {remedy}"
            )
    if not _is_same_density(before.likelihood, now.likelihood):
        raise ValueError(f"{continues}, which had another likelihood. {remedy}")
    floors = {
        name: buffer.clone()
        for name, buffer in module.scale.named_buffers()
        if name.endswith("floor")
    }
    state = last.state_dict()
    if now.n_network_inputs > before.n_network_inputs and "encoder.0.weight" in state:
        # The network did not see yet what is missing: a weight of 0 goes on so.
        first = state["encoder.0.weight"]
        further = first.new_zeros(len(first), now.n_network_inputs - first.shape[1])
        state["encoder.0.weight"] = torch.cat([first, further], dim=1)
    module.load_state_dict(state)
    for name, floor in floors.items():
        module.scale.get_buffer(name).copy_(floor)
    if fixed_scale is not None:
        scale = torch.tensor(fixed_scale, device="cpu")
        module.scale.start(scale.to(module.std_in_units))


def _is_same_density(old: Likelihood, new: Likelihood) -> bool:
    """Whether two likelihoods have the same class and the same numbers and names."""
    simple = (Number, str, np.generic)
    return type(old) is type(new) and all(
        value == vars(new).get(name)
        for name, value in vars(old).items()
        if isinstance(value, simple) and isinstance(vars(new).get(name), simple)
    )


def concatenate_histories(
    earlier: dict[str, np.ndarray], later: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Join the histories of two fits; NaN where one of them lacks a column."""
    histories = earlier, later
    lengths = [len(history["objective"]) for history in histories]
    if 0 in lengths:
        return earlier if lengths[1] == 0 else later
    return {
        name: np.concatenate(
            [
                h.get(name, np.full(n, np.nan))
                for h, n in zip(histories, lengths, strict=True)
            ]
        )
        for name in {**earlier, **later}
    }
