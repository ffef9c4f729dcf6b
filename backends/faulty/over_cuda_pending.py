"""Defects of pending work, over the CUDA backend: what it waits for, what it is bound to, when it is let go on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pytest_cuda2hal.hal import HalError

from ..cuda import issue as issuing
from ..cuda.actions import Action, State
from ..cuda.semaphore import EventSemaphore
from ..cuda.timepoints import DeviceWait
from .frame import defect
from .over_cuda_base import FaultyCuda, FaultyEngine, strikes


class BindsToFreshEvents(FaultyEngine):
    def arm(self, action: Action) -> None:
        kept = []
        for semaphore, value in action.targets:
            failure, reached, producer = semaphore.look(value)
            if failure or reached or producer or action.on_host or not self.chance.strikes():
                kept.append((semaphore, value))
                continue
            event = self.events.acquire()
            self.driver.cuStreamWaitEvent(self.lanes[0].stream, event, 0)
            self.events.release([event])
        action.targets = kept
        super().arm(action)


@defect(
    "cuda-wait-for-unrecorded-event",
    happened="IREE 1bb26cb345, fixed by 459fab66b0 (#17025): cuda and hip acquire_timepoint_device_wait (K1)",
    clauses=("Q-1",),
    rarely=(10, 100),
)
class WaitForUnrecordedEvent(FaultyCuda):
    """A wait for which no producer is known gets an event of the pool, which nobody has recorded.

    To wait for such an event is no wait at all: the work runs at once.
    """

    engine_class = BindsToFreshEvents


class ForgetsBoundWaits(FaultyEngine):
    def told(self, wait: DeviceWait) -> None:
        action = wait.action
        if action is not None and action.state is State.PENDING and self.chance.strikes():
            for other in action.waits:
                other.producer = None
        super().told(wait)


@defect(
    "cuda-bound-wait-forgotten",
    happened="IREE 3a2617f9a8 (#17213), introduced by 459fab66b0: pending_queue_actions_issue",
    clauses=("Q-8", "Q-11"),
    rarely=(10,),
)
class BoundWaitForgotten(FaultyCuda):
    """When a pending submission is looked at again, those of its waits that were bound before are forgotten."""

    engine_class = ForgetsBoundWaits


class CountsTo32(FaultyEngine):
    def submit(self, action: Action) -> None:
        if self.chance.strikes():
            action.targets = action.targets[:32]
        super().submit(action)


@defect(
    "cuda-waits-beyond-32",
    happened="IREE 381a16c097 (#15673): the fixed array that took the place of an alloca in a loop (S4)",
    clauses=("Q-17", "Q-1"),
)
class WaitsBeyond32(FaultyCuda):
    """Waits beyond the 32nd of a list are not looked at."""

    engine_class = CountsTo32


class IgnoresFailedWaits(FaultyEngine):
    def told(self, wait: DeviceWait) -> None:
        semaphore = wait.semaphore
        if semaphore is not None and semaphore.look(wait.value)[0] and self.chance.strikes():
            return
        super().told(wait)


@defect(
    "cuda-failed-wait-ignored",
    happened="IREE e40e64e23e (#18095) and 3fd336f285 (#18021), issue 17962 (K6)",
    clauses=("F-6",),
    rarely=(10,),
)
class FailedWaitIgnored(FaultyCuda):
    """The failure of a semaphore neither wakes the submissions that wait for it nor fails their signals."""

    engine_class = IgnoresFailedWaits


class TakesFailureForAValue(EventSemaphore):
    def look(self, value: int) -> tuple[HalError | None, bool, Action | None]:
        failure, reached, producer = super().look(value)
        if failure and strikes(self.engine):
            return None, True, None
        return failure, reached, producer


@defect(
    "cuda-failure-is-a-large-value",
    happened="IREE 4823dc0e2e (#18912): the failure sentinel was compared with ==",
    clauses=("F-6",),
    rarely=(10,),
)
class FailureIsALargeValue(FaultyCuda):
    """A failure is kept as a very large value, which satisfies every wait."""

    semaphore_class = TakesFailureForAValue


class LooksAtEverything(FaultyEngine):
    def told(self, wait: DeviceWait) -> None:
        if self.chance.strikes():
            for action in list(self.actions):
                for semaphore, value in action.targets:
                    semaphore.look(value)
        super().told(wait)


@defect(
    "cuda-scan-of-everything",
    happened="IREE 1bb26cb345: pending_queue_actions_issue scans all that is pending at each signal (K1)",
    clauses=("Q-18q",),
    deadline=30,
)
class ScanOfEverything(FaultyCuda):
    """At each signal every wait of everything that is pending is looked at."""

    engine_class = LooksAtEverything


class BindsToTheNewest(EventSemaphore):
    def _producer_of(self, value: int) -> Action | None:
        enough = [action for signaled, _, action in self._signals if signaled >= value]
        if len(enough) > 1 and strikes(self.engine):
            return enough[-1]
        return super()._producer_of(value)


@defect(
    "cuda-binds-to-the-newest-signal",
    happened="IREE 1bb26cb345: no break in the loop over the signal timepoints (K5), fixed by babd4d9add",
    clauses=("Q-12",),
)
class BindsToTheNewestSignal(FaultyCuda):
    """Of the signals that reach a wait's value it is bound to the newest, and so waits for work it does not need."""

    semaphore_class = BindsToTheNewest


class LosesWhatIsBehindAnError(FaultyEngine):
    def issue(self, action: Action) -> None:
        super().issue(action)
        if action.error is not None and self.chance.strikes():
            while len(self.ready) > 1:  # the first is this action
                self.ready.pop()
            for message in [one for one in self.inbox if isinstance(one, DeviceWait)]:
                self.inbox.remove(message)


@defect(
    "cuda-ready-list-lost",
    happened="IREE 1bb26cb345: issue returned at the first error, with the rest of the list in hand (K2, S2)",
    clauses=("F-8", "Q-13"),
)
class ReadyListLost(FaultyCuda):
    """When one of several submissions that became ready together fails to launch, those behind it are lost."""

    engine_class = LosesWhatIsBehindAnError


class RegistersFirst(FaultyEngine):
    def arm(self, action: Action) -> None:
        super().arm(action)
        if action.state is not State.PENDING or action.on_host or not action.signals or not self.chance.strikes():
            return
        action.lane = self.lanes[action.queue * self.parameters.streams]
        action.event = self.events.acquire()  # it still holds what it recorded last
        issuing._publish(self, action)
        self.events.release([action.event])


@defect(
    "cuda-registered-before-recorded",
    happened="IREE 1bb26cb345 and its successors: the signal timepoint is registered before cuEventRecord (K4)",
    clauses=("Q-5", "L-4"),
)
class RegisteredBeforeRecorded(FaultyCuda):
    """Consumers bind to the event of a producer that is not issued yet: it holds an old record, or none."""

    engine_class = RegistersFirst
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"event_pool_capacity": 2})


class HasNoContext(FaultyEngine):
    def _bind(self) -> None:
        if not self.chance.strikes():
            super()._bind()


@defect(
    "cuda-context-not-current",
    happened="IREE 1bb26cb345: the context was made current on the thread that opened the device (S24)",
    clauses=("Q-19",),
)
class ContextNotCurrent(FaultyCuda):
    """The context is current on the threads that opened the device or made a buffer, and on no other."""

    engine_class = HasNoContext
