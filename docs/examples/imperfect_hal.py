"""A HAL with two defects, for the page on continuous integration. Each is marked with DEFECT.

Submissions run inside the call that makes them, and buffers are memory that the host has mapped::

    pytest --pyargs pytest_cuda2hal.cts --backend=imperfect_hal:ImperfectDevice
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
from collections.abc import Callable
from typing import Any

from pytest_cuda2hal.hal import (
    Buffer,
    Capability,
    Copy,
    Device,
    DeviceInfo,
    Fill,
    HalError,
    Semaphore,
    StatusCode,
    checked_range,
)

LARGEST = 2**64 - 2


class ImperfectSemaphore(Semaphore):
    def __init__(self, value: int) -> None:
        if value > LARGEST:
            raise HalError(StatusCode.OUT_OF_RANGE, f"a semaphore at {value}")
        self._value = value
        self._failure: HalError | None = None
        self._changed = threading.Condition()

    def query(self) -> int:
        with self._changed:
            if self._failure:
                raise self._failure.again()
            return self._value

    def signal(self, value: int) -> None:
        with self._changed:
            if self.query() >= value or value > LARGEST:
                raise HalError(StatusCode.OUT_OF_RANGE, f"signal({value}) at {self._value}")
            self._value = value
            self._changed.notify_all()

    def fail(self, error: HalError) -> None:
        with self._changed:
            self._failure = error.again()  # DEFECT: the last failure wins, and the contract says the first
            self._changed.notify_all()

    def wait(self, value: int, timeout: float | None = None) -> None:
        if value > LARGEST:
            raise HalError(StatusCode.OUT_OF_RANGE, f"wait({value})")
        with self._changed:
            seconds = None if timeout is None else min(timeout, 1e9)  # more is more than Python can wait
            if not self._changed.wait_for(lambda: self._failure or self._value >= value, seconds):
                raise HalError(StatusCode.DEADLINE_EXCEEDED, f"{value} is not reached")
            self.query()


class ImperfectBuffer(Buffer):
    def __init__(self, size: int) -> None:
        self.size = size
        self._memory = mmap.mmap(-1, max(size, 1))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        offset, length = checked_range(offset, length, self.size)
        return self._memory[offset : offset + length]

    def write(self, data: Any, offset: int = 0) -> None:
        offset, length = checked_range(offset, len(data), self.size)
        self._memory[offset : offset + length] = bytes(data)


class ImperfectDevice(Device):
    capabilities = frozenset({Capability.HOST_FAIL, Capability.FAIL_CODE, Capability.SIDE_ACCESS})
    profile = "strict"
    info = DeviceInfo("mapped host memory", {"imperfect-hal": "1.0"})
    closed = False

    def create_semaphore(self, initial_value: int = 0) -> Semaphore:
        return ImperfectSemaphore(initial_value)

    def allocate_buffer(self, size: int) -> Buffer:
        return ImperfectBuffer(size)

    def queue_execute(self, commands: Any, *, wait: Any = (), signal: Any = (), queue: int = 0) -> None:
        if self.closed:
            raise HalError(StatusCode.FAILED_PRECONDITION, "the device is closed")
        actions = [action(command) for command in getattr(commands, "commands", commands)]
        signals = sorted(signal, key=lambda timepoint: timepoint.value, reverse=True)
        try:
            for timepoint in wait:
                timepoint.semaphore.wait(timepoint.value)
        except HalError as error:
            for timepoint in signals:
                timepoint.semaphore.fail(error)
            return
        for act in actions:
            act()
        for timepoint in signals:
            with contextlib.suppress(HalError):  # it has failed, or is at that value or above
                timepoint.semaphore.signal(timepoint.value)

    def close(self) -> None:
        self.closed = True


def action(command: Any) -> Callable[[], object]:
    """Return a function that does what a command says."""
    match command:
        case Fill(target, _, offset, length):
            offset, length = checked_range(offset, length, target.size)
            data = (command.pattern_bytes * length)[:length]
            return lambda: target.write(data, offset)
        case Copy(source, target, source_offset, target_offset, length):
            length = source.size - source_offset if length is None else length
            # DEFECT: nobody looks whether the range lies inside of both buffers.
            return lambda: ctypes.memmove(target.address + target_offset, source.address + source_offset, length)
    raise HalError(StatusCode.UNIMPLEMENTED, f"no {command!r}")
