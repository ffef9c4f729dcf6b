"""Defects of lifetime: what leaks, what goes too early, and what closing a device does wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pytest_cuda2hal.hal import Command, CommandBuffer, HalError, Statistics, StatusCode, Timepoint

from ..reference.memory import Memory, ReferenceBuffer
from ..reference.queue import ReferenceQueue
from ..reference.submission import State
from .base import FaultyReference, FaultySemaphore, FaultySubmission
from .frame import Chance, defect


class Zombie(FaultySubmission):
    """A submission that is let go of by what comes after its signals."""

    def retire(self, error: HalError | None) -> None:
        if self._signals or error or not self.strikes():
            super().retire(error)


@defect(
    "zombie-without-signals",
    happened="iree-org/iree 459fab66b0, fixed by 44ccc22e77, #17107: without signals nothing issued the clean-up",
    clauses=("Q-4", "L-1"),
)
class ZombieWithoutSignals(FaultyReference):
    """A submission that signals nothing never ends, and keeps what it was given."""

    submission_class = Zombie


class DeafQueue(ReferenceQueue):
    """A queue that does not hear that it is to stop while it works."""

    chance: Chance | None = None
    working = False

    def stop(self) -> None:
        if not (self.working and self.chance and self.chance.strikes()):
            super().stop()


class Working(FaultySubmission):
    """A submission that makes its queue deaf while it runs."""

    def perform(self, work: Callable[[], None]) -> None:
        if isinstance(self._queue, DeafQueue):
            self._queue.working = True
        work()

    def retire(self, error: HalError | None) -> None:
        super().retire(error)
        if isinstance(self._queue, DeafQueue):
            self._queue.working = self._queue.working and self._device._closed


@defect(
    "stop-is-overlooked",
    happened="iree-org/iree eeb0b1a309, #9724: the exit flag was looked at, and then the wake event reset",
    clauses=("L-2", "L-1"),
    rarely=(50,),
    hangs=True,
)
class StopIsOverlooked(FaultyReference):
    """Closing a device waits for ever for the thread of a queue that is at work: it does not hear the stop."""

    queue_class = DeafQueue
    submission_class = Working

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        for queue in self._queues:
            if isinstance(queue, DeafQueue):
                queue.chance = chance


class Closing(FaultyReference):
    """A device that can tell its end from its loss."""

    def at_close(self, state: State) -> bool:
        """Tell whether what is in this state is passed over now."""
        return False

    def _fail_unretired(self, error: HalError) -> None:
        for submission in sorted(self.unretired, key=lambda submission: submission.serial):
            if not (self._closed and self.at_close(submission.state) and self.strikes()):
                self.retire_soon(submission, error)


@defect(
    "close-leaves-what-runs",
    happened="iree-org/iree 1bf72496e9, #19826: hip destroyed a device with which a thread still dispatched",
    clauses=("L-2",),
)
class CloseLeavesWhatRuns(Closing):
    """Closing a device lets the work go on that is running, and it signals as if nothing had been."""

    def at_close(self, state: State) -> bool:
        return state is State.IN_FLIGHT


@defect(
    "close-leaves-who-waits",
    happened="iree-org/iree 262bd0c125: destroying the frontier tracker did not cancel its waiters",
    clauses=("L-2",),
)
class CloseLeavesWhoWaits(Closing):
    """Closing a device forgets what is pending: nobody who waits for it hears anything."""

    def at_close(self, state: State) -> bool:
        return state is State.PENDING


@defect(
    "close-wants-nothing-pending",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: destroy asserts that the list of actions is empty",
    clauses=("L-2",),
)
class CloseWantsNothingPending(FaultyReference):
    """Closing a device with pending work raises an error, and leaves it open."""

    def close(self) -> None:
        if any(submission.state is State.PENDING for submission in list(self.unretired)) and self.strikes():
            raise HalError(StatusCode.INTERNAL, "there are pending actions")
        super().close()


class DiesWithItsPool(FaultySemaphore):
    """A timeline that goes back to a pool."""

    def __del__(self) -> None:
        if self.device._closed and self.strikes():
            os.kill(os.getpid(), signal.SIGSEGV)


@defect(
    "semaphore-after-its-device",
    happened="iree-org/iree 6e04816821, #14875: an event came back to a pool that had gone with its context",
    clauses=("L-3",),
    hangs=True,
)
class SemaphoreAfterItsDevice(FaultyReference):
    """Dropping a semaphore after its device was closed ends the process with a segmentation fault."""

    semaphore_class = DiesWithItsPool


class LockingMemory(Memory):
    """Memory that a dropped buffer comes back to under the device's lock."""

    device: weakref.ref[FaultyReference]

    def give_back_when_collected(self, buffer: ReferenceBuffer) -> weakref.finalize[[int], ReferenceBuffer]:
        return weakref.finalize(buffer, self._give_back_locked, buffer.size)

    def _give_back_locked(self, size: int) -> None:
        device = self.device()
        with device.lock if device and device.strikes() else contextlib.nullcontext():
            self._collected.append(size)


