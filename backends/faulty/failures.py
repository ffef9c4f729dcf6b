"""Defects of failure: swallowed, turned into success, with the wrong code, spread too far or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from pytest_cuda2hal.hal import HalError, StatusCode, Timepoint, captured

from ..reference.semaphore import Point
from ..reference.submission import State, Submission
from .base import FaultyReference, FaultySubmission
from .frame import Chance, defect


class NotTold(FaultySubmission):
    """A submission that a failure does not wake."""

    def failed(self, point: Point, error: HalError) -> None:
        if not self.strikes():
            super().failed(point, error)


@defect(
    "failure-wakes-no-submission",
    happened="iree-org/iree e40e64e23e, #18095 (issue #17962): failing a semaphore did not wake the pending queue",
    clauses=("F-6",),
    rarely=(50, 1000),
)
class FailureWakesNoSubmission(FaultyReference):
    """A submission whose wait has failed stays pending for ever, and with it all that waits for its signals."""

    submission_class = NotTold


class NeverSignals(FaultySubmission):
    """A submission whose failing work ends everything."""

    def perform(self, work: Callable[[], None]) -> None:
        try:
            work()
        except HalError:
            if self.strikes():
                self._signals = ()
            raise


@defect(
    "fault-never-signals",
    happened="iree-org/iree 04784a9bde, #23644: local_task lost the failure of a dispatch",
    clauses=("F-7",),
    rarely=(50,),
)
class FaultNeverSignals(FaultyReference):
    """Work that fails neither makes nor fails its signals."""

    submission_class = NeverSignals


class OldStatus(FaultySubmission):
    """A submission that posts the status from before its work."""

    def perform(self, work: Callable[[], None]) -> None:
        try:
            work()
        except HalError:
            if not self.strikes():
                raise


@defect(
    "fault-posts-the-status-before",
    happened="iree-org/iree 7e62e5f2ed, #20000: hip posted the previous status, OK, to the semaphores",
    clauses=("F-7", "H-2"),
    rarely=(50,),
)
class FaultPostsTheStatusBefore(FaultyReference):
    """Work that fails makes its signals, as if it had not."""

    submission_class = OldStatus


class ForgetsOtherQueues(FaultySubmission):
    """A submission whose failure is told to its own queue and to the host."""

    def retire(self, error: HalError | None) -> None:
        if error and self.state is State.IN_FLIGHT and self.strikes():
            for signal in self._signals:
                for waiting in signal.semaphore._waiters.values():
                    for waiter in list(waiting):
                        if isinstance(waiter, Submission) and waiter._queue is not self._queue:
                            del waiting[waiter]
        super().retire(error)


@defect(
    "fault-strands-other-queues",
    happened="iree-org/iree f2b41af696: vulkan published a signal to other queues before the submit had succeeded",
    clauses=("F-6", "F-7"),
)
class FaultStrandsOtherQueues(FaultyReference):
    """Submissions of other queues that wait for work which then fails are never told."""

    submission_class = ForgetsOtherQueues


class DropsTheRest(FaultySubmission):
    """A submission that takes those behind it along when it fails."""

    _dropped = False

    def run(self) -> None:
        if not self._dropped:
            super().run()

    def perform(self, work: Callable[[], None]) -> None:
        try:
            work()
        except HalError:
            with self._device.lock:
                for other in self._device.unretired:
                    ready = isinstance(other, DropsTheRest) and other.state is State.IN_FLIGHT and other is not self
                    if isinstance(other, DropsTheRest) and ready and other._queue is self._queue and self.strikes():
                        other._dropped = True
            raise


@defect(
    "fault-drops-what-is-ready",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: an error in issue_execution leaks the rest of the list",
    clauses=("F-8", "Q-13"),
)
class FaultDropsWhatIsReady(FaultyReference):
    """When work fails, what is ready behind it in its queue is lost: it neither runs nor signals nor fails."""

    submission_class = DropsTheRest


class KeepsTheLock(FaultyReference):
    """A device with a lock around its scan of what is pending."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._scanning = threading.Lock()

    def _submit(
        self, work: Callable[[], None], wait: Iterable[Timepoint], signal: Iterable[Timepoint], queue: int, **how: Any
    ) -> None:
        waits = self._own_points(wait)
        failed = any(point.semaphore._failed_with() for point in waits)
        self._scanning.acquire()
        try:
            super()._submit(work, [point.semaphore @ point.value for point in waits], signal, queue, **how)
        finally:
            if not (failed and self.strikes()):
                self._scanning.release()


@defect(
    "failed-wait-keeps-the-lock",
    happened="iree-org/iree 1bb26cb345, fixed by 381a16c097: an early return left action_mutex locked",
    clauses=("F-6", "F-8", "Q-19"),
    hangs=True,
)
class FailedWaitKeepsTheLock(KeepsTheLock):
    """After a submission whose wait has failed already, no other can be submitted: a lock stays taken."""


