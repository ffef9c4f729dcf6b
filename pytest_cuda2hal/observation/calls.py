"""Calls in progress: waits of this process, for messages; all calls, for the journal."""

from __future__ import annotations

import json
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

if TYPE_CHECKING:
    from .log import Log

#: How many timepoints of a list the journal keeps.
LISTED_POINTS: Final = 32
#: How many characters of a text the journal keeps.
_TEXT: Final = 200

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
        # What is not an int, by a slip of the case's, is written as a text, so that the entry can be read.
        number = queue if type(queue) is int else _quoted(repr(queue)[:_TEXT])
        held = f',"h":{list(latches[:LISTED_POINTS])}' if latches else ""
        if len(waits) == len(signals) == 1:  # by far the most
            wait, signal = waits[0], signals[0]
            points = f',"w":[[{wait.serial},{wait.value}]],"s":[[{signal.serial},{signal.value}]]'
        else:
            points = _points_text("w", waits) + _points_text("s", signals)
        facts = f',"k":{accepted},"c":"{call}","a":{_quoted(what[:_TEXT])},"q":{number}{points}{held}'
        return self.journal.begin("submit", self.device, facts)

    def raised(self, call: int, error: BaseException) -> None:
        """Record that a call is over, and what it raised."""
        text = str(error) if isinstance(error, HalError) else f"{type(error).__name__}: {error}"
        self.journal.end(call, f',"x":{_quoted(text[:_TEXT])}')

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
            text += f',"{key}":{_quoted(value[:_TEXT])}'
        elif isinstance(value, (int, float)):
            text += f',"{key}":{json.dumps(value)}'
        else:
            text += _points_text(key, value)
    return text


def _end(calls: Calls, call: int, error: BaseException | None, facts: str = "") -> None:
    if error is None:
        calls.journal.end(call, facts)
    else:
        calls.raised(call, error)


class Call:
    """A call in progress, as a context manager; what it raises goes through and is recorded."""

    __slots__ = ("_calls", "_facts", "_id", "_operation", "made")

    def __init__(self, calls: Calls, operation: str, facts: str) -> None:
        self._calls, self._operation, self._facts = calls, operation, facts
        self._id = 0
        #: Facts known at its end, as JSON text.
        self.made = ""

    def __enter__(self) -> Call:
        self._id = self._calls.journal.begin(self._operation, self._calls.device, self._facts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _end(self._calls, self._id, error, self.made)


_UNRECORDED: Final = nullcontext()


def in_call(calls: Calls | None, operation: str, **facts: Fact) -> AbstractContextManager[Call | None]:
    """Return a context manager that records a call, if there is a journal."""
    return _UNRECORDED if calls is None else Call(calls, operation, facts_text(**facts))


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
            points = points_of(self._waiting.timepoints)
            facts = facts_text(w=points, m=self._mode, to=self._timeout)
            self._id = self._calls.journal.begin("wait", self._calls.device, facts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        WAITS.pop(threading.get_ident(), None)
        if self._calls is not None:
            _end(self._calls, self._id, error)


def points_of(timepoints: Iterable[Timepoint]) -> tuple[Point, ...]:
    """Return the timepoints of observed semaphores as the log writes them; others are left out."""
    return tuple(
        [Point(serial, t.value) for t in timepoints if (serial := getattr(t.semaphore, "serial", None)) is not None]
    )
