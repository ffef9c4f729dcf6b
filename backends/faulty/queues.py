"""Defects of queues: what is ready and not noticed, what costs too much, and what is refused and done all the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from pytest_cuda2hal.hal import Command, CommandBuffer, HalError, Timepoint, captured

from ..reference.queue import ReferenceQueue
from ..reference.submission import Submission
from .base import FaultyReference, FaultySubmission, strikes
from .frame import defect


class Drowsy(ReferenceQueue):
    """A queue that notices nothing while it is busy."""

    def __init__(self, index: int, seed: int | None, *, in_order: bool) -> None:
        self.busy = False
        self.unnoticed: list[Submission] = []
        super().__init__(index, seed, in_order=in_order)

    def ready(self, submission: Submission) -> None:
        if self.busy and strikes(submission._device):
            self.unnoticed.append(submission)
            return
        for one in (*self.unnoticed, submission):
            super().ready(one)
        self.unnoticed.clear()


class Busy(FaultySubmission):
    """A submission that makes its queue busy until it has signaled."""

    def run(self) -> None:
        if isinstance(self._queue, Drowsy):
            self._queue.busy = True
        super().run()
        if isinstance(self._queue, Drowsy):
            self._queue.busy = False


@defect(
    "worker-forgets-news",
    happened="iree-org/iree 9dc8ae413b, #16568 (issue #16504): a worker stored IDLE over WORKLOAD_PENDING",
    clauses=("Q-14", "Q-5"),
    rarely=(50, 1000),
)
class WorkerForgetsNews(FaultyReference):
    """What becomes ready while its queue finishes something else stays until the next is ready."""

    queue_class = Drowsy
    submission_class = Busy


class Ring(ReferenceQueue):
    """A queue in a ring of eight, which looks empty when it is full."""

    SIZE = 8

    def __init__(self, index: int, seed: int | None, *, in_order: bool) -> None:
        self.unseen: list[Submission] = []
        super().__init__(index, seed, in_order=in_order)

    def ready(self, submission: Submission) -> None:
        if self.inbox.qsize() == self.SIZE - 1 and not self.unseen and strikes(submission._device):
            self.unseen.append(submission)
            return
        for one in (*self.unseen, submission):
            super().ready(one)
        self.unseen.clear()


@defect(
    "full-ring-looks-empty",
    happened="iree-org/iree 8947738f26, #19999: off by one in the occupancy of a ring",
    clauses=("Q-14", "Q-24", "Q-6"),
)
class FullRingLooksEmpty(FaultyReference):
    """When just eight submissions are queued up, the last stays until the next comes."""

    queue_class = Ring


class ScansEverything(FaultySubmission):
    """A submission whose end is the moment to look at all others."""

    def retire(self, error: HalError | None) -> None:
        super().retire(error)
        if self.strikes():
            for other in list(self._device.unretired):
                other._start_if_ready()


@defect(
    "every-end-scans-everything",
    happened="KhronosGroup/Vulkan-ValidationLayers issue #5171, and iree-org/iree 1bb26cb345, which walks its whole "
    "list of actions at every signal",
    clauses=("Q-18", "Q-18q"),
    deadline=10,
)
class EveryEndScansEverything(FaultyReference):
    """Whenever a submission ends, all that are pending are looked at: the cost of a chain is quadratic."""

    submission_class = ScansEverything


@defect(
    "refused-and-queued",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: what had been queued was reported as an error",
    clauses=("Q-22",),
)
class RefusedAndQueued(FaultyReference):
    """A submission that is refused for one of its commands makes its signals all the same."""

    def queue_execute(
        self,
        commands: Sequence[Command] | CommandBuffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        waits, signals = captured(wait), captured(signal)
        try:
            super().queue_execute(commands, wait=waits, signal=signals, queue=queue)
        except HalError:
            with contextlib.suppress(HalError):
                if self.strikes():
                    super().queue_execute([], wait=waits, signal=signals, queue=queue)
            raise


@defect(
    "one-queue-for-all",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: one stream to dispatch on, and the affinity is ignored",
    clauses=("Q-12", "Q-20", "D-1"),
)
class OneQueueForAll(FaultyReference):
    """What is given to any of the queues goes to the first."""

    def _queue(self, queue: int) -> ReferenceQueue:
        asked = super()._queue(queue)
        return self._queues[0] if self.strikes() else asked
