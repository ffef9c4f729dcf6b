"""What was submitted, and why something that is awaited has not come."""

from __future__ import annotations

import itertools
import re
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..hal import HalError

if TYPE_CHECKING:
    from .buffers import Observation
    from .semaphores import ObservedSemaphore

#: How far an explanation follows the chain of who waits for whom.
EXPLAINED_HOPS = 8
#: How many submissions a failure lists.
LISTED_SUBMISSIONS = 12


class DeadlineExpired(AssertionError):
    """A wait of a case had no answer within its deadline: a hang, ended by the harness."""


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
        self._semaphores: dict[int, weakref.ref[ObservedSemaphore]] = {}
        self._serials = itertools.count(1)
        self._numbers = itertools.count(1)

    def new_serial(self) -> int:
        """Return a serial number for an observed object."""
        return next(self._serials)

    def knows(self, semaphore: ObservedSemaphore) -> None:
        """Remember a semaphore, weakly, so that its value can be told."""
        self._semaphores[semaphore.serial] = weakref.ref(semaphore)

    def add(self, what: str, queue: int, waits: tuple[Point, ...], signals: tuple[Point, ...]) -> None:
        """Record an accepted submission."""
        self.records.append(Record(next(self._numbers), what, queue, waits, signals, time.monotonic()))

    def live_semaphores(self) -> list[ObservedSemaphore]:
        """Return the semaphores that somebody still holds."""
        return [found for reference in list(self._semaphores.values()) if (found := reference())]

    def name(self, serial: int) -> str:
        """Return what the case calls the object, or a made-up name."""
        return self.names.get(serial, f"semaphore#{serial}")

    def point(self, point: Point) -> str:
        return f"{self.name(point.serial)}@{point.value}"

    def state(self, serial: int) -> str:
        """Return ``name = value``, or how it has failed."""
        reference = self._semaphores.get(serial)
        semaphore = reference() if reference else None
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
        reference = self._semaphores.get(point.serial)
        semaphore = reference() if reference else None
        if semaphore is None:
            return None
        try:
            return semaphore.inner.query() >= point.value
        except Exception:  # noqa: BLE001 - the same
            return None

    def may_have_unfinished(self) -> bool:
        """Tell whether a submission may still be at work: a signal unreached, or none to tell by."""
        return any(
            not record.signals or any(self.is_reached(point) is False for point in record.signals)
            for record in self.records
        )

    def describe(self, record: Record) -> str:
        """Return one line about a submission."""
        waits = ", ".join(map(self.point, record.waits[:6])) + (", …" if len(record.waits) > 6 else "")
        signals = ", ".join(map(self.point, record.signals[:6])) + (", …" if len(record.signals) > 6 else "")
        what = self.named(record.what)
        return f"submission #{record.number}  {what}  wait [{waits}]  signal [{signals}]  queue {record.queue}"

    def named(self, text: str) -> str:
        """Put the case's names in the place of made-up ones, wherever they are known by now."""
        return re.sub(r"\b(?:buffer|semaphore)#(\d+)", lambda found: self.names.get(int(found[1]), found[0]), text)

    def explain(self, points: Iterable[Point]) -> list[str]:
        """Say for each timepoint where it stands, who was to signal it, and what that one waits for."""
        lines: list[str] = []
        seen: set[Point] = set()
        for point in points:
            self._explain(point, 0, seen, lines)
        return lines

    def _explain(self, point: Point, depth: int, seen: set[Point], lines: list[str]) -> None:
        indent = "  " * depth
        if point in seen:
            lines.append(f"{indent}{self.point(point)}: see above, the waits form a ring")
            return
        seen.add(point)
        candidates = [
            record
            for record in self.records
            if any(signal.serial == point.serial and signal.value >= point.value for signal in record.signals)
        ]
        if not candidates:
            lines.append(f"{indent}{self.point(point)} ({self.state(point.serial)}) is signaled by no submission")
            return
        record = min(candidates, key=lambda candidate: candidate.number)
        unreached = [wait for wait in record.waits if self.is_reached(wait) is False]
        ago = time.monotonic() - record.at
        who = f"{self.point(point)} ({self.state(point.serial)}) is to be signaled by submission #{record.number}"
        where = f"on queue {record.queue}, {self.named(record.what)}"
        if not unreached:
            lines.append(f"{indent}{who} {where}, submitted {ago:.1f} s ago; all its waits are reached or have failed")
            return
        lines.append(f"{indent}{who} {where}, which waits for {', '.join(map(self.point, unreached[:6]))}")
        if depth + 1 < EXPLAINED_HOPS:
            self._explain(unreached[0], depth + 1, seen, lines)

    def listing(self) -> list[str]:
        """Return lines about the first submissions and how many more there are."""
        lines = [self.describe(record) for record in self.records[:LISTED_SUBMISSIONS]]
        more = len(self.records) - len(lines)
        if more > 0:
            lines.append(f"… and {more} more submissions")
        return lines
