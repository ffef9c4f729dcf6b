"""Backends for tests of the harness: most have one defect each, by which the harness must not be misled."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
import threading
import time
from pathlib import Path

from minimal_backend import HostBuffer, HostDevice, HostSemaphore

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.semaphore import ReferenceSemaphore
from pytest_cuda2hal.hal import (
    EVERY_CAPABILITY,
    PROFILES,
    Backend,
    BackendUnavailable,
    Capability,
    HalError,
    StatusCode,
)

#: Where :func:`leaves_a_trace` writes; an environment variable, because it may be opened in another process.
TRACE_VARIABLE = "ODD_BACKENDS_TRACE"

# --- those that do not open

an_attribute = "not callable"


def aborts():
    os.abort()


def hangs():
    time.sleep(600)


def quits():
    sys.exit(3)


def raises():
    raise ValueError("the first line\nthe second line")


def unavailable():
    raise BackendUnavailable("libodd.so was not found", "Install odd, or do without")


def gives_a_number():
    return 7


class BadProfile(HostDevice):
    profile = "stirct"


class BadCapability(HostDevice):
    capabilities = frozenset({"hold"})


class TwiceDeclared(HostDevice):
    emulated = frozenset({Capability.HOST_FAIL})


class NoInfo(HostDevice):
    info = None


class ClosesBadly(HostDevice):
    def close(self):
        raise OSError("close went wrong")


# --- those that open and are odd all the same


def prints_much():
    sys.stdout.write("noise of a library\n")
    sys.stdout.flush()
    os.write(1, b'{"spec": "and of a native one, with no end of its line"}')
    return HostDevice()


def leaves_a_process():
    """Answers, and then its process does not end."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return HostDevice()


def leaves_a_trace():
    with Path(os.environ[TRACE_VARIABLE]).open("a") as file:
        file.write(f"opened in {os.getpid()}\n")
    return HostDevice()


class LateRunner(ReferenceDevice):
    """Runs what it is given 5 ms later, without waiting for anything."""

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        commands, signal = list(commands), list(signal)

        def run():
            ReferenceDevice.queue_execute(self, commands, signal=signal, queue=queue)

        threading.Timer(0.005, run).start() if list(wait) else run()


class DeafSemaphore(ReferenceSemaphore):
    """Hears no signal: a wait never returns."""

    def wait(self, value, timeout=None):
        time.sleep(timeout)
        raise HalError(StatusCode.DEADLINE_EXCEEDED, "nothing heard")


class Deaf(ReferenceDevice):
    semaphore_class = DeafSemaphore


class GilHolder(HostDevice):
    """Sleeps for ever with the interpreter's lock held when asked for 13 bytes; no Python code can end that."""

    def allocate_buffer(self, size):
        if size == 13:
            ctypes.PyDLL(None).sleep(600)
        return HostBuffer(size)


class Dying(HostDevice):
    """Takes the process with it when asked for 13 bytes."""

    def allocate_buffer(self, size):
        if size == 13:
            os._exit(9)
        return HostBuffer(size)


class CopiesNothing(HostDevice):
    """Accepts a copy and makes its signal, and copies nothing."""

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        super().queue_execute([], wait=wait, signal=signal, queue=queue)


class EndlessSemaphore(HostSemaphore):
    def wait(self, value, timeout=None):
        threading.Event().wait()


class WaitsForEver(HostDevice):
    """A wait never returns, reached or not."""

    def create_semaphore(self, initial_value=0):
        return EndlessSemaphore(initial_value)


class Crashing(HostDevice):
    """Takes the process with it when anything is submitted."""

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        ctypes.string_at(0)


class HoldsTheLock(HostDevice):
    """Sleeps for ever with the interpreter's lock held when anything is submitted."""

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        ctypes.PyDLL(None).sleep(600)


class Quitting(HostDevice):
    """Ends the process when anything is submitted."""

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        os._exit(5)


class HastySemaphore(HostSemaphore):
    def wait(self, value, timeout=None):
        if timeout is None or self.query() >= value:
            super().wait(value, timeout)


class Hasty(HostDevice):
    """A wait that times out looks like one that was reached."""

    def create_semaphore(self, initial_value=0):
        return HastySemaphore(initial_value)


class RaisesInCopy(HostDevice):
    """A submission with a command raises two lines."""

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        if commands:
            raise LookupError("no such queue\nask somebody else")
        super().queue_execute(commands, wait=wait, signal=signal, queue=queue)


class NeverDone(HostDevice):
    """Accepts work, never does it, and cannot be closed then."""

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        pass

    def close(self):
        threading.Event().wait()


class CrashesAtTheEnd(HostDevice):
    """Takes the process with it when it is closed."""

    def close(self):
        ctypes.string_at(0)


class TwoOfAKind(HostDevice):
    info = dataclasses.replace(HostDevice.info, count=2)


class NoneOfAKind(HostDevice):
    info = dataclasses.replace(HostDevice.info, count=0)


class Whole(ReferenceDevice):
    def __init__(self, profile="strict"):
        super().__init__(PROFILES[profile])


class CloseAtRest(ReferenceDevice):
    """Closes only when nothing is left to do, as IREE's drivers do; says it where it would hang."""

    def __init__(self):
        super().__init__(PROFILES["iree"])

    def close(self):
        if self.statistics().pending:
            sys.stdout.write("closed with work pending\n")
        super().close()

    def __del__(self, write=os.write):
        write(1, b"the end of a device\n")  # whose own end would wait for the work


class Incomplete(ReferenceDevice):
    """Can do all but be held by a latch."""

    def __init__(self):
        super().__init__(PROFILES["strict"])
        self.capabilities = EVERY_CAPABILITY - {Capability.HOLD, Capability.WAIT_ANY}
        self.emulated = frozenset({Capability.WAIT_ANY})


def _strict(device_class):
    return lambda: device_class(PROFILES["strict"])


BACKENDS = [
    Backend("minimal", "the smallest adapter", HostDevice),
    Backend("whole", "the reference, as somebody else's", Whole),
    Backend("own-whole", "the reference, as one of the project's own", Whole, own=True),
    Backend("incomplete", "somebody else's, incomplete", Incomplete),
    Backend("own-incomplete", "one of the project's own, incomplete", Incomplete, own=True),
    Backend("late", "runs work too early, 5 ms late", _strict(LateRunner)),
    Backend("deaf", "waits never end", _strict(Deaf)),
    Backend("closes-badly", "cannot be closed", ClosesBadly),
    Backend("traced", "leaves a trace when opened", leaves_a_trace),
]

#: With variants, for listings.
MANY = Backend(
    "many",
    "several in one",
    lambda variant, size=4: unavailable() if variant == "absent" else HostDevice(),
    variants={"present": "this one is there", "absent": "this one is not"},
)
