"""Defects of what a queue does with its submissions: too early, too late, out of order, never, or at what cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytest_cuda2hal.hal import HalError, StatusCode, Timepoint

from ..reference.semaphore import Point, ReferenceSemaphore
from ..reference.submission import Submission
from .base import FaultyReference, FaultySemaphore, FaultySubmission
from .frame import Chance, defect


def announced(semaphore: ReferenceSemaphore) -> int:
    """Return the largest value that a submission has been accepted to signal: there is a device event up to there."""
    return semaphore.announced if isinstance(semaphore, FaultySemaphore) else 0


class Announcing(FaultySubmission):
    """A submission that says on its semaphores what it will signal."""

    def submit(self) -> None:
        for point in self._signals:
            if isinstance(point.semaphore, FaultySemaphore):
                point.semaphore.announced = max(point.semaphore.announced, point.value)
        super().submit()

    def wait_only_for(self, points: Iterable[Point]) -> None:
        """Forget about every other timepoint of the wait list."""
        self._waits = tuple(points)
        self._unreached &= set(self._waits)


class WaitsForUnrecorded(Announcing):
    """A submission that waits for an event also where none was recorded."""

    def submit(self) -> None:
        self.wait_only_for(
            point for point in self._waits if point.value <= announced(point.semaphore) or not self.strikes()
        )
        super().submit()


@defect(
    "unrecorded-event",
    happened="iree-org/iree 1bb26cb345, fixed by 459fab66b0, #17025: a wait got an event that nobody had recorded",
    clauses=("Q-1", "Q-8"),
    rarely=(50, 1000),
)
class UnrecordedEvent(FaultyReference):
    """A wait whose signal no submission has been given yet holds nothing back."""

    semaphore_class = FaultySemaphore
    submission_class = WaitsForUnrecorded


class ForgetsWhatWasBound(Announcing):
    """A submission that binds device events when it is submitted, and counts them anew when it is looked at again."""

    _bound: frozenset[Point] = frozenset()

    def submit(self) -> None:
        self._bound = frozenset(point for point in self._waits if point.value <= announced(point.semaphore))
        super().submit()

    def reached(self, point: Point) -> None:
        if self.strikes():
            self._unreached -= self._bound
        super().reached(point)


@defect(
    "rescan-forgets-device-waits",
    happened="iree-org/iree 459fab66b0, fixed by 3a2617f9a8, #17213: the next scan set event_count to 0",
    clauses=("Q-8", "Q-11"),
    rarely=(50, 1000),
)
class RescanForgetsDeviceWaits(FaultyReference):
    """When one wait is reached, those for producers that had been submitted before are forgotten."""

    semaphore_class = FaultySemaphore
    submission_class = ForgetsWhatWasBound


class RecyclesRecords(Announcing):
    """A submission that waits through pooled events, which keep what they recorded last."""

    _events: tuple[list[bool], ...] = ()

    def submit(self) -> None:
        device = self._device
        waits = [point for point in self._waits if not point.semaphore._has_reached(point.value)]
        if isinstance(device, RecycledRecord):
            self._events = tuple(device.pool.pop() if device.pool else [False] for _ in waits)
            old = {point for point, event in zip(waits, self._events, strict=True) if event[0] and self.strikes()}
            self.wait_only_for(point for point in self._waits if point not in old)
        super().submit()

    def retire(self, error: HalError | None) -> None:
        if isinstance(self._device, RecycledRecord):
            self._device.pool.extend([True] for _ in self._events)
            self._events = ()
        super().retire(error)


@defect(
    "recycled-event-has-its-old-record",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: an event is in the list before cuEventRecord, with what it "
    "recorded in its last life (ABA)",
    clauses=("L-4", "Q-1"),
    rarely=(50,),
)
class RecycledRecord(FaultyReference):
    """A wait whose event has been used before is satisfied by what the event recorded then."""

    submission_class = RecyclesRecords

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.pool: list[list[bool]] = []


class First32(Announcing):
    """A submission with room for 32 waits."""

    def submit(self) -> None:
        if self.strikes():
            self.wait_only_for(self._waits[:32])
        super().submit()


@defect(
    "waits-beyond-the-32nd",
    happened="iree-org/iree 381a16c097, #15673: a wait list went into an array of 32 events",
    clauses=("Q-17", "Q-1"),
)
class WaitsBeyondThe32nd(FaultyReference):
    """The 33rd timepoint of a wait list, and those after it, hold nothing back."""

    submission_class = First32


class OnePerSemaphore(Announcing):
    """A submission that keeps one event for each semaphore."""

    def submit(self) -> None:
        if self.strikes():
            self.wait_only_for({point.semaphore: point for point in self._waits}.values())
        super().submit()


@defect(
    "last-wait-of-a-semaphore",
    happened="iree-org/iree 1bb26cb345, fixed by babd4d9add, #14876: a loop without a break stored the last match",
    clauses=("Q-16",),
)
class LastWaitOfASemaphore(FaultyReference):
    """Where a wait list names a semaphore several times, only its last value is waited for."""

    submission_class = OnePerSemaphore


class WaitsForTheLast(Announcing):
    """A submission that waits for the newest event of a timeline."""

    def submit(self) -> None:
        if self.strikes():
            newest = (Point(point.semaphore, max(point.value, announced(point.semaphore))) for point in self._waits)
            self._waits = tuple(newest)
            self._unreached = set(self._waits)
        super().submit()


@defect(
    "waits-for-the-last-producer",
    happened="iree-org/iree, after babd4d9add too: timepoints are put in front, so the first match is the newest",
    clauses=("Q-12",),
)
class WaitsForTheLastProducer(FaultyReference):
    """A submission that waits for s@1 waits for the last of the values that submissions are to signal."""

    semaphore_class = FaultySemaphore
    submission_class = WaitsForTheLast


class OneAtATime(FaultySubmission):
    """A submission that waits for its turn."""

    def submit(self) -> None:
        if isinstance(self._device, FifoAcrossQueues) and self.strikes():
            self._device.order[self] = None
        super().submit()

    def _start_if_ready(self) -> None:
        order = self._device.order if isinstance(self._device, FifoAcrossQueues) else {}
        if self not in order or self is next(iter(order)):
            super()._start_if_ready()

    def retire(self, error: HalError | None) -> None:
        super().retire(error)
        if isinstance(self._device, FifoAcrossQueues) and self._device.order.pop(self, self) is None:
            for first in list(self._device.order)[:1]:
                first._start_if_ready()


@defect(
    "fifo-across-queues",
    happened="iree-org/iree 13515748c7: backends relied on the order in which all queues were given their work",
    clauses=("Q-5", "Q-14", "Q-20"),
)
class FifoAcrossQueues(FaultyReference):
    """Nothing starts, on any queue, before everything that was submitted earlier has completed."""

    submission_class = OneAtATime

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.order: dict[OneAtATime, None] = {}


class SignalsOtherQueues(FaultySubmission):
    """A submission whose signals other queues see when it is handed over."""

    def _start_if_ready(self) -> None:
        before = self.state
        super()._start_if_ready()
        if before is self.state or not self.strikes():
            return
        for signal in self._signals:
            for value, waiting in list(signal.semaphore._waiters.items()):
                for waiter, point in list(waiting.items()):
                    if value <= signal.value and isinstance(waiter, Submission) and waiter._queue is not self._queue:
                        waiter.reached(point)


@defect(
    "published-at-submit",
    happened="iree-org/iree f2b41af696: vulkan published a signal to other queues before the native submit",
    clauses=("Q-2", "Q-5", "Q-20"),
    rarely=(50, 1000),
)
class PublishedAtSubmit(FaultyReference):
    """A consumer on another queue starts when its producer is handed to the device, not when it is done."""

    submission_class = SignalsOtherQueues


class StopsAtTheFirst(FaultySubmission):
    """A submission whose signals are a loop that an error ends."""

    def retire(self, error: HalError | None) -> None:
        if not error and self.strikes():
            good = [
                not point.semaphore._failed_with() and point.semaphore._value < point.value for point in self._signals
            ]
            self._signals = self._signals[: [*good, False].index(False)]
        super().retire(error)


@defect(
    "signals-stop-at-the-first-error",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: list_signal stops at the first error, which is dropped",
    clauses=("F-11", "Q-13"),
)
class SignalsStopAtTheFirstError(FaultyReference):
    """When one signal of a list cannot be made, since its semaphore has failed or moved on, the rest is not made."""

    submission_class = StopsAtTheFirst


class ExactOnly(FaultySemaphore):
    """A timeline whose signals look for their own value."""

    def _advance(self, value: int) -> None:
        for awaited, waiting in self._waiters.items():
            for waiter in list(waiting):
                if awaited < value and isinstance(waiter, Submission) and self.strikes():
                    del waiting[waiter]
        super()._advance(value)


@defect(
    "larger-signal-misses-smaller-wait",
    happened="KhronosGroup/Vulkan-ValidationLayers issue #8519: a larger signal did not resolve the smaller wait",
    clauses=("Q-7", "Q-10"),
)
class LargerSignalMissesSmallerWait(FaultyReference):
    """A submission that waits for a value is never released by a signal of a larger one."""

    semaphore_class = ExactOnly


@defect(
    "wait-before-signal-refused",
    happened="HansKristian-Work/vkd3d-proton issue #65: a wait on the GPU could not come before the signal of the CPU",
    clauses=("Q-3",),
)
class WaitBeforeSignalRefused(FaultyReference):
    """A submission is refused when nobody has signaled, or was given the signal of, what it waits for."""

    semaphore_class = FaultySemaphore
    submission_class = Announcing

    def _submit(self, work: Any, wait: Iterable[Timepoint], *arguments: Any, **how: Any) -> None:
        waits = self._own_points(wait)
        for point in waits:
            far = point.value > max(point.semaphore._value, announced(point.semaphore))
            if far and not point.semaphore._failed_with() and self.strikes():
                raise HalError(StatusCode.FAILED_PRECONDITION, "nobody is to signal what this waits for")
        super()._submit(work, [point.semaphore @ point.value for point in waits], *arguments, **how)
