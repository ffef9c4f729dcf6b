"""Saboteurs of the clauses about host waits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.semaphore import HostWait, Point, ReferenceSemaphore
from pytest_cuda2hal.hal import Command, CommandBuffer, HalError, Profile, StatusCode, Timepoint, WaitMode

from . import breaks


class AwaitsOneLess(HostWait):
    def begin(self) -> None:
        self._points = tuple(Point(point.semaphore, max(0, point.value - 1)) for point in self._points)
        self._unreached = set(self._points)
        super().begin()


@breaks("W-1", "a wait ends one value early")
class W1(ReferenceDevice):
    host_wait_class = AwaitsOneLess


class PublishesLate(ReferenceSemaphore):
    """Keeps what query reads apart from what waiters are woken by."""

    _published: int | None = None

    def _signal_from_queue(self, value: int) -> None:
        before = self._value
        super()._signal_from_queue(value)
        self._published = before

    def query(self) -> int:
        value = super().query()
        published, self._published = self._published, None
        return value if published is None else published


@breaks("W-2", "a device signal wakes who waits before query shows its value")
class W2(ReferenceDevice):
    semaphore_class = PublishesLate


class LooksAtTheClockFirst(ReferenceDevice):
    def wait_semaphores(
        self, timepoints: Iterable[Timepoint], *, mode: WaitMode = WaitMode.ALL, timeout: float | None = None
    ) -> None:
        if timeout is not None and timeout <= 0:
            raise HalError(StatusCode.DEADLINE_EXCEEDED, "no time left")
        super().wait_semaphores(timepoints, mode=mode, timeout=timeout)


@breaks("W-3", "an expired wait gives DEADLINE_EXCEEDED without a look at the value")
class W3(LooksAtTheClockFirst):
    pass


class ZeroIsNone(HostWait):
    def block(self, timeout: float | None) -> None:
        super().block(timeout or None)


@breaks("W-4", "an expired timeout is taken for none")
class W4(ReferenceDevice):
    host_wait_class = ZeroIsNone


class WholeMilliseconds(HostWait):
    def block(self, timeout: float | None) -> None:
        super().block(timeout and math.floor(timeout * 1000) / 1000)


@breaks("W-5", "a timeout is rounded down to milliseconds")
class W5(ReferenceDevice):
    host_wait_class = WholeMilliseconds


class EndsWithAnySignal(ReferenceSemaphore):
    def _advance(self, value: int) -> None:
        super()._advance(value)
        for waiting in self._waiters.values():
            for waiter, point in list(waiting.items()):
                if isinstance(waiter, HostWait):
                    waiter.reached(point)


@breaks("W-6", "any signal ends every host wait, which does not look at the value again")
class W6(ReferenceDevice):
    semaphore_class = EndsWithAnySignal


class OneWaitPerValue(ReferenceSemaphore):
    def _advance(self, value: int) -> None:
        for waiting in self._waiters.values():
            host = [waiter for waiter in waiting if isinstance(waiter, HostWait)]
            for waiter in host[:-1]:
                del waiting[waiter]
        super()._advance(value)


@breaks("W-7", "a value remembers who waited for it last, and wakes nobody else")
class W7(ReferenceDevice):
    semaphore_class = OneWaitPerValue


class WakesWhoWaitsForJustThis(ReferenceSemaphore):
    def _advance(self, value: int) -> None:
        for awaited, waiting in self._waiters.items():
            if awaited < value:
                for waiter in [waiter for waiter in waiting if isinstance(waiter, HostWait)]:
                    del waiting[waiter]
        super()._advance(value)


@breaks("W-8", "a signal wakes who waits for just its value, and forgets who waits for less")
class W8(ReferenceDevice):
    semaphore_class = WakesWhoWaitsForJustThis


class LooksThenRegisters(HostWait):
    def begin(self) -> None:
        for point in self._points:
            if point.semaphore._has_reached(point.value):
                self.reached(point)
                continue
            lock = point.semaphore.device.lock
            lock.release()
            time.sleep(0.0002)
            lock.acquire()
            point.semaphore._register(self, point)


@breaks("W-9", "a wait looks at the value, and registers for it a moment later")
class W9(ReferenceDevice):
    host_wait_class = LooksThenRegisters


class CountedWait(HostWait):
    def block(self, timeout: float | None) -> None:
        device = self._points[0].semaphore.device if self._points else None
        if not isinstance(device, SubmitsWhenNobodyWaits):
            return
        device.count(1)
        try:
            super().block(timeout)
        finally:
            device.count(-1)


class SubmitsWhenNobodyWaits(ReferenceDevice):
    host_wait_class = CountedWait

    def __init__(self, rules: Profile, *, seed: int | None = None, queues: int = 4, memory: int = 64 * 2**20) -> None:
        super().__init__(rules, seed=seed, queues=queues, memory=memory)
        self._waits = 0
        self._changed = threading.Condition()

    def count(self, more: int) -> None:
        with self._changed:
            self._waits += more
            self._changed.notify_all()

    def queue_execute(
        self,
        commands: Sequence[Command] | CommandBuffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waits == 0)
        super().queue_execute(commands, wait=wait, signal=signal, queue=queue)


@breaks("W-10", "waits and submissions share a lock, as readers and writers do")
class W10(SubmitsWhenNobodyWaits):
    pass


class Spins(HostWait):
    def block(self, timeout: float | None) -> None:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self._satisfied and not self._woken.is_set() and time.monotonic() < end:
            pass


@breaks("W-10q", "a wait looks again and again")
class W10q(ReferenceDevice):
    host_wait_class = Spins


class WakesTheOthers(HostWait):
    def end(self) -> None:
        for point in self._unreached:
            for waiter in point.semaphore._waiters.get(point.value, ()):
                if isinstance(waiter, HostWait):
                    waiter._woken.set()
        super().end()


@breaks("W-11", "all who wait for one timepoint share an event, which also the deadline of one of them sets")
class W11(ReferenceDevice):
    host_wait_class = WakesTheOthers


class KeepsExceptions(HostWait):
    def block(self, timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        kept: BaseException | None = None
        while True:
            try:
                super().block(None if end is None else end - time.monotonic())
                break
            except BaseException as error:  # noqa: BLE001 - the mistake
                kept = error
        if kept:
            raise kept


@breaks("W-11q", "what a signal handler raises is kept until the wait is over")
class W11q(ReferenceDevice):
    host_wait_class = KeepsExceptions


class AtMost64(HostWait):
    def __init__(self, points: tuple[Point, ...], mode: WaitMode) -> None:
        super().__init__(points[:64], mode)


@breaks("W-12", "a wait takes no more than the first 64 timepoints of its list")
class W12(ReferenceDevice):
    host_wait_class = AtMost64


class BlocksOnTheFirstUnreached(HostWait):
    def begin(self) -> None:
        blocks = False
        for point in self._points:
            if not point.semaphore._has_reached(point.value):
                point.semaphore._register(self, point)
                blocks = self._mode is WaitMode.ANY
            elif not blocks:
                self.reached(point)


@breaks("W-13", "a wait-any that meets an unreached timepoint blocks, though a later one of its list is reached")
class W13(ReferenceDevice):
    host_wait_class = BlocksOnTheFirstUnreached
