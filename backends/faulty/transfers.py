"""Defects of transfers: bytes that are taken too late, or from the wrong place, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from pytest_cuda2hal.hal import Buffer, Command, Copy, Fill, Timepoint, Update

from ..reference.commands import check_command, run_commands
from .base import FaultyReference, weak_work
from .frame import Chance, defect


@defect(
    "update-reads-its-source-late",
    happened="iree-org/iree, found with UpdateCapturesSourceBeforeWaitResolves, add699f971, #24248",
    clauses=("Q-15",),
    rarely=(50,),
)
class UpdateReadsItsSourceLate(FaultyReference):
    """An update takes its bytes from the caller when it runs, not when it is submitted."""

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
        check_command(self, Update(target, data, offset))
        source = data if self.strikes() else bytes(data)
        self._submit(lambda: run_commands([Update(target, source, offset)]), wait, signal, queue)


@defect(
    "fill-pattern-from-the-last-call",
    happened="iree-org/iree 4f09e724de: what local_task deferred kept a pointer to a local variable of the call",
    clauses=("Q-15", "T-3"),
)
class FillPatternFromTheLastCall(FaultyReference):
    """A fill that has to wait writes the pattern of the fill that was submitted last."""

    _pattern: int | bytes = 0

    def _work_of(self, commands: tuple[Command, ...]) -> Callable[[], None]:
        for command in commands:
            if isinstance(command, Fill):
                self._pattern = command.pattern
        return lambda: run_commands([self._as_it_is_now(command) for command in commands])

    def _as_it_is_now(self, command: Command) -> Command:
        if isinstance(command, Fill) and self.strikes():
            return replace(command, pattern=self._pattern)
        return command


@defect(
    "staging-block-used-again",
    happened="iree-org/iree 205c88d2aa, #15288 (issue #14814): metal freed its staging blocks before they were read",
    clauses=("Q-15", "T-3"),
    rarely=(50,),
)
class StagingBlockUsedAgain(FaultyReference):
    """The bytes of an update that has to wait are overwritten by the next update."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._block = bytearray(2**16)

    def _work_of(self, commands: tuple[Command, ...]) -> Callable[[], None]:
        for command in commands:
            if isinstance(command, Update):
                self._block[: len(command.data)] = command.data
        return lambda: run_commands([self._from_the_block(command) for command in commands])

    def _from_the_block(self, command: Command) -> Command:
        if isinstance(command, Update) and self.strikes():
            return replace(command, data=bytes(self._block[: len(command.data)]))
        return command


@defect(
    "full-staging-ring-loses-its-end",
    happened="iree-org/iree 8947738f26, #19999: a ring of chunks that was full looked empty",
    clauses=("T-1",),
)
class FullStagingRingLosesItsEnd(FaultyReference):
    """A copy of a multiple of 64 bytes leaves out the last 16."""

    def _work_of(self, commands: tuple[Command, ...]) -> Callable[[], None]:
        return super()._work_of(tuple(self._cut(command) for command in commands))

    def _cut(self, command: Command) -> Command:
        if not isinstance(command, Copy):
            return command
        length = command.source.size - command.source_offset if command.length is None else command.length
        cut = length and length % 64 == 0 and self.strikes()
        return replace(command, length=length - 16) if cut else command


@defect(
    "buffers-not-held",
    happened="iree-org/iree 7a27de5bdb: local_task let go of resources before the submission had ended",
    clauses=("Q-15",),
    rarely=(50,),
)
class BuffersNotHeld(FaultyReference):
    """A submission does not hold its buffers: what nobody else holds has gone when it runs."""

    def _work_of(self, commands: tuple[Command, ...]) -> Callable[[], None]:
        return weak_work(commands) if self.strikes() else super()._work_of(commands)
