"""Defects of completion, memory and the end, over the CUDA backend."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pytest_cuda2hal.hal import Buffer, HalError, Timepoint

from ..cuda.actions import AllocaAction, DeallocaAction
from ..cuda.completion import EventCompleter
from ..cuda.context import _HOST_FUNCTION, Context
from ..cuda.engine import Engine
from ..cuda.lane import Lane
from .frame import defect
from .over_cuda_base import FaultyCuda, FaultyEngine, strikes


class TrustsTheOldest(Lane):
    def finished(self) -> int:
        count = super().finished()
        engine = self.engine()
        return len(self.in_flight) if count and engine is not None and strikes(engine) else count


class TrustingContext(Context):
    lane_class = TrustsTheOldest


@defect(
    "cuda-retired-before-done",
    happened="IREE 9dc8ae413b (#16568): actions were retired with the first callback that came",
    clauses=("Q-2",),
    rarely=(100,),
)
class RetiredBeforeDone(FaultyCuda):
    """When the oldest work of a stream is done, all of it is taken for done."""

    context_class = TrustingContext


class RetiresLaneByLane(FaultyEngine):
    def retire(self, lane: Lane, count: int) -> None:
        if self.chance.strikes():
            for entry in list(lane.in_flight)[:count]:
                entry.clock = None
        super().retire(lane, count)


@defect(
    "cuda-consumer-retired-first",
    happened="no upstream commit known; what retirement.retire of this project guards against, after IREE f2b41af696",
    clauses=("Q-1", "Q-2"),
)
class ConsumerRetiredFirst(FaultyCuda):
    """Each stream's work is retired by itself: a consumer's signal may be seen before that of its producer."""

    engine_class = RetiresLaneByLane


class NeverSleeps(EventCompleter):
    def _retire_or_wait(self, engine: Engine | None) -> None:
        if engine is None or not strikes(engine):
            super()._retire_or_wait(engine)
            return
        lane = self._lane
        before = lane.retired

        def look() -> None:
            engine.poll(lane)

        while lane.in_flight and lane.retired == before:
            engine.exclusively(look)


@defect(
    "cuda-completer-spins",
    happened="no upstream commit known; the alternative to the completion thread of IREE 24befadbf0",
    clauses=("W-10q",),
)
class CompleterSpins(FaultyCuda):
    """The thread that waits for a stream's work queries its event again and again."""

    event_completer_class = NeverSleeps


class AdvancesInTheCallback(Context):
    def make_callback(self, lane: Lane) -> Any:
        def called(number: int | None) -> None:
            lane.called = max(lane.called, number or 0)
            engine = lane.engine()
            if engine is None or not strikes(engine):
                lane.alarm.set()
                return
            engine.exclusively(lambda: engine.retire(lane, lane.called_back()))

        function = _HOST_FUNCTION(called)
        self._callbacks.append(function)
        return self.driver.CUhostFn(ctypes.cast(function, ctypes.c_void_p).value)


@defect(
    "cuda-callback-calls-the-driver",
    happened="IREE 381a16c097 (#15673), 9dc8ae413b (#16568): the queue was advanced inside cuLaunchHostFunc (K3)",
    clauses=("Q-5", "Q-13"),
    hangs=True,
)
class CallbackCallsTheDriver(FaultyCuda):
    """The driver's callback retires work and issues what it releases, on the driver's thread, which forbids that."""

    context_class = AdvancesInTheCallback
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"completion": "host-function"})


# --- memory


class FreesAlthoughItFailed(DeallocaAction):
    def ended(self, engine: Engine, error: HalError | None) -> None:
        buffer = self._buffer
        if error and not self._issued and buffer is not None and buffer._address is not None and strikes(engine):
            buffer.free(engine.context.side_stream)
        super().ended(engine, error)


