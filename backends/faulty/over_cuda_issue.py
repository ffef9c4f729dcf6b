"""Defects of submissions, over the CUDA backend: what the call captures, what is issued, what is let go of and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from pytest_cuda2hal.hal import Buffer, Command, CommandBuffer, HalError, Timepoint, Update

from ..cuda.actions import Action, ExecuteAction, State
from ..cuda.commands import BARRIER, Program, program_of
from ..cuda.context import Context
from ..cuda.driver import Handle
from ..cuda.engine import Engine
from ..cuda.events import DeviceEventPool
from ..cuda.lane import Lane
from .frame import defect
from .over_cuda_base import FaultyCuda, FaultyEngine, strikes


class ReadsItsListLate(ExecuteAction):
    #: What makes the program when the work is issued.
    compile: Callable[[], Program] | None = None

    def launch(self, engine: Engine, lane: Lane, room: int) -> bool:
        if self.compile is not None:
            self._program, self.compile = self.compile(), None
        return super().launch(engine, lane, room)


@defect(
    "cuda-list-by-reference",
    happened="IREE 381a16c097 (#15673): pending_queue_actions kept the pointer to the command-buffer array (S3)",
    clauses=("Q-15",),
    rarely=(10,),
)
class ListByReference(FaultyCuda):
    """The list of commands is kept, not what is in it, and read when the work is issued."""

    execute_class = ReadsItsListLate

    def queue_execute(
        self,
        commands: Sequence[Command] | CommandBuffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        if isinstance(commands, CommandBuffer) or not strikes(self.engine):
            super().queue_execute(commands, wait=wait, signal=signal, queue=queue)
            return
        program_of(self.engine, commands)  # refuses what is wrong already
        self._check_queue(queue)
        action = ReadsItsListLate(queue, self._points(wait), self._signals(signal), BARRIER)
        action.compile = lambda: program_of(self.engine, commands)
        self._submit(action)


@defect(
    "cuda-update-read-late",
    happened="IREE add699f971 (#24248): UpdateCapturesSourceBeforeWaitResolves",
    clauses=("Q-15",),
    rarely=(10,),
)
class UpdateReadLate(FaultyCuda):
    """The bytes of an update are read when it is issued, not when it is submitted."""

    def queue_update(
        self,
        target: Buffer,
        data: bytes,
        *,
        offset: int = 0,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        if not strikes(self.engine):
            super().queue_update(target, data, offset=offset, wait=wait, signal=signal, queue=queue)
            return
        program_of(self.engine, [Update(target, data, offset)])  # refuses what is wrong already
        self._check_queue(queue)
        action = ReadsItsListLate(queue, self._points(wait), self._signals(signal), BARRIER)
        action.compile = lambda: program_of(self.engine, [Update(target, data, offset)])
        self._submit(action)


class LetsGoAtOnce(ExecuteAction):
    def launch(self, engine: Engine, lane: Lane, room: int) -> bool:
        finished = super().launch(engine, lane, room)
        if finished and not self.signals and strikes(engine):
            self.let_go(engine)
        return finished


@defect(
    "cuda-cleanup-before-completion",
    happened="IREE 1bb26cb345: with no signals nothing tied the cleanup to the dispatch stream (S1)",
    clauses=("Q-4", "Q-15"),
)
class CleanupBeforeCompletion(FaultyCuda):
    """A submission without signals lets go of its buffers and pinned memory when it is issued, not when it is done."""

    execute_class = LetsGoAtOnce


class StaysForEver(ExecuteAction):
    def let_go(self, engine: Engine) -> None:
        if self.signals or not strikes(engine):
            super().let_go(engine)
        else:
            engine.abandoned.append(self)


@defect(
    "cuda-no-signals-no-cleanup",
    happened="IREE 44ccc22e77 (#17107): an action with an empty signal list was never taken off the zombie list",
    clauses=("Q-4",),
)
class NoSignalsNoCleanup(FaultyCuda):
    """A submission without signals is never let go of: nothing takes it off the list of those that are done."""

    execute_class = StaysForEver


class SignalsNothingOnFailure(ExecuteAction):
    def ended(self, engine: Engine, error: HalError | None) -> None:
        super().ended(engine, error)
        if error and self.state in (State.ISSUING, State.IN_FLIGHT) and strikes(engine):
            self.signals = []


@defect(
    "cuda-failed-launch-signals-nobody",
    happened="IREE 1bb26cb345 (S2); IREE 04784a9bde (#23644) in local_task",
    clauses=("F-7",),
    rarely=(10,),
)
class FailedLaunchSignalsNobody(FaultyCuda):
    """Work that fails to launch is dropped: its signals are neither made nor failed."""

    execute_class = SignalsNothingOnFailure


class PostsThePreviousStatus(Lane):
    previous: HalError | None = None

    def accept(self, entry: Any, event: Handle) -> None:
        super().accept(entry, event)
        engine = self.engine()
        if isinstance(entry, Action) and engine is not None and strikes(engine):
            self.previous, entry.error = entry.error, self.previous


class StaleStatusContext(Context):
    lane_class = PostsThePreviousStatus


@defect(
    "cuda-previous-status",
    happened="IREE 7e62e5f2ed (#20000): hip posted the status of the call before",
    clauses=("F-7",),
)
class PreviousStatus(FaultyCuda):
    """The signals of a submission are made or failed with the status of the one before it on the stream."""

    context_class = StaleStatusContext


class StopsAtAFailedOne(ExecuteAction):
    def ended(self, engine: Engine, error: HalError | None) -> None:
        super().ended(engine, error)
        for place, (semaphore, _) in enumerate(self.signals):
            if semaphore.look(0)[0] and strikes(engine):
                self.signals = self.signals[:place]
                break


@defect(
    "cuda-signal-list-stops",
    happened="IREE 1bb26cb345: list_signal stopped at the first error, which nobody looked at (S6)",
    clauses=("F-11", "Q-13"),
)
class SignalListStops(FaultyCuda):
    """When a signal semaphore has failed already, those behind it in the list are not signaled."""

    execute_class = StopsAtAFailedOne


class RaisesWhatIsQueued(FaultyEngine):
    def submit(self, action: Action) -> None:
        super().submit(action)
        if action.error is not None and self.chance.strikes():
            raise action.error.again()


@defect(
    "cuda-queued-and-refused",
    happened="IREE 1bb26cb345: queue_execute returned the error of the issue that followed its enqueue (S20)",
    clauses=("Q-22", "F-7"),
)
class QueuedAndRefused(FaultyCuda):
    """A submission that fails to launch at once also raises, though it was accepted and fails its signals."""

    engine_class = RaisesWhatIsQueued


class FewEvents(DeviceEventPool):
    """Hands out two events in turn, whoever has them."""

    def acquire(self) -> Handle:
        if len(self._available) < 2:
            event = super().acquire()
            self._available.append(event)
            return event
        with self._lock:
            self.outstanding += 1
            self._available.append(self._available.pop(0))
            return self._available[-1]

    def release(self, events: Iterable[Handle]) -> None:
        with self._lock:
            self.outstanding -= len(list(events))


class RecyclingContext(Context):
    event_pool_class = FewEvents


@defect(
    "cuda-events-recycled-early",
    happened="IREE 1bb26cb345, fixed by 459fab66b0: events without references went back to the pool in use (S5)",
    clauses=("L-4", "Q-2"),
    hangs=True,
)
class EventsRecycledEarly(FaultyCuda):
    """An event goes back to the pool while somebody waits for it, and is recorded again for other work."""

    context_class = RecyclingContext


class LeaksEvents(FaultyEngine):
    def issue(self, action: Action) -> None:
        super().issue(action)
        for _, _, producer in action.bound:
            if producer.state is State.IN_FLIGHT and self.chance.strikes():
                self.events.acquire()  # in the place of which the producer's was used


@defect(
    "cuda-event-leaked-per-wait",
    happened="IREE 85a5425cc8 (#14825): acquire_timepoint_device_wait",
    clauses=("L-1",),
    rarely=(100,),
)
class EventLeakedPerWait(FaultyCuda):
    """For each wait for running work an event is taken from the pool and not given back."""

    engine_class = LeaksEvents


@defect(
    "cuda-launches-without-limit",
    happened="seen on an H100 (driver 580) for this project: behind a held stream launch 1,021 blocks its caller",
    clauses=("Q-24", "Q-3"),
    hangs=True,
)
class LaunchesWithoutLimit(FaultyCuda):
    """Work is launched until the driver blocks the caller, who has the engine's role: nothing goes on any more."""

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_in_flight": 2**30})
