"""How a case makes semaphores and buffers in bulk."""

from __future__ import annotations

from typing import Any

from .buffers import ObservedBuffer
from .device import ObservedDevice
from .naming import assigned_names, assigned_single
from .semaphores import ObservedSemaphore


class Semaphores:
    """``semaphores(3)`` makes three at 0; ``semaphores.at(5)`` makes one at 5."""

    def __init__(self, device: ObservedDevice) -> None:
        self._device = device

    def __call__(self, count: int) -> list[ObservedSemaphore]:
        made = [self._device.make_semaphore(0, None) for _ in range(count)]
        if self._device.calls is not None:
            self._device.calls.named((one.serial, name) for one, name in zip(made, assigned_names(count), strict=False))
        return made

    def at(self, initial_value: int) -> ObservedSemaphore:
        """Make one semaphore with an initial value."""
        made = self._device.make_semaphore(initial_value, None)
        if self._device.calls is not None and (name := assigned_single()):
            self._device.calls.named([(made.serial, name)])
        return made


class Buffers:
    """``buffers.filled(0, count=2)`` makes two, every byte 0, written by the host; without ``count`` it makes one."""

    #: Bytes, where a case does not care.
    SIZE = 256

    def __init__(self, device: ObservedDevice) -> None:
        self._device = device

    def filled(self, byte: int, *, count: int | None = None, size: int = SIZE) -> Any:
        """Make one buffer, or a list of ``count``, every byte set from the host."""
        made: list[ObservedBuffer] = []
        for _ in range(1 if count is None else count):
            buffer = self._device.allocate_buffer(size)
            buffer.fill_by_host(byte)
            made.append(buffer)
        if self._device.calls is not None:
            names = [assigned_single() or ""] if count is None else assigned_names(count)
            self._device.calls.named((one.serial, name) for one, name in zip(made, names, strict=False) if name)
        return made[0] if count is None else made

    def holding(self, data: bytes) -> ObservedBuffer:
        """Make one buffer with the given bytes, set from the host."""
        buffer = self._device.allocate_buffer(len(data))
        buffer.write(data)
        if self._device.calls is not None and (name := assigned_single()):
            self._device.calls.named([(buffer.serial, name)])
        return buffer
