"""Saboteurs of the clauses about transfers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.hal import Command, CommandBuffer, Copy, Fill, Timepoint

from . import breaks

Commands = Sequence[Command] | CommandBuffer


def _listed(commands: Commands) -> tuple[Command, ...]:
    return commands.commands if isinstance(commands, CommandBuffer) else tuple(commands)


@breaks("T-1", "a copy of an odd number of bytes leaves out the last one")
class T1(ReferenceDevice):
    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        listed = [self._even(command) for command in _listed(commands)]
        super().queue_execute(listed, wait=wait, signal=signal, queue=queue)

    def _even(self, command: Command) -> Command:
        match command:
            case Copy(source, target, at, to, int(length)) if length % 2:
                return Copy(source, target, at, to, length - 1)
        return command


@breaks("T-2", "a fill that reaches beyond its buffer is cut there and carried out")
class T2(ReferenceDevice):
    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        listed = [self._cut(command) for command in _listed(commands)]
        super().queue_execute(listed, wait=wait, signal=signal, queue=queue)

    def _cut(self, command: Command) -> Command:
        match command:
            case Fill(target, pattern, offset, int(length)) if offset < target.size < offset + length:
                return Fill(target, pattern, offset, target.size - offset)
        return command


@breaks("T-3", "a copy is made once more, with what its source holds then, when its queue gets its next fill")
class T3(ReferenceDevice):
    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        listed = _listed(commands)
        late: dict[int, Copy] = self.__dict__.setdefault("late", {})
        match listed:
            case (Copy() as copy,):
                late[queue] = copy
            case (Fill(),) if queue in late:
                listed = (*listed, late.pop(queue))
        super().queue_execute(listed, wait=wait, signal=signal, queue=queue)
