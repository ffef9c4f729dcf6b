"""A host thread that waits for all, or any, of several timepoints."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_cuda2hal.hal import HalError, StatusCode, WaitMode, checked_timeout, deadline_after

from .locks import Rank, make_lock
from .timepoints import HostWaitPoint, in_range

if TYPE_CHECKING:
    from .engine import Engine
    from .lane import Lane
    from .semaphore import EventSemaphore

#: Seconds for which a thread queries the work that it waits for before it sleeps. Work that takes no longer is then
#: noticed without waking a thread, which costs about 50 µs (H100 host, Python 3.12); a longer wait stays passive.
SPIN_SECONDS = 50e-6


class HostWait:
    """One wait of one thread. The thread sleeps on a host event of the pool, whatever it waits for."""

    def __init__(self, engine: Engine, targets: list[tuple[EventSemaphore, int]], mode: WaitMode) -> None:
        self._engine = engine
        self._mode = mode
        self._lock = make_lock(Rank.HOST_WAIT, check=engine.parameters.check_locks)
        self._points: Sequence[tuple[EventSemaphore, HostWaitPoint]] = [
            (semaphore, HostWaitPoint(in_range(value), self)) for semaphore, value in targets
        ]
        self._count = len(self._points)
        #: Points that are neither reached nor failed; a set, so that to be told twice does no harm.
        self._open = {point for _, point in self._points}
        self._satisfied = not self._points
        self._failure: HalError | None = None
        self._told = self._satisfied
        self._event = engine.host_events.acquire()

    def begin(self) -> None:
        """Look at every point and register where there is something to wait for."""
        for semaphore, point in self._points:
            semaphore.begin_wait(point)

    def end(self) -> None:
        """Unregister, and give the event back unless somebody may be about to set it."""
        for semaphore, point in self._points:
            semaphore.end_wait(point)
        self._points = ()  # each holds this wait
        with self._lock:
            told, self._told = self._told, True  # from here on nobody sets the event
        # It may be set without a note that it was: whoever told us was interrupted. It goes back unset either way.
        was_set = self._event.wait(0)
        if was_set or not told:
            self._engine.host_events.release(self._event)

    def reached(self, point: HostWaitPoint) -> None:
        with self._lock:
            self._open.discard(point)
            if self._mode is WaitMode.ANY or not self._open:
                self._satisfied = True
                self._tell()

    def failed(self, point: HostWaitPoint, error: HalError) -> None:
        # A failure counts beside a reached member too: the strict answer to any-satisfied-and-failed.
        with self._lock:
            self._open.discard(point)
            self._failure = self._failure or error
            self._tell()

    def _tell(self) -> None:
        """Wake the thread, once: when it has gone on, the event may be somebody else's. The lock is held."""
        if not self._told:
            self._event.set()  # it never blocks, and if an interruption comes here it is set once more
            self._told = True

    @property
    def unmet(self) -> int:
        """How many timepoints are neither reached nor failed."""
        return len(self._open)

    def block(self, deadline: float | None) -> None:
        """Sleep until told, or until the deadline."""
        while not self._told:
            remaining = threading.TIMEOUT_MAX if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                return
            if self._event.wait(min(remaining, threading.TIMEOUT_MAX)):
                self._event.set()  # so that end() knows that it was set
                return

    def result(self) -> None:
        """Return if the wait was satisfied, else raise why it was not."""
        with self._lock:
            if self._failure:
                raise self._failure.again()
            if not self._satisfied:
                text = f"{len(self._open)} of {self._count} timepoints not reached"
                raise HalError(StatusCode.DEADLINE_EXCEEDED, text)


def wait_for_one(engine: Engine, semaphore: EventSemaphore, value: int, timeout: float | None) -> None:
    """Block the calling thread until a semaphore reaches ``value``: much the most frequent wait.

    :raises HalError: the semaphore's failure, else ``DEADLINE_EXCEEDED``.
    """
    value = in_range(value)
    timeout = checked_timeout(timeout)
    failure, reached, producer = semaphore.look(value)
    if reached:
        return
    if failure:
        raise failure.again()
    if timeout == 0:
        raise HalError(StatusCode.DEADLINE_EXCEEDED, f"{value} is not reached")
    deadline = deadline_after(timeout)
    lane = producer.lane if producer is not None else None
    if lane is not None and engine.may_spin and engine.spin(lane, semaphore, value, SPIN_SECONDS, deadline):
        failure = semaphore.failure_before(value)
        if failure:
            raise failure.again()
        return
    _sleep(engine, HostWait(engine, [(semaphore, value)], WaitMode.ALL), lane, deadline)


def wait_for(engine: Engine, targets: list[tuple[EventSemaphore, int]], timeout: float | None, mode: WaitMode) -> None:
    """Block the calling thread until all, or any, of the targets are reached.

    :raises HalError: a failure of one of the semaphores, else ``DEADLINE_EXCEEDED``.
    """
    if not isinstance(mode, WaitMode):
        raise TypeError(f"the mode of a wait is WaitMode.ALL or WaitMode.ANY, not {mode!r}")
    timeout = checked_timeout(timeout)
    _sleep(engine, HostWait(engine, targets, mode), None, deadline_after(timeout))


def _sleep(engine: Engine, wait: HostWait, lane: Lane | None, deadline: float | None) -> None:
    """Sleep on a host event; ``lane`` is where the work is, if one knows."""
    try:
        engine.sleepers.add(wait)
        wait.begin()
        engine.wake_completers(lane)
        wait.block(deadline)
    finally:
        engine.sleepers.discard(wait)
        wait.end()
    wait.result()
