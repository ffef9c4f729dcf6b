"""Calls in progress: waits of this process, for messages; all calls, for the journal."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quoted
from types import TracebackType
from typing import TYPE_CHECKING, Final

from ..hal import HalError, Timepoint
from .journal import Journal, current_journal
from .log import Point
from .records import (
    ALLOCATE_BUFFER,
    HAS_SIGNAL,
    HAS_WAIT,
    SUBMISSIONS,
    TEXT_LENGTH,
    WAIT,
    pack_call,
    pack_wait,
)

if TYPE_CHECKING:
    from .log import Log

#: How many timepoints of a list the journal keeps.
LISTED_POINTS: Final = 32

Fact = int | str | float | Sequence[Point] | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A wait that has not returned."""

    thread: str
    log: Log
    timepoints: tuple[Timepoint, ...]
    #: On ``time.monotonic``.
    since: float


#: The wait that each thread of this process is in, by the thread's identifier.
WAITS: dict[int, Waiting] = {}


class Calls:
    """Tells the journal what is called on one device. Made only where there is a journal. Thread-safe."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.device = journal.new_device()

    def submitting(
        self,
        call: str,
        what: str,
        queue: int,
        waits: Sequence[Point],
        signals: Sequence[Point],
        latches: Sequence[int],
        accepted: int,
    ) -> int:
        """Record that this thread begins to submit, when ``accepted`` submissions of the device have been."""
        if type(queue) is int and not latches and len(waits) < 2 and len(signals) < 2:  # by far the most
            serial = value = signaled = signaled_value = flags = 0
            if waits:
                serial, value, flags = waits[0].serial, waits[0].value, HAS_WAIT
            if signals:
                signaled, signaled_value, flags = signals[0].serial, signals[0].value, flags | HAS_SIGNAL
            return self.journal.begin_record(
                pack_call, SUBMISSIONS[call], self.device, serial, value, what, flags,
                signaled_value, signaled, queue, accepted,
            )  # fmt: skip
        # What is not an int, by a slip of the case's, is written as a text, so that the entry can be read.
        number = queue if type(queue) is int else _quoted(repr(queue)[:TEXT_LENGTH])
        held = f',"h":{list(latches[:LISTED_POINTS])}' if latches else ""
        points = _points_text("w", waits) + _points_text("s", signals)
        facts = f',"k":{accepted},"c":"{call}","a":{_quoted(what[:TEXT_LENGTH])},"q":{number}{points}{held}'
        return self.journal.begin("submit", self.device, facts)

    def waiting(self, timepoints: Sequence[Timepoint], mode: str, timeout: float | None) -> int:
        """Record that this thread begins to wait."""
        if len(timepoints) == 1 and (serial := getattr(timepoints[0].semaphore, "serial", None)) is not None:
            seconds = math.nan if timeout is None else timeout
            value = timepoints[0].value
            return self.journal.begin_record(pack_wait, WAIT, self.device, serial, value, mode, 0, seconds)
        return self.journal.begin("wait", self.device, facts_text(w=points_of(timepoints), m=mode, to=timeout))

    def call(self, kind: int, serial: int = 0, value: int = 0) -> Call:
        """Record that this thread begins a call of a kind that has records; return what records its end."""
        return Call(self, self.journal.begin_record(pack_call, kind, self.device, serial, value))

    def allocating(self, size: object) -> Call:
        """Record that this thread begins to allocate a buffer, of whatever a case may take for a size."""
        if type(size) is int:
            return self.call(ALLOCATE_BUFFER, value=size)
        return Call(self, self.journal.begin("allocate_buffer", self.device, facts_text(a=repr(size))))

    def raised(self, call: int, error: BaseException) -> None:
        """Record that a call is over, and what it raised."""
        text = str(error) if isinstance(error, HalError) else f"{type(error).__name__}: {error}"
        self.journal.end(call, f',"x":{_quoted(text[:TEXT_LENGTH])}')

    def named(self, names: Iterable[tuple[int, str]]) -> None:
        """Record what the case calls some of its objects, by serial number."""
        listed = list(names)[:LISTED_POINTS]
        if listed:
            self.journal.write({"o": "names", "d": self.device, "n": listed})


def calls_of_new_device() -> Calls | None:
    """Return what a device being opened reports its calls to."""
    journal = current_journal()
    return None if journal is None else Calls(journal)


def _points_text(key: str, points: Sequence[Point]) -> str:
    listed = ",".join([f"[{point.serial},{point.value}]" for point in points[:LISTED_POINTS]])
    more = f',"{key}n":{len(points)}' if len(points) > LISTED_POINTS else ""
    return f',"{key}":[{listed}]{more}'


def facts_text(**facts: Fact) -> str:
    """Return facts as JSON text that continues an object; long lists are cut and counted, as ``"w":[…],"wn":count``."""
    text = ""
    for key, value in facts.items():
        if value is None:
            text += f',"{key}":null'
        elif isinstance(value, str):
            text += f',"{key}":{_quoted(value[:TEXT_LENGTH])}'
        elif isinstance(value, (int, float)):
            text += f',"{key}":{value if type(value) is int else json.dumps(value)}'
        else:
            text += _points_text(key, value)
    return text


class Call:
    """A call that has begun, as a context manager; what it raises goes through and is recorded."""

    __slots__ = ("_calls", "_id", "made")

    def __init__(self, calls: Calls, number: int) -> None:
        self._calls, self._id = calls, number
        #: What it made: serial number, value of a semaphore, name.
        self.made: tuple[int, int | None, str | None] | None = None

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._calls.raised(self._id, error)
        elif self.made is not None:
            self._calls.journal.end_making(self._id, *self.made)
        else:
            self._calls.journal.end(self._id)


#: What there is instead of a :class:`Call` where there is no journal.
UNRECORDED: Final = nullcontext()


def in_call(calls: Calls | None, operation: str, **facts: Fact) -> AbstractContextManager[Call | None]:
    """Return a context manager that records a call, if there is a journal."""
    if calls is None:
        return UNRECORDED
    return Call(calls, calls.journal.begin(operation, calls.device, facts_text(**facts)))


class WaitCall:
    """A wait in progress, as a context manager: known to this process, and to the journal if there is one."""

    __slots__ = ("_calls", "_id", "_mode", "_timeout", "_waiting")

    def __init__(
        self, log: Log, calls: Calls | None, timepoints: tuple[Timepoint, ...], mode: str, timeout: float | None
    ) -> None:
        self._waiting = Waiting(threading.current_thread().name, log, timepoints, time.monotonic())
        self._calls, self._mode, self._timeout = calls, mode, timeout
        self._id = 0

    def __enter__(self) -> None:
        WAITS[threading.get_ident()] = self._waiting
        if self._calls is not None:
            self._id = self._calls.waiting(self._waiting.timepoints, self._mode, self._timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        WAITS.pop(threading.get_ident(), None)
        if self._calls is None:
            return
        if error is None:
            self._calls.journal.end(self._id)
        else:
            self._calls.raised(self._id, error)


def points_of(timepoints: Iterable[Timepoint]) -> tuple[Point, ...]:
    """Return the timepoints of observed semaphores as the log writes them; others are left out."""
    return tuple(
        [Point(serial, t.value) for t in timepoints if (serial := getattr(t.semaphore, "serial", None)) is not None]
    )
