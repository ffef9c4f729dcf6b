"""Device events, host events, and the pools that recycle both."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from .driver import Driver, Handle, error_of
from .locks import Rank, make_lock


class DeviceEventPool:
    """Keeps up to ``capacity`` events; those needed beyond are created and destroyed. Thread-safe.

    An event belongs to one submission, from its record until that is retired. Waits bind to it in between, and only
    with the engine's role, so it needs no count of references. It may still hold what it recorded in an earlier life:
    nobody is given one that has not been recorded anew.

    A current context is needed on the calling thread. No driver call is made with the lock held.
    """

    def __init__(self, driver: Driver, capacity: int, *, check_locks: bool = False) -> None:
        self._driver = driver
        self._capacity = capacity
        # Timing costs the device extra work per record. BLOCKING_SYNC costs more: behind a held stream the 57th record
        # of such an event blocked its caller (H100, driver 580), so only a watch has one.
        self._flags = int(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        self._lock = make_lock(Rank.POOL, check=check_locks)
        self._available: list[Handle] = []
        #: Every event that there is, by identity: one that an interruption lost goes with the pool.
        self._made: dict[int, Handle] = {}
        #: Events that somebody has.
        self.outstanding = 0

    def acquire(self) -> Handle:
        """Return an event.

        :raises CudaError: none was left and the driver made none.
        """
        with self._lock:
            self.outstanding += 1
            if self._available:
                return self._available.pop()
        try:
            error, handle = self._driver.cuEventCreate(self._flags)
            if error:
                raise error_of(self._driver, "cuEventCreate", error)
        except BaseException:
            with self._lock:
                self.outstanding -= 1
            raise
        self._made[id(handle)] = handle
        return handle

    def release(self, events: Iterable[Handle]) -> None:
        """Take events back, a batch at a time; those for which there is no room are destroyed."""
        surplus: list[Handle] = []
        with self._lock:
            for event in events:
                self.outstanding -= 1
                (self._available if len(self._available) < self._capacity else surplus).append(event)
        for event in surplus:
            # After a device loss this returns the loss again; the event is gone with the context.
            self._made.pop(id(event), None)
            self._driver.cuEventDestroy(event)

    def destroy(self) -> None:
        """Destroy every event; whoever has one must not use it any more."""
        with self._lock:
            self._available, self._capacity = [], 0
        while self._made:
            self._driver.cuEventDestroy(self._made.popitem()[1])


class HostEvent:
    """Wakes one host thread: a lock that is taken while the event is not set.

    ``threading.Event`` makes a lock and a condition for each wait; this is one lock for all of them.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the thread that waits, or the next one to wait. Safe in a finalizer: it never blocks."""
        try:
            self._lock.release()
        except RuntimeError:  # it was set already
            return

    def wait(self, timeout: float) -> bool:
        """Return True once set, and reset; False when ``timeout`` seconds are over, negative for never."""
        return self._lock.acquire(timeout=timeout)


class HostEventPool:
    """Keeps host events for reuse. Thread-safe: a deque's ends are."""

    def __init__(self, capacity: int) -> None:
        self._available: deque[HostEvent] = deque(maxlen=max(capacity, 1))

    def acquire(self) -> HostEvent:
        """Return an event that is not set."""
        try:
            return self._available.pop()
        except IndexError:
            return HostEvent()

    def release(self, event: HostEvent) -> None:
        """Take back an event that is not set and that nobody will set."""
        self._available.append(event)
