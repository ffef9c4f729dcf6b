"""How much memory the process holds, and whether something that is done again and again adds to it."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ..support import Quality

PROCESS = Path("/proc/self")
#: How often one looks at the memory again at most, and at least before it counts as grown; how much is done at a time.
LOOKS, LEAST_LOOKS, BATCH = 4, 3, 500
#: Bytes that each time may leave, and of how many times one may leave an object of Python's. Of 20,000 times 64 bytes
#: each show in every look, even where memory grows by a MiB at a time, as CPython's does; of 4,000 they show in what is
#: allocated, and of 1,000 only where they are more than :data:`BLOCKS` all together.
BYTES_EACH, TIMES_PER_OBJECT = 32, 2
#: MiB of resident memory that come and go by themselves, as pages are touched; of allocated memory, as tables grow and
#: threads leave blocks to each other.
PAGES, BLOCKS = 0.25, 0.125


def resident() -> float:
    """Return the MiB of this process that are in memory; 0 where the system does not tell."""
    try:
        # Of this Linux is sure; its quick count, in statm, may be off by some pages for each processor.
        lines = (PROCESS / "smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Rss:")).split()[1]) / 2**10
    except (OSError, StopIteration):
        pass
    try:
        return int((PROCESS / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


class _Allocated(ctypes.Structure):
    """What ``mallinfo2`` of glibc tells: bytes in blocks of their own, and bytes in use, among others."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in ("0", "1", "2", "3", "own", "5", "6", "used", "8", "9"))


def allocated() -> float:
    """Return the MiB that are in use of what malloc has; 0 where nobody tells."""
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return 0.0
    function.restype = _Allocated
    found = function()
    return float(found.own + found.used) / 2**20


class Held(NamedTuple):
    """What this process holds."""

    #: MiB in memory: also what was given back to an allocator, which may use it again.
    resident: float
    #: MiB in use, where malloc counts them; and Python's objects, which are not from there. A process that has memory
    #: to spare leaks for a long time before it grows.
    allocated: float
    objects: float

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        return cls(resident(), allocated(), float(getattr(sys, "getallocatedblocks", int)()))

    def since(self, before: Held) -> Held:
        """Return by how much there is more."""
        return Held(*(mine - was for mine, was in zip(self, before, strict=True)))

    def __str__(self) -> str:
        return f"{self.resident:.1f} MiB resident, {self.allocated:.1f} MiB allocated, {self.objects:.0f} objects"


def expect_no_growth(
    what: str, do: Callable[[int], object], quality: Quality, deadline: float, *, warm_up: int, many: int
) -> None:
    """Check that doing something ``many`` times leaves nothing, where it was done ``warm_up`` times before.

    A pool that grows now and then is no leak: that never ends, so one look at which nothing has grown is enough.

    :param do: does it so many times.
    :param deadline: seconds after which it is not done any more, and what was seen by then counts.
    """
    if not resident():
        pytest.skip("unsupported: the system does not say how much memory the process has")
    end = time.monotonic() + deadline
    done = 0

    def go_on(times: int) -> None:
        nonlocal done
        for _ in range(0, times, BATCH):
            do(BATCH)
            done += BATCH
            if time.monotonic() > end:
                return

    def look() -> bool:
        """Look at the memory, and tell whether there is no more than at the last look."""
        seen.append((done, Held.now()))
        (before, was), (now, held) = seen[-2:]
        limit = (now - before) * BYTES_EACH / 2**20
        limits = Held(max(limit, PAGES), max(limit, BLOCKS), (now - before) / TIMES_PER_OBJECT)
        return all(abs(one) < most for one, most in zip(held.since(was), limits, strict=True))

    go_on(warm_up)
    seen = [(done, Held.now())]
    kept = False
    # Memory that is given back would hide what is lost, so less counts as little as more: one looks again.
    # Where the time is over at the first look, what has grown may be a pool, or pages of another thread's, so there are
    # more.
    while not kept and len(seen) <= LOOKS and (len(seen) <= LEAST_LOOKS or time.monotonic() < end):
        go_on(many)
        kept = look()
    shown = "; ".join(f"{held} after {times}" for times, held in seen)
    quality("L-1q", kept, f"memory of the process with {what}: {shown}")
