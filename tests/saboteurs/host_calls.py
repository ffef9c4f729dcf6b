"""Saboteurs of the clauses about host calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.semaphore import Point
from pytest_cuda2hal.backends.reference.submission import Submission
from pytest_cuda2hal.hal import HalError, Timepoint

from . import breaks


class CallsAllTheSame(Submission):
    def failed(self, point: Point, error: HalError) -> None:
        if self._on_own_thread and self._work:
            with contextlib.suppress(Exception):
                self._work()
        super().failed(point, error)


@breaks("H-1", "a host call is made also when one of its waits fails")
class H1(ReferenceDevice):
    submission_class = CallsAllTheSame


@breaks("H-2", "what a host call raises is dropped, and its signals are made")
class H2(ReferenceDevice):
    def queue_host_call(
        self,
        function: Callable[[], object],
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        def call() -> None:
            with contextlib.suppress(Exception):
                function()

        super().queue_host_call(call, wait=wait, signal=signal, queue=queue)


@breaks("H-3", "host calls run on the thread that runs the work of their queue")
class H3(ReferenceDevice):
    def queue_host_call(
        self,
        function: Callable[[], object],
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        def call() -> None:
            function()

        self._submit(call, wait, signal, queue)
