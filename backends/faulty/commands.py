"""Defects of command lists and command buffers: not captured, not held, and not to be used twice."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytest_cuda2hal.hal import Command, CommandBuffer, Timepoint, captured

from ..reference.commands import check_command, run_commands
from ..reference.semaphore import Point
from .base import FaultyReference, FaultySubmission, listed, weak_work
from .frame import Chance, defect

Commands = Sequence[Command] | CommandBuffer


class Executing(FaultyReference):
    """A device that looks at what it is given before it runs it."""

    def given(self, commands: Commands) -> Commands:
        """Return what is executed instead."""
        return commands

    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        super().queue_execute(self.given(commands), wait=wait, signal=signal, queue=queue)


@defect(
    "command-list-by-reference",
    happened="iree-org/iree 1bb26cb345, fixed by 381a16c097, #15673: the caller's array of command buffers was kept",
    clauses=("Q-15",),
    rarely=(50,),
)
class CommandListByReference(FaultyReference):
    """A submission runs what its caller's list holds when it runs."""

    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        if isinstance(commands, CommandBuffer) or not self.strikes():
            super().queue_execute(commands, wait=wait, signal=signal, queue=queue)
            return
        for command in commands:
            check_command(self, command)
        self._submit(lambda: run_commands(commands), wait, signal, queue)


class Borrowed(tuple[Point, ...]):
    """A list of timepoints that knows where it came from."""

    source: Iterable[Timepoint] = ()


class SignalsWhatIsThere(FaultySubmission):
    """A submission that reads its signal list when it signals."""

    def retire(self, error: Any) -> None:
        if isinstance(self._signals, Borrowed) and isinstance(self._signals.source, list) and self.strikes():
            self._signals = self._device._own_points(self._signals.source)
        super().retire(error)


@defect(
    "signal-list-by-reference",
    happened="o3de/o3de issue #18286: a fence value was captured by pointer, and had changed when it was used",
    clauses=("Q-15",),
)
class SignalListByReference(FaultyReference):
    """A submission signals what its caller's list holds when it ends."""

    submission_class = SignalsWhatIsThere

    def _own_points(self, timepoints: Iterable[Timepoint]) -> tuple[Point, ...]:
        points = Borrowed(super()._own_points(timepoints))
        points.source = timepoints
        return points

    def _signals(self, signals: tuple[Point, ...]) -> tuple[Point, ...]:
        ordered = Borrowed(super()._signals(signals))
        ordered.source = signals.source if isinstance(signals, Borrowed) else ()
        return ordered


@defect(
    "command-buffer-gone-after-its-run",
    happened="iree-org/iree f89a7da8b8, #17909: the deferred command buffer was released too early",
    clauses=("C-1",),
)
class CommandBufferGoneAfterItsRun(Executing):
    """A command buffer can be executed once; after that it does nothing."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._spent: weakref.WeakSet[CommandBuffer] = weakref.WeakSet()

    def given(self, commands: Commands) -> Commands:
        if isinstance(commands, CommandBuffer):
            if commands in self._spent and self.strikes():
                return []
            self._spent.add(commands)
        return commands


@defect(
    "rerun-shares-its-events",
    happened="iree-org/iree c322d2833c, #17603: the events of a graph were used again by its next run",
    clauses=("C-1",),
)
class RerunSharesItsEvents(FaultyReference):
    """A command buffer that is executed again before it has ended counts as having ended: nothing runs."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._running: set[int] = set()

    def _work_of(self, commands: tuple[Command, ...]) -> Callable[[], None]:
        key = id(commands)
        if commands and key in self._running and self.strikes():
            return lambda: None
        self._running.add(key)
        work = super()._work_of(commands)
        weakref.finalize(work, self._running.discard, key)
        return work


@defect(
    "bindings-not-held",
    happened="iree-org/iree dcc8a0d1cc, #17839, and f8f299694a, #17838: binding tables were not held until completion",
    clauses=("Q-15",),
)
class BindingsNotHeld(FaultyReference):
    """An execution of a command buffer does not hold the buffers in it."""

    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        if not isinstance(commands, CommandBuffer) or not self.strikes():
            super().queue_execute(commands, wait=wait, signal=signal, queue=queue)
            return
        for command in listed(commands):
            check_command(self, command)
        self._submit(weak_work(listed(commands)), wait, signal, queue)


@defect(
    "no-signals-frees-at-once",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: without signals the clean-up callback runs at once",
    clauses=("Q-4", "Q-15"),
)
class NoSignalsFreesAtOnce(FaultyReference):
    """A submission that signals nothing does not hold its buffers."""

    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        signals = captured(signal)
        if signals or not self.strikes():
            super().queue_execute(commands, wait=wait, signal=signals, queue=queue)
            return
        for command in listed(commands):
            check_command(self, command)
        self._submit(weak_work(listed(commands)), wait, signals, queue)
