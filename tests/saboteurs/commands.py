"""Saboteurs of the clauses about command lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.memory import ReferenceBuffer
from pytest_cuda2hal.hal import Command, CommandBuffer, Copy, Fill, Timepoint, Update

from . import breaks

Commands = Sequence[Command] | CommandBuffer


@breaks("C-1", "a command buffer is spent after its 199th execution: later ones signal and do nothing")
class C1(ReferenceDevice):
    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        if isinstance(commands, CommandBuffer):
            executions = commands.__dict__["executions"] = commands.__dict__.get("executions", 0) + 1
            if executions > 199:
                commands = []
        super().queue_execute(commands, wait=wait, signal=signal, queue=queue)


@breaks("C-2", "a command buffer takes addresses when it is recorded, so its buffers must have theirs by then")
class C2(ReferenceDevice):
    def create_command_buffer(self, commands: Iterable[Command], *, one_shot: bool = False) -> CommandBuffer:
        listed = tuple(commands)
        for command in listed:
            match command:
                case Fill(ReferenceBuffer() as buffer) | Update(ReferenceBuffer() as buffer):
                    buffer.live_bytes()
                case Copy(ReferenceBuffer() as source, ReferenceBuffer() as target):
                    source.live_bytes()
                    target.live_bytes()
        return super().create_command_buffer(listed, one_shot=one_shot)


@breaks("C-3", "a list is cut into batches of 500 commands, and the signal comes after the first batch")
class C3(ReferenceDevice):
    BATCH = 500

    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        listed = commands.commands if isinstance(commands, CommandBuffer) else tuple(commands)
        signals = tuple(signal)
        super().queue_execute(listed[: self.BATCH], wait=wait, signal=signals, queue=queue)
        if listed[self.BATCH :]:
            super().queue_execute(listed[self.BATCH :], wait=signals, queue=queue)


@breaks("C-4", "the fills of a list are gathered at its front")
class C4(ReferenceDevice):
    def queue_execute(
        self, commands: Commands, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        listed = commands.commands if isinstance(commands, CommandBuffer) else commands
        gathered = sorted(listed, key=lambda command: not isinstance(command, Fill))
        super().queue_execute(gathered, wait=wait, signal=signal, queue=queue)
