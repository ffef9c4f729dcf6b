"""Counting what is alive in a device, before and after."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import asdict

import pytest

from pytest_cuda2hal.hal import Statistics

from ..support import ObservedDevice, Poll


class Grown:
    """Whether there is so much more than there was; its text is the evidence."""

    def __init__(
        self,
        device: ObservedDevice,
        before: Statistics,
        *,
        semaphores: int,
        buffers: int,
        unretired: int,
        in_flight: int | None = None,
    ) -> None:
        now = device.statistics()
        self._expected = {"semaphores": semaphores, "buffers": buffers, "pending and in flight": unretired}
        self._seen = {
            "semaphores": now.semaphores - before.semaphores,
            "buffers": now.buffers - before.buffers,
            "pending and in flight": now.pending + now.in_flight - before.pending - before.in_flight,
        }
        if in_flight is not None:
            self._expected["in flight"] = in_flight
            self._seen["in flight"] = now.in_flight - before.in_flight

    def __bool__(self) -> bool:
        return self._seen == self._expected

    def __repr__(self) -> str:
        return f"<expected more than before: {self._expected}; seen {self._seen}>"


class Rest:
    """What is alive now; :meth:`expect` waits until it is so again and names what is too many."""

    def __init__(self, device: ObservedDevice, poll: Poll) -> None:
        self._device = device
        self._poll = poll
        self._before = asdict(device.statistics())

    def left(self) -> dict[str, str]:
        gc.collect()  # errors and the frames that raised them hold each other, and handles with them
        now = asdict(self._device.statistics())
        return {name: f"{was} before, {now[name]} now" for name, was in self._before.items() if now[name] > was}

    def expect(self) -> None:
        """A HAL may let go of what it no longer needs a moment after the signal, so this looks until the deadline."""
        with contextlib.suppress(pytest.fail.Exception):  # of the poll, which cannot say what is left
            self._poll(lambda: not self.left())
        left = self.left()
        assert not left, f"expected nothing more to be alive than before; seen {left}"
