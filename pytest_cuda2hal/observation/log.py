"""What was submitted, and why something that is awaited has not come."""

from __future__ import annotations

import itertools
import re
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..hal import HalError

if TYPE_CHECKING:
    from ..waitgraph import WaitGraph
    from .buffers import Observation
    from .commands import ObservedLatch
    from .semaphores import ObservedSemaphore

#: A name for an object of which the case's own is not known; it has the serial number.
MADE_UP = re.compile(r"\b(?:buffer|latch|semaphore)#(\d+)")
#: How many submissions a failure lists.
LISTED_SUBMISSIONS = 12


class DeadlineExpired(AssertionError):
    """A wait of a case had no answer within its deadline: a hang, ended by the harness.

    ``log`` is that of the device which did not answer.
    """

    def __init__(self, message: str, graph: WaitGraph | None = None, log: Log | None = None) -> None:
        super().__init__(message)
        self._graph = graph
        self._log = log

    @property
    def graph(self) -> WaitGraph | None:
        """Who waited for whom, where that is known; in the names of the case as far as they are known by now."""
        return self._graph if self._graph is None or self._log is None else self._graph.renamed(self._log.named)


@dataclass(frozen=True, slots=True)
class Point:
    """A timepoint by the serial number of its semaphore; holds nothing alive."""

    serial: int
    value: int


@dataclass(frozen=True, slots=True)
class Record:
    """One accepted submission."""

    number: int
    what: str
    queue: int
    waits: tuple[Point, ...]
    signals: tuple[Point, ...]
    at: float


class Log:
    """The submissions of one device, in order. Keeps no semaphore and no buffer alive. Thread-safe by the GIL's grace:
    it only appends."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        #: Names for messages, found in the locals of a failed case: serial number -> name.
        self.names: dict[int, str] = {}
        #: The last observation of a buffer that did not agree, for the report.
        self.disagreement: Observation | None = None
        #: Submissions that hold a queue until a latch opens: number, queue, latch.
        self.holds: list[tuple[int, int, weakref.ref[ObservedLatch]]] = []
        self._semaphores: dict[int, weakref.ref[ObservedSemaphore]] = {}
        self._serials = itertools.count(1)
        self._numbers = itertools.count(1)

    def new_serial(self) -> int:
        """Return a serial number for an observed object."""
        return next(self._serials)

    def knows(self, semaphore: ObservedSemaphore) -> None:
        """Remember a semaphore, weakly, so that its value can be told."""
        self._semaphores[semaphore.serial] = weakref.ref(semaphore)

    def add(self, what: str, queue: int, waits: tuple[Point, ...], signals: tuple[Point, ...]) -> int:
        """Record an accepted submission and return its number."""
        number = next(self._numbers)
        self.records.append(Record(number, what, queue, waits, signals, time.monotonic()))
        return number

    def closed_latches(self) -> list[tuple[int, int, ObservedLatch]]:
        """Return number and queue of each submission that holds its queue by a latch still closed, with the latch."""
        found = [(number, queue, reference()) for number, queue, reference in list(self.holds)]
        return [(number, queue, latch) for number, queue, latch in found if latch is not None and not latch.is_open]

    def live_semaphores(self) -> list[ObservedSemaphore]:
        """Return the semaphores that somebody still holds."""
        return [found for reference in list(self._semaphores.values()) if (found := reference())]

    def name(self, serial: int) -> str:
        """Return what the case calls the object, or a made-up name."""
        return self.names.get(serial, f"semaphore#{serial}")

    def point(self, point: Point) -> str:
        return f"{self.name(point.serial)}@{point.value}"

    def semaphore(self, serial: int) -> ObservedSemaphore | None:
        """Return a semaphore, if somebody still holds it."""
        reference = self._semaphores.get(serial)
        return reference() if reference else None

    def state(self, serial: int) -> str:
        """Return ``name = value``, or how it has failed."""
        semaphore = self.semaphore(serial)
        if semaphore is None:
            return f"{self.name(serial)}: no handle left"
        try:
            return f"{self.name(serial)} = {semaphore.inner.query()}"
        except HalError as error:
            return f"{self.name(serial)} failed with {error}"
        except Exception as error:  # noqa: BLE001 - a HAL may do anything, and the report must be written
            return f"{self.name(serial)}: query() raised {type(error).__name__}: {error}"

    def is_reached(self, point: Point) -> bool | None:
        """Tell whether a timepoint is reached; ``None`` when it has failed or cannot be known."""
        semaphore = self.semaphore(point.serial)
        if semaphore is None:
            return None
        try:
            return semaphore.inner.query() >= point.value
        except Exception:  # noqa: BLE001 - the same
            return None

    def may_have_unfinished(self, *, if_gone: bool = False) -> bool:
        """Tell whether a submission may still be at work: a signal unreached, or none to tell by.

        :param if_gone: what to take for true of a signal whose semaphore nobody has any more.
        """
        return any(
            not record.signals or any(self._is_awaited(p, if_gone) for p in record.signals) for record in self.records
        )

    def _is_awaited(self, point: Point, if_gone: bool) -> bool:
        return if_gone if self.semaphore(point.serial) is None else self.is_reached(point) is False

    def describe(self, record: Record) -> str:
        """Return one line about a submission."""
        waits = ", ".join(map(self.point, record.waits[:6])) + (", …" if len(record.waits) > 6 else "")
        signals = ", ".join(map(self.point, record.signals[:6])) + (", …" if len(record.signals) > 6 else "")
        what = self.named(record.what)
        return f"submission #{record.number}  {what}  wait [{waits}]  signal [{signals}]  queue {record.queue}"

    def named(self, text: str) -> str:
        """Put the case's names in the place of made-up ones, wherever they are known by now."""
        return MADE_UP.sub(lambda found: self.names.get(int(found[1]), found[0]), text)

    def listing(self) -> list[str]:
        """Return lines about the first submissions and how many more there are."""
        lines = [self.describe(record) for record in self.records[:LISTED_SUBMISSIONS]]
        more = len(self.records) - len(lines)
        if more > 0:
            lines.append(f"… and {more} more submissions")
        return lines