@defect(
    "cuda-dealloca-despite-failed-wait",
    happened="IREE FailedDeallocaWaitDoesNotDealloca (hip and metal: expected to fail)",
    clauses=("A-4",),
    rarely=(10,),
)
class DeallocaDespiteFailedWait(FaultyCuda):
    """A dealloca whose wait failed gives the memory back all the same."""

    dealloca_class = FreesAlthoughItFailed


class FreesOnTheSide(DeallocaAction):
    def launch(self, engine: Engine, lane: Lane, room: int) -> bool:
        if not strikes(engine):
            return super().launch(engine, lane, room)
        buffer = self._buffer
        assert buffer is not None
        buffer.free(engine.context.side_stream)
        self._issued = True
        engine.frees_in_flight.add(self)
        return True


@defect(
    "cuda-memory-reused-too-early",
    happened="IREE 205c88d2aa (#15288), issue 14814: blocks went back to the pool before the work had ended",
    clauses=("A-2", "A-3"),
)
class MemoryReusedTooEarly(FaultyCuda):
    """A dealloca frees on a stream of its own, past the work that the queue still has to do with the buffer."""

    dealloca_class = FreesOnTheSide


class CountsForEver(AllocaAction):
    def ended(self, engine: Engine, error: HalError | None) -> None:
        if error is None and strikes(engine):
            engine.buffer_made()
        super().ended(engine, error)


@defect(
    "cuda-buffer-never-released",
    happened="IREE f431d4e465 (#19787), 217551f4fd (#20419): the release callback was never set",
    clauses=("L-1",),
    rarely=(100,),
)
class BufferNeverReleased(FaultyCuda):
    """A buffer that a queue has allocated is never released."""

    alloca_class = CountsForEver


@defect(
    "cuda-alloca-blocks",
    happened="IREE 1bb26cb345 and its successors: cuda queue_alloca blocks on the wait list (S18)",
    clauses=("A-1",),
    hangs=True,
)
class AllocaBlocks(FaultyCuda):
    """An alloca blocks its caller until its wait list is reached, and allocates then."""

    def queue_alloca(
        self, size: int, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> Buffer:
        waits = list(wait)
        if strikes(self.engine):
            self.wait_semaphores(waits)
        return super().queue_alloca(size, wait=waits, signal=signal, queue=queue)


# --- the end


class CancelsNothing(FaultyEngine):
    def cancel(self) -> None:
        if not self.chance.strikes():
            super().cancel()


@defect(
    "cuda-close-forgets-the-pending",
    happened="IREE 1bb26cb345 (S8), 381a16c097: the list was freed, and nobody failed its signals; IREE 262bd0c125",
    clauses=("L-2",),
)
class CloseForgetsThePending(FaultyCuda):
    """Closing drops what is pending: its signals are neither made nor failed."""

    engine_class = CancelsNothing


@defect(
    "cuda-closed-under-its-threads",
    happened="IREE 9dfc61288c (#16621), issue 16535; IREE 1bf72496e9 (#19826): hip",
    clauses=("L-2",),
    hangs=True,
)
class ClosedUnderItsThreads(FaultyCuda):
    """Closing destroys the context while the threads that complete work still use it."""

    def close(self) -> None:
        if strikes(self.engine):
            self.engine.closed = True
            self.engine.exclusively(self.engine.cancel)
            self.engine.context.destroy()
        super().close()


class LosesQuietly(FaultyEngine):
    def lose(self, error: HalError) -> None:
        if not self.chance.strikes():
            super().lose(error)
            return
        self.lost = self.lost or error.again()
        for lane in self.lanes:
            for entry in list(lane.in_flight):
                entry.error = self.lost  # type: ignore[union-attr]


@defect(
    "cuda-loss-forgets-the-pending",
    happened="IREE 37e4cb631d: the failure of an axis did not fail the semaphores attached to it",
    clauses=("F-10",),
)
class LossForgetsThePending(FaultyCuda):
    """The loss of a device fails what is in flight and what comes later, and leaves what is pending waiting."""

    engine_class = LosesQuietly
