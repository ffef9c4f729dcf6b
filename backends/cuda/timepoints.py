"""The three kinds of timepoints that a semaphore keeps, and the pool that recycles them.

* a **host wait**: a host thread sleeps until the value is reached;
* a **device wait**: a pending action needs the value, and may be bound to the event of whoever will signal it;
* a **device signal**: an action that was issued, with its event recorded, will signal the value.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from pytest_cuda2hal.hal import HalError, StatusCode, checked_value

if TYPE_CHECKING:
    from .actions import Action
    from .engine import Engine
    from .hostwait import HostWait
    from .semaphore import EventSemaphore


#: The largest value: variation point value-max, strict answer.
VALUE_MAX = 2**64 - 2


def in_range(value: int) -> int:
    """Return a value that a semaphore can have.

    :raises HalError: ``OUT_OF_RANGE``.
    """
    value = checked_value(value)
    if value > VALUE_MAX:
        raise HalError(StatusCode.OUT_OF_RANGE, f"{value} is above the largest value, {VALUE_MAX}")
    return value


class Waiting(Protocol):
    """What both kinds of waits have in common. They may be told more than once, and after they have been given up."""

    value: int
    #: Nobody waits any more; the entry is dropped when it is met.
    dead: bool
    #: In how many queues the entry still lies: it must not be recycled while this is above 0.
    queued: int

    def reached(self) -> None: ...
    def failed(self, error: HalError) -> None: ...


class HostWaitPoint:
    """A host thread waits for a semaphore to reach ``value``.

    It does not know which semaphore: the dead entry that it may become there must keep nothing alive.
    """

    __slots__ = ("dead", "queued", "value", "wait")

    def __init__(self, value: int, wait: HostWait) -> None:
        self.value = value
        self.wait = wait
        self.dead = False
        self.queued = 0

    def reached(self) -> None:
        """Tell the thread; any number of times."""
        self.wait.reached(self)

    def failed(self, error: HalError) -> None:
        """Tell the thread; any number of times."""
        self.wait.failed(self, error)


class DeviceWait:
    """An action waits for ``semaphore`` to reach ``value``. Changed by whoever has the engine's role."""

    __slots__ = ("action", "dead", "for_host", "producer", "queued", "semaphore", "value")

    def __init__(self) -> None:
        #: ``None`` while it is kept for reuse, so that it keeps no semaphore alive.
        self.semaphore: EventSemaphore | None = None
        self.value = 0
        self.action: Action | None = None
        #: The issued action that signals the value; never replaced by another, and forgotten once the value is reached.
        self.producer: Action | None = None
        #: The action runs on the host, so no producer helps: the value itself must be reached.
        self.for_host = False
        self.dead = False
        self.queued = 0

    def reached(self) -> None:
        """Have the engine go on with the action; any number of times."""
        semaphore = self.semaphore
        if semaphore is not None:
            semaphore.engine.inbox.append(self)

    def failed(self, error: HalError) -> None:
        """Have the engine fail the action; any number of times."""
        self.reached()  # it looks at the semaphore either way

    def advance(self, engine: Engine) -> None:
        """What the engine does with it."""
        engine.told(self)


class WaitQueue:
    """Waits ordered by value. Used with the lock of its semaphore held.

    Taking what a value reaches costs the logarithm of what is queued for each wait taken. A wait that is given up stays
    as a dead entry until it is met, or until such entries are the majority.
    """

    __slots__ = ("_dead", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiting]] = []
        self._serial = 0
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def reaches(self, value: int | None) -> bool:
        """Whether something is queued at or below ``value``, or at all, if ``None``."""
        return bool(self._heap) and (value is None or self._heap[0][0] <= value)

    def push(self, wait: Waiting) -> None:
        self._serial += 1
        wait.queued += 1
        heapq.heappush(self._heap, (wait.value, self._serial, wait))

    def take(self, value: int | None, into: list[Waiting]) -> None:
        """Move the waits at or below ``value`` (all, if ``None``) to the list, the lowest first.

        Each is in the list before it leaves the queue: an exception from a signal handler loses none.
        """
        heap = self._heap
        while heap and (value is None or heap[0][0] <= value):
            wait = heap[0][2]
            if wait.dead:
                self._dead = max(0, self._dead - 1)
            else:
                into.append(wait)
            heapq.heappop(heap)
            wait.queued -= 1

    def given_up(self, wait: Waiting) -> None:
        """A wait in this queue has died: clear the dead away when they are the majority."""
        self._dead += 1
        if self._dead > 32 and self._dead * 2 > len(self._heap):
            kept = []
            for entry in self._heap:
                if entry[2].dead:
                    entry[2].queued -= 1
                else:
                    kept.append(entry)
            heapq.heapify(kept)
            self._heap = kept
            self._dead = 0


class TimepointPool:
    """Recycles device waits, a batch at a time. Thread-safe: a deque's ends are.

    Host waits are made anew, since a thread that gives up a wait may still be told of it by another; a device signal
    is a pair of numbers in its action.
    """

    def __init__(self, capacity: int) -> None:
        self._available: deque[DeviceWait] = deque(maxlen=max(capacity, 1))

    def acquire_device_wait(self, semaphore: EventSemaphore, value: int, action: Action) -> DeviceWait:
        """Return a device wait that is in no queue yet."""
        try:
            wait = self._available.pop()
        except IndexError:
            wait = DeviceWait()
        wait.semaphore = semaphore
        wait.value = value
        wait.action = action
        wait.for_host = action.on_host
        wait.dead = False
        return wait

    def release(self, waits: Iterable[DeviceWait]) -> None:
        """Take back waits whose action has no more use for them; those that still lie in a queue are left to it."""
        available = self._available
        for wait in waits:
            wait.action = wait.producer = wait.semaphore = None
            if wait.queued:
                wait.dead = True
            else:
                available.append(wait)
