"""Saboteurs of the clauses about failure."""

from __future__ import annotations

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.queue import ReferenceQueue
from pytest_cuda2hal.backends.reference.semaphore import HostWait, Point, ReferenceSemaphore
from pytest_cuda2hal.backends.reference.submission import Submission
from pytest_cuda2hal.hal import HalError, StatusCode

from . import breaks


class LastFailureWins(ReferenceSemaphore):
    def _fail(self, error: HalError) -> None:
        self._failure = None
        super()._fail(error)


@breaks("F-1", "a later failure replaces the first")
class F1(ReferenceDevice):
    semaphore_class = LastFailureWins


class FailureLooksReached(ReferenceSemaphore):
    """Wakes host threads that wait for one semaphore, or for several, with success when it fails."""

    several = False

    def _fail(self, error: HalError) -> None:
        for waiting in [] if self._failure else self._waiters.values():
            for waiter, point in list(waiting.items()):
                if isinstance(waiter, HostWait) and (len(waiter._points) > 1) is self.several:
                    waiter.reached(point)
                    del waiting[waiter]
        super()._fail(error)


class FailureLooksReachedInLists(FailureLooksReached):
    several = True


@breaks("F-2", "a blocked wait takes being woken for success, also by a failure")
class F2(ReferenceDevice):
    semaphore_class = FailureLooksReached


@breaks("F-3", "a blocked wait for several counts a failed member as reached")
class F3(ReferenceDevice):
    semaphore_class = FailureLooksReachedInLists


class ShortMemory(ReferenceSemaphore):
    def _fail(self, error: HalError) -> None:
        super()._fail(HalError(error.code, error.message[:255]))


@breaks("F-4", "a message longer than 255 characters is cut")
class F4(ReferenceDevice):
    semaphore_class = ShortMemory


class Reviving(ReferenceSemaphore):
    def _signal_from_queue(self, value: int) -> None:
        self._failure = None
        super()._signal_from_queue(value)


@breaks("F-5", "the signal of a submission clears a failure that the host has set")
class F5(ReferenceDevice):
    semaphore_class = Reviving


class FailureReleases(Submission):
    def failed(self, point: Point, error: HalError) -> None:
        self.reached(point)


@breaks("F-6", "a failed wait releases the submission as if it were reached")
class F6(ReferenceDevice):
    submission_class = FailureReleases


class SwallowsFaults(Submission):
    def run(self) -> None:
        work = self._work

        def try_it() -> None:
            try:
                if work:
                    work()
            except HalError:
                pass

        self._work = try_it
        super().run()


@breaks("F-7", "what fails while it runs is passed over, and the signals are made")
class F7(ReferenceDevice):
    submission_class = SwallowsFaults


class StickyQueue(ReferenceQueue):
    error: HalError | None = None


class PoisonsItsQueue(Submission):
    def submit(self) -> None:
        super().submit()
        assert isinstance(self._queue, StickyQueue)
        if self._queue.error:
            self._device.retire_soon(self, self._queue.error)

    def retire(self, error: HalError | None) -> None:
        assert isinstance(self._queue, StickyQueue)
        self._queue.error = self._queue.error or error
        super().retire(error)


@breaks("F-8", "after a failure, whatever is submitted to the same queue fails too")
class F8(ReferenceDevice):
    queue_class = StickyQueue
    submission_class = PoisonsItsQueue


class Recursive(Submission):
    def failed(self, point: Point, error: HalError) -> None:
        self.retire(error)


@breaks("F-9", "each link of a chain fails the next from inside its own failure")
class F9(ReferenceDevice):
    submission_class = Recursive


@breaks("F-10", "work submitted after the loss of the device runs as if nothing had been")
class F10(ReferenceDevice):
    def inject_device_loss(self, error: HalError) -> None:
        super().inject_device_loss(error)
        self._lost = None


class NeedsGoodSignals(Submission):
    def submit(self) -> None:
        super().submit()
        for point in self._signals:
            if error := point.semaphore._failed_with():
                self._device.retire_soon(self, error)


@breaks("F-11", "a submission is given up, with all its signals, when one of them has failed already")
class F11(ReferenceDevice):
    submission_class = NeedsGoodSignals


class TakesOk(ReferenceSemaphore):
    def fail(self, error: HalError) -> None:
        if error.code is not StatusCode.OK:
            super().fail(error)
            return
        with self.device.changing():
            self._advance(self.device.rules.value_max)


@breaks("F-12", "failing with OK sets the largest value, as a failure does, but with no error to go with it")
class F12(ReferenceDevice):
    semaphore_class = TakesOk


class FailsOnlyWhatIsAhead(Submission):
    def retire(self, error: HalError | None) -> None:
        if error:
            self._signals = tuple(point for point in self._signals if not point.semaphore._has_reached(point.value))
        super().retire(error)


@breaks("F-13", "a failing submission spares the semaphores that have passed its values")
class F13(ReferenceDevice):
    submission_class = FailsOnlyWhatIsAhead
