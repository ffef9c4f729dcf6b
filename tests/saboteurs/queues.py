"""Saboteurs of the clauses about what submissions are given, how many there are, and queues."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.commands import check_command, run_commands
from pytest_cuda2hal.backends.reference.memory import ReferenceBuffer
from pytest_cuda2hal.backends.reference.semaphore import Point, ReferenceSemaphore, Waiter
from pytest_cuda2hal.backends.reference.submission import State, Submission
from pytest_cuda2hal.hal import Command, CommandBuffer, HalError, StatusCode, Timepoint, captured

from . import breaks
from .submissions import Choosy, Named


@breaks("Q-15", "the command list of the caller is read when the submission runs")
class Q15(ReferenceDevice):
    def queue_execute(
        self,
        commands: Sequence[Command] | CommandBuffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        listed = commands.commands if isinstance(commands, CommandBuffer) else commands
        for command in listed:
            check_command(self, command)
        self._submit(lambda: run_commands(listed), wait, signal, queue)


class OneValuePerSemaphore(Submission):
    def submit(self) -> None:
        first: dict[ReferenceSemaphore, Point] = {}
        for point in self._waits:
            first.setdefault(point.semaphore, point)
        self._waits = tuple(first.values())
        self._unreached = set(self._waits)
        super().submit()


@breaks("Q-16", "of several values of one semaphore in a wait list the first counts")
class Q16(ReferenceDevice):
    submission_class = OneValuePerSemaphore


class FixedArray(Submission):
    def submit(self) -> None:
        self._waits = self._waits[:512]
        self._unreached = set(self._waits)
        super().submit()


@breaks("Q-17", "of a wait list the first 512 timepoints count")
class Q17(ReferenceDevice):
    submission_class = FixedArray


@breaks("Q-17q", "a list of more than 2,000 timepoints is refused as an internal error")
class Q17q(ReferenceDevice):
    def _own_points(self, timepoints: Iterable[Timepoint]) -> tuple[Point, ...]:
        points = super()._own_points(timepoints)
        if len(points) > 2000:
            raise HalError(StatusCode.INTERNAL, "list too long")
        return points


class NeedsAPlaceInTheTable(Submission):
    def submit(self) -> None:
        if len(self._device.unretired) < 16384:
            super().submit()


@breaks("Q-18", "what is submitted while 16,384 are pending is lost")
class Q18(ReferenceDevice):
    submission_class = NeedsAPlaceInTheTable


class LooksAtAll(Submission):
    def reached(self, point: Point) -> None:
        assert not any(other.state is State.RETIRED for other in self._device.unretired)
        super().reached(point)


@breaks("Q-18q", "whenever a wait is reached, everything that is pending is looked at")
class Q18q(ReferenceDevice):
    submission_class = LooksAtAll


@breaks("Q-19", "a thread that has created nothing cannot submit: no context is current on it")
class Q19(ReferenceDevice):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._context = threading.local()
        super().__init__(*arguments, **options)

    def create_semaphore(self, initial_value: int = 0) -> ReferenceSemaphore:
        self._context.current = True
        return super().create_semaphore(initial_value)

    def allocate_buffer(self, size: int) -> ReferenceBuffer:
        self._context.current = True
        return super().allocate_buffer(size)

    def _submit(self, *arguments: Any, **how: Any) -> None:
        if not getattr(self._context, "current", False):
            raise HalError(StatusCode.FAILED_PRECONDITION, "no context is current on this thread")
        super()._submit(*arguments, **how)


class OneWay(Choosy):
    def tells(self, waiter: Waiter, point: Point, together: list[Waiter]) -> bool:
        producer = Named.signaling
        if not isinstance(waiter, Submission) or producer is None:
            return True
        queues = self.device._queues
        return queues.index(waiter._queue) >= queues.index(producer._queue)


@breaks("Q-20", "a queue's signals do not reach the queues before it")
class Q20(ReferenceDevice):
    semaphore_class = OneWay
    submission_class = Named


@breaks("Q-21", "a flush starts what is pending, reached or not")
class Q21(ReferenceDevice):
    def queue_flush(self, queue: int = 0) -> None:
        target = self._queue(queue)
        with self.changing():
            for submission in sorted(self.unretired, key=lambda one: one.serial):
                if submission._queue is target:
                    submission._unreached.clear()
                    submission._start_if_ready()


@breaks("Q-22", "a refused submission has made its signals")
class Q22(ReferenceDevice):
    def _submit(
        self, work: Callable[[], None], wait: Iterable[Timepoint], signal: Iterable[Timepoint], queue: int, **how: Any
    ) -> None:
        signals = captured(signal)
        try:
            super()._submit(work, wait, signals, queue, **how)
        except HalError:
            with self.changing():
                for point in self._own_points(signals):
                    point.semaphore._signal_from_queue(point.value)
            raise


class SignalsOnAheadOfItsWork(Submission):
    def run(self) -> None:
        work = self._work
        timelines = {point.semaphore for point in self._waits}
        if work and any(point.semaphore in timelines for point in self._signals):
            threading.Timer(0.01, work).start()
            self._work = None
        super().run()


@breaks("Q-23", "a link of a timeline passes the signal on while it still works")
class Q23(ReferenceDevice):
    submission_class = SignalsOnAheadOfItsWork


@breaks("Q-24", "submitting blocks while a queue has a thousand submissions to run")
class Q24(ReferenceDevice):
    def _submit(
        self, work: Callable[[], None], wait: Iterable[Timepoint], signal: Iterable[Timepoint], queue: int, **how: Any
    ) -> None:
        target = self._queue(queue)
        while sum(one._queue is target and one.state is State.IN_FLIGHT for one in list(self.unretired)) >= 1000:
            time.sleep(0.001)
        super()._submit(work, wait, signal, queue, **how)
