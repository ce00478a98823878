"""Blocks of data on their way to a device, so that copies and computation overlap."""

from typing import Any

import torch
from torch import Tensor

from skae._utils.device import copy_beside, fetches, host_buffer, told


class Ring:
    """Two buffers of the host, and two of a device, that take turns.

    While the device computes with one block, the host prepares the next one, and a copy of
    it is made. The host waits only for the copy of the block before the last.

    Parameters
    ----------
    first : Tensor
        The first buffer of the device.
    """

    def __init__(self, first: Tensor) -> None:
        device = first.device
        # Without copies beside the computation, a second buffer would be of no use.
        n = 2 if fetches(device) else 1
        self._hosts = [host_buffer(first, device) for _ in range(n)]
        self._targets = [first, *(torch.empty_like(first) for _ in range(n - 1))]
        # For each buffer, what has been told to the device before its next copy, and its
        # last copy.
        self._used: list[Any] = [told(device) for _ in range(n)]
        self._copied: list[Any] = [None] * n
        self._slot = 0

    def buffer(self) -> Tensor:
        """Return the buffer of the host that the next block is written to.

        The steps with the last block must have been told to the device.
        """
        self._used[self._slot] = told(self._targets[self._slot].device)
        self._slot = (self._slot + 1) % len(self._hosts)
        if self._copied[self._slot] is not None:
            self._copied[self._slot].synchronize()
        return self._hosts[self._slot]

    def send(self, n: int) -> Tensor:
        """Copy the first n numbers of that buffer to the device, ``(n,)``.

        What the device is told after this comes after the copy. The next call but one
        overwrites the result.
        """
        host, target = (
            buffers[self._slot].view(-1)[:n] for buffers in (self._hosts, self._targets)
        )
        self._copied[self._slot] = copy_beside(target, host, self._used[self._slot])
        return target
