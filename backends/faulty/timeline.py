"""Defects of the timeline itself: values and failures that are read wrongly."""

from __future__ import annotations

from pytest_cuda2hal.hal import HalError, StatusCode, checked_value

from ..reference.semaphore import HostWait
from .base import FaultyReference, FaultySemaphore
from .frame import defect


class GoesBack(FaultySemaphore):
    """A timeline that takes every value."""

    def signal(self, value: int) -> None:
        if checked_value(value) < self.query() and self.strikes():
            with self.device.changing():
                self._value = value
            return
        super().signal(value)


@defect(
    "signal-goes-back",
    happened="ROCm/hrx-system issue #379: nothing held to what is said of a signal that does not advance",
    clauses=("TL-3", "TL-4"),
    rarely=(50, 1000),
)
class SignalGoesBack(FaultyReference):
    """A host signal below the value sets the timeline back."""

    semaphore_class = GoesBack


class WakesAgain(FaultySemaphore):
    """A timeline that wakes whoever waits, also when a signal was refused."""

    def signal(self, value: int) -> None:
        try:
            super().signal(value)
        except HalError:
            with self.device.changing():
                for waiting in self._waiters.values():
                    for waiter, point in list(waiting.items()):
                        if isinstance(waiter, HostWait) and self.strikes():
                            waiter.reached(point)
            raise


@defect(
    "repeated-signal-wakes",
    happened="ROCm/hrx-system issue #379: a value signaled twice looks harmless",
    clauses=("TL-3",),
)
class RepeatedSignalWakes(FaultyReference):
    """A signal that is refused, since it does not advance, wakes all who wait for more."""

    semaphore_class = WakesAgain


class TakesOk(FaultySemaphore):
    """A timeline that fails with whatever it is given."""

    def fail(self, error: HalError) -> None:
        if error.code is not StatusCode.OK or not self.strikes():
            super().fail(error)
            return
        with self.device.changing():
            self._advance(self.device.rules.value_max)


@defect(
    "fail-with-ok",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2/event_semaphore.c: fail() does not look at its status",
    clauses=("F-12",),
)
class FailWithOk(FaultyReference):
    """Failing with OK sets the value that marks a failure and keeps no error: every wait is satisfied."""

    semaphore_class = TakesOk


class HugeValue(FaultySemaphore):
    """A timeline whose failures are values above every other."""

    _taken_for_a_value = False

    def _fail(self, error: HalError) -> None:
        super()._fail(error)
        self._taken_for_a_value = self._taken_for_a_value or self.strikes()

    def _failed_with(self) -> HalError | None:
        return None if self._taken_for_a_value else super()._failed_with()

    def _has_reached(self, value: int) -> bool:
        return self._taken_for_a_value or super()._has_reached(value)


@defect(
    "failure-is-a-huge-value",
    happened="iree-org/iree 4823dc0e2e, #18912: the value that marks a failure was compared with ==",
    clauses=("F-2", "F-3", "F-6"),
)
class FailureIsAHugeValue(FaultyReference):
    """A semaphore that has failed satisfies every wait that begins afterwards, of the host and of a submission."""

    semaphore_class = HugeValue


class NeedsSomebody(FaultySemaphore):
    """A timeline that takes the first of its waiters without asking whether there is one."""

    def fail(self, error: HalError) -> None:
        if not self._waiting() and not self._failed_with() and self.strikes():
            raise HalError(StatusCode.INTERNAL, "the list of those who wait is empty")
        super().fail(error)


@defect(
    "fail-with-nobody-waiting",
    happened="iree-org/iree e213658e4f, #18836: a pop from an empty list of actions",
    clauses=("F-1",),
)
class FailWithNobodyWaiting(FaultyReference):
    """A semaphore cannot be failed while nobody waits for it."""

    semaphore_class = NeedsSomebody


class Revived(FaultySemaphore):
    """A timeline that a later signal brings back."""

    def signal(self, value: int) -> None:
        with self.device.changing():
            if self._failure and checked_value(value) > self._value and self.strikes():
                self._failure = None
        super().signal(value)


@defect(
    "signal-revives",
    happened="iree-org/iree after 1bb26cb345: signal() of a semaphore that has failed returns OK",
    clauses=("F-1", "F-5"),
)
class SignalRevives(FaultyReference):
    """A host signal of a failed semaphore succeeds, and the failure is gone."""

    semaphore_class = Revived
