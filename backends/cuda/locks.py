"""Locks with an order, so that no two threads can wait for each other.

The order is: the engine's role, then the side stream, then one semaphore, then one host wait, then one pool. A thread
takes a lock only while it holds none of the same or a later rank. :func:`make_lock` returns a plain lock, or where the
device was opened with ``check_locks`` one that raises on the first wrong step, on whatever path it is.
"""

from __future__ import annotations

import enum
import threading
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, cast


class Rank(enum.IntEnum):
    """Where a lock stands in the order; smaller ranks are taken first."""

    ROLE = 1
    SIDE_STREAM = 2
    SEMAPHORE = 3
    HOST_WAIT = 4
    POOL = 5


class Lock(Protocol):
    """What both kinds of locks have."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None: ...


class LockOrderError(AssertionError):
    """A thread took a lock out of order: with unlucky timing two threads would wait for each other for ever."""


_held = threading.local()


class OwnedLock(Lock, Protocol):
    """It knows whether the calling thread has it."""

    def _is_owned(self) -> bool: ...


class OrderedLock(AbstractContextManager[bool]):
    """A lock that checks its rank against those that the thread holds."""

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self._lock = threading.RLock() if rank is Rank.ROLE else threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        ranks: list[Rank] = _held.__dict__.setdefault("ranks", [])
        if not blocking and self._rank is Rank.ROLE and self._rank in ranks:
            return False  # as a lock that is none for one thread to take twice
        if blocking and ranks and ranks[-1] >= self._rank:
            raise LockOrderError(f"a {self._rank.name} lock was taken while holding {[rank.name for rank in ranks]}")
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            ranks.append(self._rank)
        return taken

    def release(self) -> None:
        _held.ranks.remove(self._rank)
        self._lock.release()

    def _is_owned(self) -> bool:
        return self._rank in _held.__dict__.get("ranks", ())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def make_owned_lock(rank: Rank, *, check: bool) -> OwnedLock:
    """Return a lock that knows whether the calling thread has it."""
    if check:
        return OrderedLock(rank)
    # Never taken twice: it is the lock of the standard library that knows its owner, though its stubs do not say so.
    return cast(OwnedLock, threading.RLock())


def make_lock(rank: Rank, *, check: bool) -> Lock:
    """Return a lock of a rank."""
    if check:
        return OrderedLock(rank)
    lock: Lock = threading.Lock()
    return lock