class OwesItsFailure(FaultySubmission):
    """A submission that gives its failure to whoever comes next."""

    def failed(self, point: Point, error: HalError) -> None:
        if isinstance(self._device, TellsTheNextCaller) and self.strikes():
            self._device.owed.append(error)
        else:
            super().failed(point, error)


@defect(
    "failure-goes-to-the-next-caller",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: issue() returns the error to whoever happens to call it",
    clauses=("F-6", "F-8", "Q-22"),
)
class TellsTheNextCaller(FaultyReference):
    """The failure of a wait is raised by the next call that submits something; the signals never hear of it."""

    submission_class = OwesItsFailure

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.owed: list[HalError] = []

    def _submit(self, *arguments: Any, **how: Any) -> None:
        if self.owed:
            raise self.owed.pop(0).again()
        super()._submit(*arguments, **how)


class PassesOnAborted(FaultySubmission):
    """A submission that passes on that something failed, not what."""

    def failed(self, point: Point, error: HalError) -> None:
        super().failed(point, HalError(StatusCode.ABORTED) if self.strikes() else error)


@defect(
    "dependents-get-aborted",
    happened="tt-iree issue #4, and iree-org/iree issue #17962: the status was dropped on its way to the signal list",
    clauses=("F-6",),
)
class DependentsGetAborted(FaultyReference):
    """A failed wait fails the signals of its submission with ABORTED, and the cause is lost."""

    submission_class = PassesOnAborted


class CutsTheList(FaultySubmission):
    """A submission that ends the scan of what is pending when it meets a failure."""

    _cut_off = False

    def _start_if_ready(self) -> None:
        if not self._cut_off:
            super()._start_if_ready()

    def failed(self, point: Point, error: HalError) -> None:
        super().failed(point, error)
        for other in self._device.unretired:
            if isinstance(other, CutsTheList) and other.serial > self.serial and self.strikes():
                other._cut_off = other.state is State.PENDING


@defect(
    "failed-wait-cuts-the-list",
    happened="iree-org/iree 1bb26cb345, fixed by 381a16c097: the error path cut off the rest of the pending list",
    clauses=("F-8",),
)
class FailedWaitCutsTheList(FaultyReference):
    """When a wait fails, the pending submissions that came after it never run."""

    submission_class = CutsTheList


@defect(
    "loss-spares-what-runs",
    happened="iree-org/iree 37e4cb631d: failing an axis did not fail the semaphore attached to it",
    clauses=("F-10",),
)
class LossSparesWhatRuns(FaultyReference):
    """The loss of the device fails what is pending, and leaves what runs to run for ever."""

    def inject_device_loss(self, error: HalError) -> None:
        with self.changing():
            self._lost = self._lost or error
            for submission in sorted(self.unretired, key=lambda submission: submission.serial):
                if submission.state is State.PENDING or not self.strikes():
                    self.retire_soon(submission, self._lost)


@defect(
    "lost-device-takes-work",
    happened="NVIDIA/cudnn-frontend issue #639 and rapidsai/cuml #7954: work went on being given to a dead context",
    clauses=("F-10",),
)
class LostDeviceTakesWork(FaultyReference):
    """A device that is lost accepts submissions, and nothing becomes of them."""

    def _submit(
        self, work: Callable[[], None], wait: Iterable[Timepoint], signal: Iterable[Timepoint], queue: int, **how: Any
    ) -> None:
        if self._lost and self.strikes():
            captured(wait), captured(signal)
            return
        super()._submit(work, wait, signal, queue, **how)


class Recursive(FaultySubmission):
    """A submission that fails from inside the failure of its wait."""

    def failed(self, point: Point, error: HalError) -> None:
        if self.strikes():
            self.retire(error)
        else:
            super().failed(point, error)


@defect(
    "failure-recurses",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: each signal of a list issues its dependents at once",
    clauses=("F-9",),
)
class FailureRecurses(FaultyReference):
    """Each submission of a chain fails the next from inside its own failure, and a long chain ends the stack."""

    submission_class = Recursive


class Unconditional(FaultySubmission):
    """A submission that a failure releases."""

    def failed(self, point: Point, error: HalError) -> None:
        if self.strikes():
            self.reached(point)
        else:
            super().failed(point, error)


@defect(
    "failed-wait-releases",
    happened="iree-org/iree 3fd336f285, #18021: the event of a timepoint was set, whether by a signal or by a failure",
    clauses=("F-6", "Q-1"),
    rarely=(50,),
)
class FailedWaitReleases(FaultyReference):
    """A submission runs, and signals, when one of its waits has failed."""

    submission_class = Unconditional
