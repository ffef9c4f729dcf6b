"""Recording command lists as IREE command buffers."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_cuda2hal.hal import (
    Buffer,
    Capability,
    Command,
    CommandBuffer,
    Copy,
    Fault,
    Fill,
    Hold,
    UnsupportedOperation,
    Update,
)

from .memory import IreeBuffer
from .route import ANY_QUEUE, Owned, Route

# iree/hal/command_buffer.h
_REUSABLE = 0
_ONE_SHOT = 1
_TRANSFER_AND_DISPATCH = 3
# The stages between which IREE's compiler puts its barriers: dispatch, transfer, retire -> issue, dispatch, transfer.
_BEFORE = 4 | 8 | 16
_AFTER = 1 | 4 | 8


class IreeCommandBuffer(CommandBuffer):
    """Commands recorded in an IREE command buffer when this object is made."""

    def __init__(self, commands: Iterable[Command], route: Route, *, one_shot: bool = False) -> None:
        super().__init__(commands, one_shot=one_shot)
        self.owned = record(self.commands, route, one_shot=one_shot)


def hal_buffer(buffer: Buffer) -> Owned:
    """Return the ``HalBuffer`` of a buffer.

    :raises TypeError: it belongs to another backend.
    """
    if not isinstance(buffer, IreeBuffer):
        raise TypeError(f"not a buffer of the backend iree: {buffer!r}")
    return buffer.owned


def rest(buffer: Buffer, offset: int, length: int | None) -> int:
    """Return ``length``, or what follows ``offset``. Whether the range lies inside is for IREE to say."""
    return max(0, buffer.size - offset) if length is None else length


def record(commands: Iterable[Command], route: Route, *, one_shot: bool) -> Owned:
    """Return a reference to a finished command buffer.

    IREE runs the commands of a command buffer in any order, or at once, unless barriers stand between them. Our lists
    act in order (C-4), so one stands between any two: saying so is the caller's part in IREE, not a workaround.

    :raises UnsupportedOperation: a command that IREE does not have.
    :raises HalError: IREE refuses a command.
    """
    mode = _ONE_SHOT if one_shot else _REUSABLE
    # riiIi -> r: …, mode, categories, affinity, binding slots
    created = route.on_device("command_buffer.create", mode, _TRANSFER_AND_DISPATCH, ANY_QUEUE, 0, results=1)
    handle = route.own(created.get_as_ref(0))
    del created  # it holds the handle bare (see Owned)
    for index, command in enumerate(commands):
        if index:
            route.invoke("command_buffer.execution_barrier", handle, _BEFORE, _AFTER, 0)  # riiI
        _record_one(command, handle, route)
    route.invoke("command_buffer.finalize", handle)  # r
    return handle


def _record_one(command: Command, handle: Owned, route: Route) -> None:
    match command:
        case Fill(target, _, offset, length):
            pattern = command.pattern_bytes
            value = int.from_bytes(pattern, "little")
            size = rest(target, offset, length)
            # rrIIiIiI: target, offset, length, binding slot, pattern, pattern length, flags
            fill = (hal_buffer(target), offset, size, 0, value, len(pattern))
            route.invoke("command_buffer.fill_buffer", handle, *fill, 0)
        case Copy(source, target, source_offset, target_offset, length):
            size = rest(source, source_offset, length)
            ranges = (hal_buffer(source), source_offset, hal_buffer(target), target_offset, size)
            # riirIrIII: binding slots, source, offset, target, offset, length, flags
            route.invoke("command_buffer.copy_buffer", handle, 0, 0, *ranges, 0)
        case Update(target, data, offset):
            # rrIrIIiI: source, offset, target, offset, length, slot, flags. local-task takes 2,016 bytes at most.
            update = (route.bytes(data), 0, hal_buffer(target), offset, len(data))
            route.invoke("command_buffer.update_buffer", handle, *update, 0, 0)
        case Hold():
            raise UnsupportedOperation(Capability.HOLD.value)
        case Fault():
            raise UnsupportedOperation(Capability.FAULT_INJECTION.value)
