"""Calls in progress: waits of this process, for messages; all calls, for the journal."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from json.encoder import encode_basestring_ascii as _quoted
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ..hal import HalError, Timepoint
from .journal import Journal, current_journal
from .log import Point
from .records import (
    ALLOCATE_BUFFER,
    CREATE_SEMAPHORE,
    FAIL,
    FLUSH,
    FOR_ANY,
    MOST_POINTS,
    ONE_SIGNAL,
    ONE_WAIT,
    SIGNAL,
    SUBMISSIONS,
    TEXT_LENGTH,
    WAIT,
    head_of,
)
from .slots import ALLOCATING, CREATING, WAIT_ALL, WAIT_ANY, Slot, brief_head, key_of, object_of

if TYPE_CHECKING:
    from .log import Log

#: How many timepoints of a list the journal keeps.
LISTED_POINTS: Final = 32

Fact = int | str | float | Sequence[Point] | None


#: The wait that each thread of this process is in, by the thread's identifier.
WAITS: dict[int, WaitCall] = {}

_WAIT_KINDS: Final = {"all": WAIT_ALL, "any": WAIT_ANY}

Made = TypeVar("Made", bound=Any)


class Making(NamedTuple):
    """A kind of call that makes something which has a serial number."""

    operation: str
    #: What the call is while it lasts, and the record of what it made.
    in_progress: int
    done: int
    #: What it is given is called so in an entry.
    key: str

    def facts(self, given: object) -> str:
        """Return what it is given as a part of an entry."""
        return facts_text(**{self.key: given if self.key == "v" and type(given) is int else repr(given)})


SEMAPHORE: Final = Making("create_semaphore", CREATING, CREATE_SEMAPHORE, "v")
BUFFER: Final = Making("allocate_buffer", ALLOCATING, ALLOCATE_BUFFER, "a")


class Calls:
    """Tells the journal what is called on one device. Made only where there is a journal. Thread-safe."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.device = journal.new_device()
        #: The key of the device; with a serial number, that of an object.
        self.key = key_of(self.device)
        self.signal_head = head_of(SIGNAL, self.device)
        self._heads = {call: head_of(kind, self.device) for call, kind in SUBMISSIONS.items()}
        self._making_heads = {
            kind.done: (brief_head(kind.in_progress, self.key), head_of(kind.done, self.device))
            for kind in (SEMAPHORE, BUFFER)
        }

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
        if type(queue) is int and not latches and len(waits) <= MOST_POINTS and len(signals) <= MOST_POINTS:
            head = self._heads[call] + len(waits) * ONE_WAIT + len(signals) * ONE_SIGNAL  # by far the most
            wait = wait_2 = wait_value = wait_value_2 = signal = signal_2 = signal_value = signal_value_2 = 0
            if waits:
                wait, wait_value = waits[0].serial, waits[0].value
                if len(waits) > 1:
                    wait_2, wait_value_2 = waits[1].serial, waits[1].value
            if signals:
                signal, signal_value = signals[0].serial, signals[0].value
                if len(signals) > 1:
                    signal_2, signal_value_2 = signals[1].serial, signals[1].value
            return self.journal.begin_submission(
                head, what, wait_value, wait_value_2, signal_value, signal_value_2,
                wait, wait_2, signal, signal_2, queue, accepted,
            )  # fmt: skip
        # What is not an int, by a slip of the case's, is written as a text, so that the entry can be read.
        number = queue if type(queue) is int else _quoted(repr(queue)[:TEXT_LENGTH])
        held = f',"h":{list(latches[:LISTED_POINTS])}' if latches else ""
        points = _points_text("w", waits) + _points_text("s", signals)
        facts = f',"k":{accepted},"c":"{call}","a":{_quoted(what[:TEXT_LENGTH])},"q":{number}{points}{held}'
        return self.journal.begin("submit", self.device, facts)

    def waiting(self, timepoints: Sequence[Timepoint], mode: str, timeout: float | None) -> int:
        """Record, by an entry, that this thread begins to wait; return the number of the call."""
        return self.journal.begin("wait", self.device, facts_text(w=points_of(timepoints), m=mode, to=timeout))

    def call(self, kind: int, serial: int) -> Call:
        """Record that this thread begins a call of a kind that has records; return what records its end."""
        return Call(self, self.journal.begin_call(head_of(kind, self.device), serial))

    def flushing(self, queue: int) -> Call:
        """Record that this thread begins to flush a queue, of whatever a case may take for one."""
        if type(queue) is int:
            return self.call(FLUSH, queue)
        return Call(self, self.journal.begin("flush", self.device, facts_text(q=repr(queue))))

    def failing(self, serial: int, error: HalError) -> Call:
        """Record that this thread begins to fail a semaphore."""
        return Call(self, self.journal.begin_call(head_of(FAIL, self.device), serial, 0, str(error)))

    def make(self, kind: Making, given: int, name: str | None, make: Callable[[int], Made]) -> Made:
        """Call ``make(given)`` and record it: that it is in progress, and what it made or raised.

        A case may give whatever it likes.
        """
        journal, since = self.journal, time.monotonic()
        in_progress, done = self._making_heads[kind.done]
        slot = journal.begin_brief(in_progress, given, since) if type(given) is int else None
        begun = 0
        if slot is None:
            begun = journal.begin(kind.operation, self.device, kind.facts(given))
        try:
            made = make(given)
            if slot is None:
                self.made(begun, made.serial, name)
            else:
                journal.write_made(done, made.serial, given, name)
        except BaseException as error:
            if slot is None:
                self.raised(begun, error)
            else:
                self.refused(kind.operation, since, kind.facts(given), error)
            raise
        finally:
            if slot is not None:
                journal.end_brief(slot)
        return made

    def made(self, call: int, serial: int, name: str | None) -> None:
        """Record that a call is over, and what it made."""
        self.journal.end(call, facts_text(s=serial, name=name))

    def ended(self, call: int, error: BaseException | None) -> None:
        """Record that a call is over, and what it raised, if it did."""
        if error is None:
            self.journal.end(call)
        else:
            self.raised(call, error)

    def raised(self, call: int, error: BaseException) -> None:
        """Record that a call is over, and what it raised."""
        self.journal.end_raised(call, _error_text(error))

    def refused(self, operation: str, since: float, facts: str, error: BaseException) -> None:
        """Record a call that had no entry, and what it raised."""
        self.journal.write_refused(operation, self.device, since, facts, _error_text(error))

    def named(self, names: Iterable[tuple[int, str]]) -> None:
        """Record what the case calls some of its objects, by serial number."""
        listed = list(names)[:LISTED_POINTS]
        if listed:
            self.journal.write({"o": "names", "d": self.device, "n": listed})