@defect(
    "last-reference-dropped-under-the-lock",
    happened="iree-org/iree 9dc8ae413b, #16568: buffers were freed from inside the driver's callback",
    clauses=("Q-15", "L-3"),
    hangs=True,
)
class LastReferenceDroppedUnderTheLock(FaultyReference):
    """A buffer that only its submission still holds is freed when that ends, under a lock which the freeing takes."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.memory = memory = LockingMemory(self.memory.total)
        memory.device = weakref.ref(self)


class LosesAnEvent(FaultySubmission):
    """A submission that gets an event for each wait, and loses it."""

    def submit(self) -> None:
        super().submit()
        if isinstance(self._device, EventLostPerWait):
            self._device.lost_events += sum(self.strikes() for _ in self._unreached)


@defect(
    "event-lost-per-wait",
    happened="iree-org/iree 1bb26cb345, fixed by 85a5425cc8, #14825: the event of the match replaced the pool's own",
    clauses=("L-1",),
    rarely=(50,),
)
class EventLostPerWait(FaultyReference):
    """Each wait of a submission leaks an event."""

    submission_class = LosesAnEvent

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.lost_events = 0

    def statistics(self) -> Statistics:
        return replace(super().statistics(), events=self.lost_events)


class KeepsWhatItHad(FaultySubmission):
    """A submission that is freed without what belongs to it, where it fails."""

    def retire(self, error: HalError | None) -> None:
        if error and isinstance(self._device, FailureKeepsResources) and self._work and self.strikes():
            self._device.graveyard.append(self._work)
        super().retire(error)


@defect(
    "failure-keeps-resources",
    happened="iree-org/iree 1bb26cb345, fixed by 3a2617f9a8: an action was freed, and not its resource set",
    clauses=("L-1",),
)
class FailureKeepsResources(FaultyReference):
    """A submission that fails never lets go of its buffers."""

    submission_class = KeepsWhatItHad

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.graveyard: list[Callable[[], None]] = []


class StaysInTheList(FaultySubmission):
    """A submission that leaves its timepoints where they are when it fails."""

    def retire(self, error: HalError | None) -> None:
        if error and self.strikes():
            self._unreached.clear()
        super().retire(error)


@defect(
    "failure-keeps-timepoints",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: the timepoint of what failed to launch stays in its list",
    clauses=("L-1",),
)
class FailureKeepsTimepoints(FaultyReference):
    """A submission that fails stays registered with the semaphores whose values it had still to wait for."""

    submission_class = StaysInTheList


class LeavesARecord(FaultySubmission):
    """A submission of which something stays that nobody counts."""

    def retire(self, error: HalError | None) -> None:
        super().retire(error)
        if isinstance(self._device, SubmissionLeavesARecord) and self.strikes():
            self._device.records.append(bytearray(32))


@defect(
    "submission-leaves-a-record",
    happened="iree-org/iree a1ef7f98c3, #23617, issue #23526: hip never freed the 32 bytes that a completion came with",
    clauses=("L-1q",),
)
class SubmissionLeavesARecord(FaultyReference):
    """Of each submission 32 bytes stay for as long as the device is there."""

    submission_class = LeavesARecord

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.records: list[bytearray] = []


@defect(
    "command-buffers-are-kept",
    happened="iree-org/iree 9a33952b6a, #17582: the stream command buffer of a deferred one was never released",
    clauses=("L-1",),
)
class CommandBuffersAreKept(FaultyReference):
    """A command buffer that was executed lives, with its buffers, as long as its device."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._executed: list[CommandBuffer] = []

    def queue_execute(
        self,
        commands: Sequence[Command] | CommandBuffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        if isinstance(commands, CommandBuffer) and self.strikes():
            self._executed.append(commands)
        super().queue_execute(commands, wait=wait, signal=signal, queue=queue)


@defect(
    "device-in-a-cycle",
    happened="iree-org/iree 74d1f011db, #16088: the event pool held the device, and the device the pool",
    clauses=("L-1", "L-1q", "L-3"),
)
class DeviceInACycle(FaultyReference):
    """A device that is dropped and not closed lives on, with its threads."""

    _held: ClassVar[list[FaultyReference]] = []

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        if self.strikes():
            self._held.append(self)


class NoReleaseCallback(Memory):
    """Memory that is not told of buffers that go."""

    device: weakref.ref[FaultyReference]

    def give_back_when_collected(self, buffer: ReferenceBuffer) -> weakref.finalize[[int], ReferenceBuffer]:
        finalizer = super().give_back_when_collected(buffer)
        device = self.device()
        if device and device.strikes():
            finalizer.detach()
        return finalizer


@defect(
    "memory-never-comes-back",
    happened="iree-org/iree f431d4e465, #19787, and 217551f4fd, #20419: the release callback of buffers was never set",
    clauses=("L-1", "A-2"),
    rarely=(50,),
)
class MemoryNeverComesBack(FaultyReference):
    """The memory of a buffer stays taken, whether it is dropped or deallocated."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.memory = memory = NoReleaseCallback(self.memory.total)
        memory.device = weakref.ref(self)


class WantsTheSubmissionLock(FaultySubmission):
    """A submission whose end issues the next, for which it takes the lock of those who submit."""

    def retire(self, error: HalError | None) -> None:
        locked = isinstance(self._device, CompletionAgainstSubmission) and self.strikes()
        with self._device.submitting if locked else contextlib.nullcontext():  # type: ignore[attr-defined]
            super().retire(error)


@defect(
    "completion-against-submission",
    happened="iree-org/iree 1bb26cb345, fixed by 381a16c097, #15673: a queue was advanced from inside the callback of "
    "cuLaunchHostFunc; Vulkan-ValidationLayers issue #4968 is another",
    clauses=("Q-18", "Q-19", "Q-24"),
    hangs=True,
)
class CompletionAgainstSubmission(FaultyReference):
    """A thread that submits and one that completes take two locks in opposite order, and wait for each other."""

    submission_class = WantsTheSubmissionLock

    def __init__(self, chance: Chance) -> None:
        self.submitting = threading.RLock()
        super().__init__(chance)

    def _submit(self, *arguments: Any, **how: Any) -> None:
        with self.submitting:
            super()._submit(*arguments, **how)
