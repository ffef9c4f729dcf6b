"""One timeline, out of a value that the host keeps and the events of device work that will signal it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
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
        #: Those of them that need a producer, or the value, before their action can be issued; by value.
        self._unbound: dict[int, dict[DeviceWait, None]] = {}
        #: Device signals that are issued and not yet made, ascending: values, serial numbers, who makes them. One list,
        #: so that an interruption finds it either changed or not.
        self._signals: list[tuple[int, int, Action]] = []
        self._serial = 0
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
        refusal: HalError | None = None
        try:
            with self._lock:
                if self._failure:
                    refusal = self._failure.again()
                elif value <= self._value:
                    text = f"signal({value}) does not advance a timeline at {self._value}"
                    refusal = HalError(StatusCode.OUT_OF_RANGE, text)
                else:
                    self._value = value
                    self._take(value, due)
            if due:
                for wait in due:
                    wait.reached()
                self.engine.turn()
        except BaseException:  # a signal handler's, of whatever kind: whoever was to be told still is
            self.engine.tell_later(self, due)
            raise
        if refusal is not None:
            raise refusal

    def fail(self, error: HalError) -> None:
        if not isinstance(error, HalError):
            raise TypeError(f"a semaphore fails with a HalError, not {error!r}")
        due: list[Waiting] = []
        try:
            self.fail_from_device(error, due)
            for wait in due:
                wait.failed(error)
            if due:
                self.engine.turn()
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

    def _producer_of(self, value: int) -> Action | None:
        # A signal of a larger value is none to be bound to: the host, or work that is still to come, may reach this
        # one first, and must not have to wait for that.
        place = bisect_left(self._signals, (value,))
        is_there = place < len(self._signals) and self._signals[place][0] == value
        return self._signals[place][2] if is_there else None

    # --- what actions do; the caller has the engine's role

    def look(self, value: int) -> tuple[HalError | None, bool, Action | None]:
        """Return the failure, whether ``value`` is reached, and who will reach it."""
        with self._lock:
            if self._failure is not None:
                return self._failure, False, None
            if self._value >= value:
                return None, True, None
            return None, False, self._producer_of(value) if self._signals else None

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
                self._unbound.setdefault(wait.value, {})[wait] = None
            return None, False, producer

    def unregister(self, wait: DeviceWait) -> None:
        """Forget a wait; nothing happens to one that has been taken out already."""
        with self._lock:
            if wait.queued and not wait.dead:
                wait.dead = True
                self._waits.given_up(wait)
                same = self._unbound.get(wait.value)
                if same is not None:
                    same.pop(wait, None)
                    if not same:
                        del self._unbound[wait.value]

    def recorded(self, value: int, action: Action) -> Iterable[DeviceWait]:
        """The event of an action that will signal ``value`` is recorded: return the waits it can be bound to."""
        with self._lock:
            if self._failure or value <= self._value:
                return ()
            self._serial += 1
            insort(self._signals, (value, self._serial, action))
            return self._unbound.pop(value, ())

    def signal_from_device(self, value: int, action: Action, due: list[Waiting]) -> None:
        """Make the signal of finished work and add who waits for it to ``due``; a passed value stays passed."""
        with self._lock:
            self._forget_signal(value, action)
            if not self._failure and value > self._value:
                self._value = value
                self._take(value, due)

    def _forget_signal(self, value: int, action: Action) -> None:
        signals = self._signals
        place = bisect_left(signals, (value,))
        while place < len(signals) and signals[place][0] == value:
            if signals[place][2] is action:
                del signals[place]
                return
            place += 1

    def fail_from_device(self, error: HalError, due: list[Waiting]) -> None:
        """Fail for good, unless that has happened, and add everyone who waits to ``due``.

        Nobody is bound to a signal of it any more: none will be made.
        """
        with self._lock:
            if not self._failure:
                self._failure = error.again()
                self._take(None, due)
                self._signals = []

    def _take(self, value: int | None, into: list[Waiting]) -> None:
        if self._waits.reaches(value):
            before = len(into)
            self._waits.take(value, into)
            if self._unbound:
                for wait in into[before:]:
                    self._unbound.pop(wait.value, None)

    def settle(self, due: list[Waiting]) -> None:
        """Tell those in ``due``, and whoever waits for what is reached or failed: their signaler was interrupted."""
        with self._lock:
            failure = self._failure
            if failure:
                self._signals = []
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
