"""What a live process knows of its waits, for a wait-for graph."""

from __future__ import annotations

import threading
import time

from ..hal import HalError
from ..waitgraph import State
from .calls import WAITS, points_of
from .following import Submission, Waiter
from .log import Log, Point, Record


class LogFacts:
    """The facts of one device, asked while the graph is built."""

    complete = True

    def __init__(self, log: Log) -> None:
        self._log = log
        self._signals: dict[int, list[tuple[int, Record]]] = {}
        for record in list(log.records):
            for point in record.signals:
                self._signals.setdefault(point.serial, []).append((point.value, record))
        self._latches: dict[int, list[str]] = {}
        for number, _, latch in log.closed_latches():
            self._latches.setdefault(number, []).append(f"latch#{latch.serial}")

    def timepoint(self, point: Point) -> tuple[str, str, State, str]:
        """Return key, label, state and standing of a timepoint."""
        state, standing = self._standing(point)
        return f"{point.serial}@{point.value}", self._log.point(point), state, standing

    def _standing(self, point: Point) -> tuple[State, str]:
        name, semaphore = self._log.name(point.serial), self._log.semaphore(point.serial)
        if semaphore is None:
            return State.UNKNOWN, f"{name}: no handle left"
        try:
            value = semaphore.inner.query()
        except HalError as error:
            return State.FAILED, f"{name} failed with {error}"
        except Exception as error:  # noqa: BLE001 - a HAL may do anything, and the report must be written
            return State.UNKNOWN, f"{name}: query() raised {type(error).__name__}: {error}"
        return (State.REACHED if value >= point.value else State.UNREACHED), f"{name} = {value}"

    def producer(self, point: Point) -> Submission | None:
        """Return the first submission that is to signal the timepoint."""
        found = [record for value, record in self._signals.get(point.serial, ()) if value >= point.value]
        if not found:
            return None
        record = min(found, key=lambda candidate: candidate.number)
        return Submission(
            f"submission {record.number}",
            f"submission #{record.number}",
            self._log.named(record.what),
            str(record.queue),
            record.waits,
            time.monotonic() - record.at,
            latches=self._latches.get(record.number, ()),
        )


def other_waiters(log: Log, thread: str) -> list[Waiter]:
    """Return the threads beside this one, and beside that of the given name, that wait for semaphores of the device."""
    now, this = time.monotonic(), threading.get_ident()
    names = {one.ident: one.name for one in threading.enumerate()}
    return [
        Waiter(name, State.WAITING, "", now - waiting.since, points_of(waiting.timepoints))
        for ident, waiting in list(WAITS.items())
        if waiting.log is log and ident != this and (name := names.get(ident, f"thread {ident}")) != thread
    ]
