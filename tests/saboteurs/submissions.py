"""Saboteurs of the clauses about the order of submissions and about their signals."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.semaphore import HostWait, Point, ReferenceSemaphore, Waiter
from pytest_cuda2hal.backends.reference.submission import State, Submission
from pytest_cuda2hal.hal import HalError, Timepoint, captured

from . import breaks


class Choosy(ReferenceSemaphore):
    """A timeline that may leave somebody untold whose value is reached."""

    def tells(self, waiter: Waiter, point: Point, together: list[Waiter]) -> bool:
        """Whether ``waiter`` is told; ``together`` are all who wait for the same value."""
        return True

    def _advance(self, value: int) -> None:
        self._value = value
        while self._values and self._values[0] <= value:
            waiting = self._waiters.pop(heapq.heappop(self._values), {})
            for waiter, point in waiting.items():
                if self.tells(waiter, point, list(waiting)):
                    waiter.reached(point)


class Named(Submission):
    """A submission that says who it is while it makes its signals."""

    signaling: Submission | None = None

    def retire(self, error: HalError | None) -> None:
        Named.signaling = self
        try:
            super().retire(error)
        finally:
            Named.signaling = None


class IgnoresWaits(Submission):
    def submit(self) -> None:
        self._unreached.clear()
        self._waits = ()
        super().submit()


@breaks("Q-1", "a submission runs at once, whatever it waits for")
class Q1(ReferenceDevice):
    submission_class = IgnoresWaits


class SignalsFirst(Submission):
    def run(self) -> None:
        work = self._work
        with self._device.changing():
            self.retire(None)
        if work:
            work()


@breaks("Q-2", "signals are made when the work begins")
class Q2(ReferenceDevice):
    submission_class = SignalsFirst


@breaks("Q-3", "a submission waits for its wait list in the thread that submits it")
class Q3(ReferenceDevice):
    def _submit(
        self, work: Callable[[], None], wait: Iterable[Timepoint], signal: Iterable[Timepoint], queue: int, **how: Any
    ) -> None:
        waits = captured(wait)
        self.wait_semaphores(waits)
        super()._submit(work, waits, signal, queue, **how)


class NeedsASignal(Submission):
    def retire(self, error: HalError | None) -> None:
        if self._signals or error:
            super().retire(error)


@breaks("Q-4", "a submission without signals never lets go of anything")
class Q4(ReferenceDevice):
    submission_class = NeedsASignal


class InOrderOfSubmission(Choosy):
    def tells(self, waiter: Waiter, point: Point, together: list[Waiter]) -> bool:
        producer = Named.signaling
        return not (isinstance(waiter, Submission) and producer and waiter.serial < producer.serial)


@breaks("Q-5", "a producer does not find consumers that were submitted before it")
class Q5(ReferenceDevice):
    semaphore_class = InOrderOfSubmission
    submission_class = Named


class OneSubmissionEach(Choosy):
    def tells(self, waiter: Waiter, point: Point, together: list[Waiter]) -> bool:
        return waiter is next((one for one in together if isinstance(one, Submission)), waiter)


@breaks("Q-6", "one of the submissions that wait for a value is released, the others are not")
class Q6(ReferenceDevice):
    semaphore_class = OneSubmissionEach


class ExactValue(Choosy):
    def tells(self, waiter: Waiter, point: Point, together: list[Waiter]) -> bool:
        return not (isinstance(waiter, Submission) and Named.signaling) or point.value == self._value


@breaks("Q-7", "a submission's signal releases those submissions only that wait for exactly its value")
class Q7(ReferenceDevice):
    semaphore_class = ExactValue
    submission_class = Named


class HostSignalIsEnough(Named):
    def reached(self, point: Point) -> None:
        if Named.signaling is None:  # so it is the host
            self._unreached.clear()
        super().reached(point)


@breaks("Q-8", "a host signal satisfies the whole wait list")
class Q8(ReferenceDevice):
    submission_class = HostSignalIsEnough


class HostsOnly(Choosy):
    def tells(self, waiter: Waiter, point: Point, together: list[Waiter]) -> bool:
        return isinstance(waiter, HostWait) or not any(isinstance(one, HostWait) for one in together)


@breaks("Q-9", "where a host thread waits for a value, no submission that waits for it is released")
class Q9(ReferenceDevice):
    semaphore_class = HostsOnly


class MissesWhatHasPassed(Submission):
    _missed = False

    def submit(self) -> None:
        self._missed = any(point.semaphore._value > point.value > 0 for point in self._waits)
        super().submit()

    def _start_if_ready(self) -> None:
        if not self._missed:
            super()._start_if_ready()


@breaks("Q-10", "a submission never learns of a value that was passed before it was submitted")
class Q10(ReferenceDevice):
    submission_class = MissesWhatHasPassed


class ForgetsRunningProducers(Submission):
    def reached(self, point: Point) -> None:
        made = {
            signal.semaphore: signal.value
            for other in self._device.unretired
            if other.state is State.IN_FLIGHT
            for signal in other._signals
        }
        self._unreached = {one for one in self._unreached if made.get(one.semaphore, -1) < one.value}
        super().reached(point)


@breaks("Q-11", "when one wait is reached, those for producers that are running are forgotten")
class Q11(ReferenceDevice):
    submission_class = ForgetsRunningProducers


class WaitsForTheLatestProducer(Submission):
    def submit(self) -> None:
        latest = {point.semaphore: point.value for point in self._waits}
        for other in self._device.unretired:
            for signal in other._signals:
                if signal.semaphore in latest:
                    latest[signal.semaphore] = max(latest[signal.semaphore], signal.value)
        self._waits = tuple(itertools.starmap(Point, latest.items()))
        self._unreached = set(self._waits)
        super().submit()


@breaks("Q-12", "a consumer waits for the last producer of a timeline, whatever value it asks for")
class Q12(ReferenceDevice):
    submission_class = WaitsForTheLatestProducer


class StopsAtTheFirstError(Submission):
    def retire(self, error: HalError | None) -> None:
        good = itertools.takewhile(lambda point: not point.semaphore._failed_with(), self._signals)
        self._signals = tuple(good)
        super().retire(error)


@breaks("Q-13", "the first signal that cannot be made keeps those behind it from being made")
class Q13(ReferenceDevice):
    submission_class = StopsAtTheFirstError


class IssuedByTheNextCall(Submission):
    def submit(self) -> None:
        device = self._device
        assert isinstance(device, Q14)
        device.submitting = True
        super().submit()
        device.submitting = False

    def _start_if_ready(self) -> None:
        device = self._device
        assert isinstance(device, Q14)
        if device.submitting:
            device.kept.append(self)
        else:
            super()._start_if_ready()


@breaks("Q-14", "a submission that is ready at once is issued by the next call only")
class Q14(ReferenceDevice):
    submission_class = IssuedByTheNextCall
    submitting = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.kept: list[Submission] = []
        super().__init__(*arguments, **options)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        with super().changing():
            while self.kept:
                self.kept.pop()._start_if_ready()
            yield
