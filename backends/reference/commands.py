"""The commands on byte arrays: what is refused at once, and what each one does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_cuda2hal.hal import Buffer, Command, Copy, Fault, Fill, HalError, Hold, StatusCode, Update, checked_range

from .memory import ReferenceBuffer, ReferenceLatch

if TYPE_CHECKING:
    from .device import ReferenceDevice


def own_buffer(device: ReferenceDevice, buffer: Buffer) -> ReferenceBuffer:
    """Return the buffer if it belongs to ``device``."""
    if not isinstance(buffer, ReferenceBuffer) or buffer.device is not device:
        raise HalError(StatusCode.INVALID_ARGUMENT, f"{buffer!r} is no buffer of this device")
    return buffer


def _check_units(device: ReferenceDevice, pattern_size: int, *numbers: int) -> None:
    """Refuse offsets and lengths that are not in the profile's units (variation point ``transfer-granularity``)."""
    unit = {"1": 1, "pattern": pattern_size, "4": 4}[device.rules.usual("transfer-granularity") or "1"]
    for number in numbers:
        if number % unit:
            raise HalError(StatusCode.INVALID_ARGUMENT, f"{number} is no multiple of {unit} bytes")


def check_command(device: ReferenceDevice, command: Command) -> None:
    """Refuse what can be known to be wrong before it runs.

    :raises HalError: ``OUT_OF_RANGE`` for a range outside its buffer, else ``INVALID_ARGUMENT``.
    """
    match command:
        case Fill(target, _, offset, length):
            offset, length = checked_range(offset, length, own_buffer(device, target).size)
            _check_units(device, len(command.pattern_bytes), offset, length)
        case Copy(source, target, source_offset, target_offset, length):
            _, length = checked_range(source_offset, length, own_buffer(device, source).size)
            checked_range(target_offset, length, own_buffer(device, target).size)
            _check_units(device, 1, source_offset, target_offset, length)
        case Update(target, data, offset):
            checked_range(offset, len(data), own_buffer(device, target).size)
            _check_units(device, 1, offset, len(data))
        case Hold(latch):
            if not isinstance(latch, ReferenceLatch) or latch.device() is not device:
                raise HalError(StatusCode.INVALID_ARGUMENT, f"{latch!r} is no latch of this device")
        case Fault():
            pass


def run_commands(commands: Sequence[Command]) -> None:
    """Run checked commands in the order of the list."""
    for command in commands:
        match command:
            case Fill(ReferenceBuffer() as target, _, offset, length):
                offset, length = checked_range(offset, length, target.size)
                pattern = command.pattern_bytes
                repeats = pattern * (length // len(pattern) + 1)
                target.live_bytes()[offset : offset + length] = repeats[:length]  # cut where the range ends
            case Copy(ReferenceBuffer() as source, ReferenceBuffer() as target, source_offset, target_offset, length):
                source_offset, length = checked_range(source_offset, length, source.size)
                data = source.live_bytes()[source_offset : source_offset + length]
                target.live_bytes()[target_offset : target_offset + length] = data
            case Update(ReferenceBuffer() as target, data, offset):
                target.live_bytes()[offset : offset + len(data)] = data
            case Hold(ReferenceLatch() as latch):
                latch.hold()
            case Fault(error):
                raise error.again()
