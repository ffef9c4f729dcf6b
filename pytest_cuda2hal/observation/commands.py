"""Latches, buffers and commands on their way from a case to the HAL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..hal import Buffer, Capability, Command, CommandBuffer, Copy, Fault, Fill, Hold, Latch, Update
from .buffers import ObservedBuffer
from .calls import Calls, in_call

_GATES: dict[type, Capability] = {
    Update: Capability.UPDATE,
    Hold: Capability.HOLD,
    Fault: Capability.FAULT_INJECTION,
}


class ObservedLatch(Latch):
    """Passes :meth:`open` on and remembers whether it was called."""

    def __init__(self, inner: Latch, serial: int, calls: Calls | None) -> None:
        self.inner = inner
        self.serial = serial
        self.is_open = False
        self._calls = calls

    def open(self) -> None:
        self.is_open = True
        with in_call(self._calls, "open", s=self.serial):
            self.inner.open()


class ObservedCommandBuffer(CommandBuffer):
    """A recorded command buffer together with the HAL's own."""

    def __init__(self, commands: tuple[Command, ...], inner: CommandBuffer, *, one_shot: bool) -> None:
        super().__init__(commands, one_shot=one_shot)
        self.inner = inner


def inner_buffer(buffer: Buffer) -> Buffer:
    """Return the HAL's own buffer."""
    return buffer.inner if isinstance(buffer, ObservedBuffer) else buffer


def inner_commands(commands: Sequence[Command], need: Callable[[Capability], None]) -> list[Command]:
    """Return commands on the HAL's own buffers and latches, in a list that nobody else holds.

    ``need`` is called with each capability that they take.
    """
    inner: list[Command] = []
    for command in commands:
        gate = _GATES.get(type(command))
        if gate is not None:
            need(gate)
        match command:
            case Fill(target, pattern, offset, length):
                inner.append(Fill(inner_buffer(target), pattern, offset, length))
            case Copy(source, target, source_offset, target_offset, length):
                inner.append(Copy(inner_buffer(source), inner_buffer(target), source_offset, target_offset, length))
            case Update(target, data, offset):
                inner.append(Update(inner_buffer(target), data, offset))
            case Hold(ObservedLatch() as latch):
                inner.append(Hold(latch.inner))
            case _:
                inner.append(command)
    return inner


def buffer_name(buffer: Buffer) -> str:
    """Return what messages call a buffer."""
    return buffer.name if isinstance(buffer, ObservedBuffer) else "?"


def place(buffer: Buffer, offset: int) -> str:
    """Return what messages call a place in a buffer."""
    return f"{buffer_name(buffer)}+{offset}" if offset else buffer_name(buffer)


def command_text(command: Command) -> str:
    """Return what messages call a command."""
    match command:
        case Fill(target, _, offset):
            return f"fill({place(target, offset)})"
        case Copy(source, target, source_offset, target_offset):
            return f"copy({place(source, source_offset)} → {place(target, target_offset)})"
        case Update(target, _, offset):
            return f"update({place(target, offset)})"
        case Hold():
            return "hold"
        case Fault():
            return "fault"
