"""Devices without observers, and closing under supervision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_cuda2hal.hal import Device

from ..support import ObservedDevice, Tasks

OpenBare = Callable[[], Device]
Close = Callable[[ObservedDevice], None]


@pytest.fixture
def open_bare(hal_backend: Any) -> OpenBare:
    """A function that opens a device of the HAL as it is.

    No observer keeps it, its semaphores or its buffers alive, and none adds a deadline to its waits.
    """
    open_device: OpenBare = hal_backend.open_device
    return open_device


@pytest.fixture
def close(threads: Tasks) -> Close:
    """A function that closes a device on a thread of its own, so that a close that hangs is noticed."""
    return lambda device: threads.start(device.close, "device.close()").result()
