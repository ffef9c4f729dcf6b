"""A lane: one dispatch stream of a queue, what is in flight on it, and what waits for room."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from typing import TYPE_CHECKING

from .driver import NOT_READY, Handle, error_of
from .events import HostEvent

if TYPE_CHECKING:
    from .actions import Action, Slice
    from .context import Context
    from .engine import Engine


class Lane:
    """A stream and the actions issued to it, in order. Changed by whoever has the engine's role.

    It knows its engine weakly: the completer thread keeps the lane alive, and must not keep the engine alive with it.
    """

    def __init__(self, context: Context, index: int, stream: Handle, watch_stream: Handle, watch_event: Handle) -> None:
        self.context = context
        self.index = index
        self.stream = stream
        #: Waits for events of ``stream`` without holding anything up: host functions run here, and a blocking event is
        #: recorded here for a completer that sleeps in the driver.
        self.watch_stream = watch_stream
        self.watch_event = watch_event
        self.engine: weakref.ref[Engine]
        #: Issued and not yet retired, oldest first.
        self.in_flight: deque[Action | Slice] = deque()
        #: Launches in flight.
        self.weight = 0
        #: Ready, but the stream is full.
        self.backlog: deque[Action] = deque()
        #: Position of the newest submission in flight.
        self.sequence = 0
        #: The number of the newest entry that the driver has called back for.
        self.called = 0
        #: The number of the newest entry that a host function was launched for, or was to be.
        self.announced = 0
        #: Numbers for entries, ascending.
        self.numbers = itertools.count(1)
        #: How many entries have left ``in_flight``, to see whether any do.
        self.retired = 0
        #: Wakes the completer of this lane.
        self.alarm = HostEvent()
        #: The completer sleeps until the alarm is set.
        self.asleep = False
        #: The completer is to end once nothing is in flight.
        self.stopping = False

    def has_room(self, weight: int) -> bool:
        """Whether ``weight`` more launches stay within the limit; an empty lane takes anything."""
        return not self.in_flight or self.weight + max(1, weight) <= self.context.parameters.max_in_flight

    @property
    def is_idle(self) -> bool:
        return not self.in_flight and not self.backlog

    def accept(self, entry: Action | Slice, event: Handle) -> None:
        """Take in what was issued, with the event that was recorded behind it."""
        entry.event = event
        if not self.in_flight:
            self.weight = 0  # it may be off after an interruption
        self.weight += max(1, entry.issued_weight)
        self.in_flight.append(entry)
        if self.asleep:
            self.alarm.set()

    def was_called_back(self) -> bool:
        """Tell whether there is something to retire in host-function mode. Needs no role: a look is enough."""
        try:
            return self.in_flight[0].number <= self.called
        except IndexError:
            return False

    def called_back(self) -> int:
        """Return of how many of those in flight the driver has called back, or of later ones."""
        count = 0
        for entry in self.in_flight:
            if entry.number > self.called:
                break
            count += 1
        return count

    def finished(self) -> int:
        """Ask the driver how many of those in flight are done, in as few queries as may be.

        :raises CudaError: the device is lost.
        """
        in_flight = self.in_flight
        count = len(in_flight)
        if not count or self._is_done(-1):
            return count
        if count == 1 or not self._is_done(0):
            return 0
        low, high = 1, count - 1  # that many are done; those from here on are not
        while low < high:
            middle = (low + high) // 2
            if self._is_done(middle):
                low = middle + 1
            else:
                high = middle
        return low

    def watch(self) -> bool:
        """Have the lane's blocking event follow its oldest work, so that a thread can sleep until that is done.

        The events of submissions are not blocking ones, on which a thread sleeps instead of spinning: of those a stream
        takes no more than a few dozen that cannot happen yet. False if the driver refuses; then one looks again.
        """
        driver = self.context.driver
        event = self.in_flight[0].event
        assert event is not None
        (error,) = driver.cuStreamWaitEvent(self.watch_stream, event, 0)
        if not error:
            (error,) = driver.cuEventRecord(self.watch_event, self.watch_stream)
        return not error

    def _is_done(self, place: int) -> bool:
        event = self.in_flight[place].event
        assert event is not None
        (error,) = self.context.driver.cuEventQuery(event)
        if not error:
            return True
        if error == NOT_READY:
            return False
        raise error_of(self.context.driver, "cuEventQuery", error)
