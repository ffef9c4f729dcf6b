"""One timeline, out of a value that the host keeps and the events of device work that will signal it."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from pytest_cuda2hal.hal import HalError, Semaphore, StatusCode

from .hostwait import wait_for_one
from .locks import Rank, make_lock
from .timepoints import DeviceWait, HostWaitPoint, Waiting, WaitQueue, in_range

if TYPE_CHECKING:
    from .actions import Action
    from .engine import Engine


class EventSemaphore(Semaphore):
    """A timeline semaphore. Thread-safe.

    One lock guards value, failure and registrations, so that a look at the value and the registration of who waits for
    a later one are one step. It is never held across a driver call, a wait, or anybody's wake-up, and no thread holds
    two of them.
    """

    def __init__(self, engine: Engine, initial_value: int) -> None:
        self.engine = engine
        self._lock = make_lock(Rank.SEMAPHORE, check=engine.parameters.check_locks)
        self._value = initial_value
        self._failure: HalError | None = None
        #: Everyone who waits for a value.
        self._waits = WaitQueue()
        #: Those of them that need a producer, or the value, before their action can be issued.
        self._unbound = WaitQueue()
        # Device signals that are issued and not yet made, ascending: values, and the actions that make them.
        self._signal_values: list[int] = []
        self._signal_actions: list[Action] = []
        engine.semaphore_made()

    def __del__(self) -> None:
        # May run on any thread at any moment, with any lock held: no lock, no driver call.
        engine = getattr(self, "engine", None)
        if engine is not None:
            engine.semaphores_gone.append(None)

    # --- what the host does

    def query(self) -> int:
        with self._lock:
            if self._failure:
                raise self._failure.again()
            return self._value

    def signal(self, value: int) -> None:
        value = in_range(value)
        due: list[Waiting] = []
        try:
            with self._lock:
                if self._failure:
                    raise self._failure.again()
                if value <= self._value:
                    text = f"signal({value}) does not advance a timeline at {self._value}"
                    raise HalError(StatusCode.OUT_OF_RANGE, text)
                self._value = value
                self._take(value, due)
            if due:
                for wait in due:
                    wait.reached()
                self.engine.turn()
        except HalError:
            raise
        except BaseException:  # a signal handler's: whoever was to be told still is
            self.engine.tell_later(self, due)
            raise

    def fail(self, error: HalError) -> None:
        if not isinstance(error, HalError):
            raise TypeError(f"a semaphore fails with a HalError, not {error!r}")
        due: list[Waiting] = []
        try:
            due = self.fail_from_device(error)
            for wait in due:
                wait.failed(error)
            if due:
                self.engine.turn()
        except HalError:
            raise
        except BaseException:  # as above
            self.engine.tell_later(self, due)
            raise

    def wait(self, value: int, timeout: float | None = None) -> None:
        wait_for_one(self.engine, self, value, timeout)

    # --- what host waits do

    def begin_wait(self, point: HostWaitPoint) -> None:
        """Tell the point at once if its value is reached or the semaphore has failed; else register it."""
        with self._lock:
            failure, reached = self._failure, self._value >= point.value
            if not failure and not reached:
                self._waits.push(point)
        if failure:
            point.failed(failure)
        elif reached:
            point.reached()

    def end_wait(self, point: HostWaitPoint) -> None:
        """Forget the point, if it is still registered."""
        with self._lock:
            if not point.dead:
                point.dead = True
                if point.queued:
                    self._waits.given_up(point)

    def is_past(self, value: int) -> bool:
        """Whether there is nothing to wait for: the value is reached, or the semaphore has failed."""
        return self._failure is not None or self._value >= value

    def producer_of(self, value: int) -> Action | None:
        """Return the issued action whose signal will reach ``value`` first; ``None`` if there is none yet."""
        with self._lock:
            return self._producer_of(value)

    def _producer_of(self, value: int) -> Action | None:
        place = bisect_left(self._signal_values, value)
        return self._signal_actions[place] if place < len(self._signal_actions) else None

    # --- what actions do; the caller has the engine's role

    def look(self, value: int) -> tuple[HalError | None, bool, Action | None]:
        """Return the failure, whether ``value`` is reached, and who will reach it."""
        with self._lock:
            if self._failure is not None:
                return self._failure, False, None
            if self._value >= value:
                return None, True, None
            return None, False, self._producer_of(value) if self._signal_values else None

    def register(self, wait: DeviceWait) -> tuple[HalError | None, bool, Action | None]:
        """Look once more, and in the same step register a wait that is neither reached nor failed."""
        with self._lock:
            if self._failure:
                return self._failure, False, None
            if self._value >= wait.value:
                return None, True, None
            self._waits.push(wait)
            producer = wait.producer or self._producer_of(wait.value)
            if producer is None and not wait.for_host:
                self._unbound.push(wait)
            return None, False, producer

    def unregister(self, wait: DeviceWait) -> None:
        """Forget a wait; nothing happens to one that has been taken out already."""
        with self._lock:
            if wait.queued and not wait.dead:
                wait.dead = True
                if wait.queued > 1:
                    self._unbound.given_up(wait)
                self._waits.given_up(wait)

    def recorded(self, value: int, action: Action) -> list[Waiting]:
        """The event of an action that will signal ``value`` is recorded: return the waits it can be bound to."""
        due: list[Waiting] = []
        with self._lock:
            if self._failure or value <= self._value:
                return due
            values = self._signal_values
            if not values or value >= values[-1]:
                values.append(value)
                self._signal_actions.append(action)
            else:
                place = bisect_left(values, value)
                values.insert(place, value)
                self._signal_actions.insert(place, action)
            if self._unbound.reaches(value):
                self._unbound.take(value, due)
        return due

    def signal_from_device(self, value: int, action: Action) -> list[Waiting]:
        """Make the signal of finished work and return who waits for it; a value that has been passed stays passed."""
        due: list[Waiting] = []
        with self._lock:
            self._forget_signal(value, action)
            if not self._failure and value > self._value:
                self._value = value
                self._take(value, due)
        return due

    def withdraw_signal(self, value: int, action: Action) -> None:
        """Nobody must be bound to a signal that will not be made."""
        with self._lock:
            self._forget_signal(value, action)

    def _forget_signal(self, value: int, action: Action) -> None:
        values, actions = self._signal_values, self._signal_actions
        if actions and actions[0] is action:
            del values[0], actions[0]
            return
        place = bisect_left(values, value)
        while place < len(values) and values[place] == value:
            if actions[place] is action:
                del values[place], actions[place]
                return
            place += 1

    def fail_from_device(self, error: HalError) -> list[Waiting]:
        """Fail for good, unless that has happened, and return everyone who waits."""
        due: list[Waiting] = []
        with self._lock:
            if not self._failure:
                self._failure = error.again()
                self._take(None, due)
                self._signal_values, self._signal_actions = [], []
        return due

    def _take(self, value: int | None, into: list[Waiting]) -> None:
        if self._waits.reaches(value):
            self._waits.take(value, into)
        if self._unbound.reaches(value):  # these have been told as members of the other queue
            self._unbound.take(value, [])

    def settle(self, due: list[Waiting]) -> None:
        """Tell those in ``due``, and whoever waits for what is reached or failed: their signaler was interrupted."""
        with self._lock:
            failure = self._failure
            self._take(None if failure else self._value, due)
        for wait in due:
            if failure:
                wait.failed(failure)
            else:
                wait.reached()

    def failure_before(self, value: int) -> HalError | None:
        """Return the failure of a semaphore that failed below ``value``."""
        if self._failure is None:  # a look at one attribute needs no lock
            return None
        with self._lock:
            return self._failure if self._value < value else None

    def waiting(self) -> int:
        """Count the waits."""
        with self._lock:
            return len(self._waits)