def calls_of_new_device() -> Calls | None:
    """Return what a device being opened reports its calls to."""
    journal = current_journal()
    return None if journal is None else Calls(journal)


def _error_text(error: BaseException) -> str:
    text = str(error) if isinstance(error, HalError) else f"{type(error).__name__}: {error}"
    return text[:TEXT_LENGTH]


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
        #: What it made: serial number and name.
        self.made: tuple[int, str | None] | None = None

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and self.made is not None:
            self._calls.made(self._id, *self.made)
        else:
            self._calls.ended(self._id, error)


#: What there is instead of a :class:`Call` where there is no journal.
UNRECORDED: Final = nullcontext()


def in_call(calls: Calls | None, operation: str, **facts: Fact) -> AbstractContextManager[Call | None]:
    """Return a context manager that records a call, if there is a journal."""
    if calls is None:
        return UNRECORDED
    return Call(calls, calls.journal.begin(operation, calls.device, facts_text(**facts)))


class WaitCall:
    """A wait in progress, as a context manager: known to this process, and to the journal if there is one."""

    __slots__ = ("_calls", "_id", "_key", "_mode", "_slot", "_timeout", "log", "since", "timepoints")

    def __init__(
        self, log: Log, calls: Calls | None, timepoints: tuple[Timepoint, ...], mode: str, timeout: float | None
    ) -> None:
        self.log = log
        self.timepoints = timepoints
        #: On ``time.monotonic``.
        self.since = time.monotonic()
        self._calls, self._mode, self._timeout = calls, mode, timeout

    def __enter__(self) -> None:
        WAITS[threading.get_ident()] = self
        calls, timeout = self._calls, self._timeout
        if calls is None:
            return
        self._slot: Slot | None = None
        if len(self.timepoints) == 1:
            (point,) = self.timepoints
            self._key = getattr(point.semaphore, "journal_key", 0)
            if self._key:
                head = brief_head(_WAIT_KINDS[self._mode], self._key)
                seconds = math.nan if timeout is None else timeout
                self._slot = calls.journal.begin_brief(head, point.value, self.since, seconds)
        if self._slot is None:
            self._id = calls.waiting(self.timepoints, self._mode, timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        WAITS.pop(threading.get_ident(), None)
        calls = self._calls
        if calls is None:
            return
        if self._slot is None:
            calls.ended(self._id, error)
        elif error is None:
            calls.journal.end_wait(self._slot, self._key, self.timepoints[0].value)
        else:
            head = head_of(WAIT, calls.device) | (FOR_ANY if self._mode == "any" else 0)
            seconds = math.nan if self._timeout is None else self._timeout
            value, (_, serial) = self.timepoints[0].value, object_of(self._key)
            calls.journal.write_refused_wait(head, serial, value, self.since, seconds, _error_text(error))
            calls.journal.end_brief(self._slot)


def points_of(timepoints: Iterable[Timepoint]) -> tuple[Point, ...]:
    """Return the timepoints of observed semaphores as the log writes them; others are left out."""
    return tuple(
        [Point(serial, t.value) for t in timepoints if (serial := getattr(t.semaphore, "serial", None)) is not None]
    )
