"""Defects of host calls: made twice, made when they must not be, or in a place where they cannot do what they may."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import Any

from pytest_cuda2hal.hal import HalError, Timepoint

from ..reference.semaphore import Point
from .base import FaultyReference, FaultySubmission
from .frame import defect


class ResolvedTwice(FaultySubmission):
    """A submission that both its look at its waits and its registration find ready."""

    _ready_at_once = False

    def submit(self) -> None:
        self._ready_at_once = all(point.semaphore._has_reached(point.value) for point in self._waits)
        super().submit()

    def perform(self, work: Callable[[], None]) -> None:
        if self._on_own_thread and self._waits and self._ready_at_once and self.strikes():
            work()
        work()


@defect(
    "host-call-made-twice",
    happened="iree-org/iree e27be5a85f: a wait was resolved while it was still being registered",
    clauses=("H-1",),
    rarely=(50,),
)
class HostCallMadeTwice(FaultyReference):
    """A host call whose wait list is reached when it is submitted is made twice."""

    submission_class = ResolvedTwice


class CallsAllTheSame(FaultySubmission):
    """A submission that makes its call, and then sees that a wait has failed."""

    def failed(self, point: Point, error: HalError) -> None:
        work = self._work
        if self._on_own_thread and work and self.strikes():
            threading.Thread(target=work, name="hal-host-call", daemon=True).start()
        super().failed(point, error)


@defect(
    "host-call-under-a-failed-wait",
    happened="iree-org/iree 3fd336f285, #18021: what was woken did not ask whether by a failure",
    clauses=("H-1",),
    rarely=(50,),
)
class HostCallUnderAFailedWait(FaultyReference):
    """A host call is made although one of its waits has failed; its signals fail as they should."""

    submission_class = CallsAllTheSame


class DropsWhatItRaises(FaultySubmission):
    """A submission that makes a call and does not look at how it ended."""

    def perform(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            if not (self._on_own_thread and self.strikes()):
                raise


@defect(
    "host-call-error-dropped",
    happened="iree-org/iree 04784a9bde, #23644: what failed while it ran was dropped",
    clauses=("H-2",),
)
class HostCallErrorDropped(FaultyReference):
    """A host call that raises signals as if it had returned."""

    submission_class = DropsWhatItRaises


@defect(
    "host-call-under-the-lock",
    happened="iree-org/iree 1bb26cb345, fixed by 381a16c097, #15673: a callback ran where nothing may be called",
    clauses=("H-2",),
    hangs=True,
)
class HostCallUnderTheLock(FaultyReference):
    """A host call that queries or signals waits for a lock that its caller holds."""

    def queue_host_call(
        self,
        function: Callable[[], object],
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        def call() -> None:
            with self.lock if self.strikes() else contextlib.nullcontext():
                function()

        super().queue_host_call(call, wait=wait, signal=signal, queue=queue)


@defect(
    "host-call-holds-its-queue",
    happened="CUDA, cuLaunchHostFunc: what comes after a host function in its stream waits for it",
    clauses=("H-3",),
)
class HostCallHoldsItsQueue(FaultyReference):
    """A host call runs in the thread of its queue, and what comes behind it waits."""

    def _submit(self, *arguments: Any, **how: Any) -> None:
        if self.strikes():
            how["on_own_thread"] = False
        super()._submit(*arguments, **how)
