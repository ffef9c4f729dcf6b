"""Backends of whose submissions something stays, or only seems to."""

from __future__ import annotations

import ctypes

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.semaphore import ReferenceSemaphore
from pytest_cuda2hal.hal import PROFILES, HalError

MIB = 2**20
_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)


class Counting(ReferenceDevice):
    """Does something at each submission."""

    def __init__(self):
        super().__init__(PROFILES["strict"])
        self.count = 0
        self.kept = []

    def queue_execute(self, *arguments, **more):
        super().queue_execute(*arguments, **more)
        self.count += 1
        self.leave()

    def leave(self):
        """Nothing is left."""


class Malloc(Counting):
    """Leaves 64 bytes that Python knows nothing of."""

    def leave(self):
        _libc.memset(_libc.malloc(64), 1, 64)


class Objects(Counting):
    """Leaves two small objects."""

    def leave(self):
        self.kept.append((self.count + 2**40,))


class GivesBack(Malloc):
    """Leaves 64 bytes, and once gives back more than that comes to."""

    def __init__(self):
        super().__init__()
        self.kept.append(b"\1" * (8 * MIB))

    def leave(self):
        super().leave()
        if self.count == 12_000:
            self.kept.clear()


class Grows(Counting):
    """Loses nothing: a pool grows, which would be used again."""

    def leave(self):
        if self.count in (7000, 17_000):
            self.kept.append(b"\1" * (2 * MIB))


class Remembers(ReferenceSemaphore):
    """Keeps a small object of each call that its device names."""

    device: Forgets

    def wait(self, value, timeout=None):
        try:
            super().wait(value, timeout)
        except HalError:
            self.device.remember("waits")
            raise

    def signal(self, value):
        super().signal(value)
        self.device.remember("signals")

    def fail(self, error):
        super().fail(error)
        self.device.remember("failures")


class Forgets(ReferenceDevice):
    """Has semaphores that could leave something, and does not let them."""

    semaphore_class = Remembers
    of = ""

    def __init__(self):
        super().__init__(PROFILES["strict"])
        self.kept = []

    def remember(self, what):
        if what == self.of:
            self.kept.append((len(self.kept) + 2**40,))

    def queue_update(self, *arguments, **more):
        super().queue_update(*arguments, **more)
        self.remember("updates")


class Waits(Forgets):
    of = "waits"


class Signals(Forgets):
    of = "signals"


class Failures(Forgets):
    of = "failures"


class Updates(Forgets):
    of = "updates"
