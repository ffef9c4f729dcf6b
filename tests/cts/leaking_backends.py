"""Backends of whose submissions something stays, or only seems to."""

from __future__ import annotations

import ctypes

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.hal import PROFILES

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
