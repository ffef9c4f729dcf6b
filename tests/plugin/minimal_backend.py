"""A complete adapter, as small as one can be: a host HAL whose submissions run inside the call that makes them.

Run the suite on it from the folder that holds it::

    pytest --pyargs pytest_cuda2hal.cts --backend=minimal_backend:HostDevice
"""

from __future__ import annotations

import contextlib
import threading

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


class HostSemaphore(Semaphore):
    def __init__(self, value):
        self._value = value
        self._failure = None
        self._changed = threading.Condition()  # its lock is reentrant

    def query(self):
        with self._changed:
            if self._failure:
                raise self._failure.again()
            return self._value

    def signal(self, value):
        with self._changed:
            if self.query() >= value or value > LARGEST:
                raise HalError(StatusCode.OUT_OF_RANGE, f"signal({value}) at {self._value}")
            self._value = value
            self._changed.notify_all()

    def fail(self, error):
        with self._changed:
            self._failure = self._failure or error.again()  # the caller may change its own
            self._changed.notify_all()

    def wait(self, value, timeout=None):
        if value > LARGEST:
            raise HalError(StatusCode.OUT_OF_RANGE, f"wait({value})")
        with self._changed:
            if not self._changed.wait_for(lambda: self._failure or self._value >= value, timeout):
                raise HalError(StatusCode.DEADLINE_EXCEEDED, f"{value} is not reached")
            self.query()


class HostBuffer(Buffer):
    def __init__(self, size):
        self.size = size
        self._bytes = bytearray(size)

    def read(self, offset=0, length=None):
        offset, length = checked_range(offset, length, self.size)
        return bytes(self._bytes[offset : offset + length])

    def write(self, data, offset=0):
        checked_range(offset, len(data), self.size)
        self._bytes[offset : offset + len(data)] = data


class HostDevice(Device):
    capabilities = frozenset({Capability.HOST_FAIL, Capability.FAIL_CODE, Capability.SIDE_ACCESS})
    profile = "strict"
    info = DeviceInfo("host memory, synchronous", {"minimal": "1.0"})

    def create_semaphore(self, initial_value=0):
        return HostSemaphore(initial_value)

    def allocate_buffer(self, size):
        return HostBuffer(size)

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        commands = getattr(commands, "commands", commands)
        actions = [action(command) for command in commands]  # refuses what it cannot do, before it has any effect
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

    def close(self):
        pass


def action(command):
    """Return a function that does what a command says."""
    match command:
        case Fill(target, _, offset, length):
            offset, length = checked_range(offset, length, target.size)
            data = (command.pattern_bytes * length)[:length]
            return lambda: target.write(data, offset)
        case Copy(source, target, source_offset, target_offset, length):
            _, length = checked_range(source_offset, length, source.size)
            checked_range(target_offset, length, target.size)
            return lambda: target.write(source.read(source_offset, length), target_offset)
