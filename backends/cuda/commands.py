"""Command lists as programs of driver calls: what is refused at once, and what each command issues to a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pytest_cuda2hal.hal import (
    Buffer,
    Command,
    CommandBuffer,
    Copy,
    Fault,
    Fill,
    HalError,
    Hold,
    StatusCode,
    Update,
    checked_range,
)

from .driver import Handle, error_of
from .graphs import GraphCache
from .memory import CudaBuffer, CudaLatch
from .staging import PinnedBlock

if TYPE_CHECKING:
    from .actions import Action
    from .context import Context
    from .engine import Engine
    from .lane import Lane


class Step(Protocol):
    """A piece of a program that is issued as a whole. ``weight`` is how many launches that is."""

    weight: int

    def launch(self, action: Action, engine: Engine, lane: Lane) -> None: ...


class Operation(Protocol):
    """A command, checked and taken apart: its driver calls on a given stream."""

    weight: int
    buffers: tuple[CudaBuffer, ...]

    def issue(self, context: Context, stream: Handle, staging: list[PinnedBlock]) -> None: ...


class FillOperation:
    """Up to seven memsets: bytes up to an aligned address, the middle with the widest pattern, and what is left."""

    __slots__ = ("_pieces", "_target", "buffers", "weight")

    def __init__(self, target: CudaBuffer, pattern: bytes, offset: int, length: int) -> None:
        self._target = target
        self.buffers: tuple[CudaBuffer, ...] = (target,)
        self._pieces = _fill_pieces(pattern, offset, length)
        self.weight = len(self._pieces)

    def issue(self, context: Context, stream: Handle, staging: list[PinnedBlock]) -> None:
        address = self._target.live_address()
        driver = context.driver
        for width, offset, value, count in self._pieces:
            if width == 1:
                (error,) = driver.cuMemsetD8Async(address + offset, value, count, stream)
            elif width == 2:
                (error,) = driver.cuMemsetD16Async(address + offset, value, count, stream)
            else:
                (error,) = driver.cuMemsetD32Async(address + offset, value, count, stream)
            if error:
                raise error_of(driver, f"cuMemsetD{8 * width}Async", error)


def _fill_pieces(pattern: bytes, offset: int, length: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return (width, offset, value, count) of memsets. Buffers begin at addresses that 4 divides."""
    if not length:
        return ()
    if pattern == pattern[:1] * len(pattern):
        return ((1, offset, pattern[0], length),)
    width = len(pattern)
    head = min(-offset % width, length)
    count, tail = divmod(length - head, width)
    turned = pattern[head:] + pattern[:head]  # how the pattern stands at the aligned address
    pieces = [(1, offset + k, pattern[k], 1) for k in range(head)]
    if count:
        pieces.append((width, offset + head, int.from_bytes(turned, "little"), count))
    at = offset + head + count * width
    pieces += [(1, at + k, turned[k], 1) for k in range(tail)]
    return tuple(pieces)


class CopyOperation:
    """One copy on the device."""

    __slots__ = ("_length", "_source", "_source_offset", "_target", "_target_offset", "buffers", "weight")

    def __init__(
        self, source: CudaBuffer, target: CudaBuffer, source_offset: int, target_offset: int, length: int
    ) -> None:
        self.buffers: tuple[CudaBuffer, ...] = (source, target)
        self._source, self._target = source, target
        self._source_offset, self._target_offset, self._length = source_offset, target_offset, length
        self.weight = 1 if length else 0

    def issue(self, context: Context, stream: Handle, staging: list[PinnedBlock]) -> None:
        source = self._source.live_address() + self._source_offset
        target = self._target.live_address() + self._target_offset
        if self._length:
            (error,) = context.driver.cuMemcpyDtoDAsync(target, source, self._length, stream)
            if error:
                raise error_of(context.driver, "cuMemcpyDtoDAsync", error)


class UpdateOperation:
    """A copy from pinned memory, since one from pageable memory blocks its caller while the stream is held."""

    __slots__ = ("_data", "_offset", "_target", "buffers", "weight")

    def __init__(self, target: CudaBuffer, data: bytes, offset: int) -> None:
        self._target, self._data, self._offset = target, data, offset
        self.buffers: tuple[CudaBuffer, ...] = (target,)
        self.weight = 1 if data else 0

    def issue(self, context: Context, stream: Handle, staging: list[PinnedBlock]) -> None:
        target = self._target.live_address() + self._offset
        if not self._data:
            return
        block = context.staging.take(len(self._data))
        staging.append(block)
        block.write(self._data)
        (error,) = context.driver.cuMemcpyHtoDAsync(target, block.address, len(self._data), stream)
        if error:
            raise error_of(context.driver, "cuMemcpyHtoDAsync", error)


class HoldOperation:
    """A wait of the stream for the latch's word."""

    __slots__ = ("_latch", "buffers", "weight")

    def __init__(self, latch: CudaLatch) -> None:
        self._latch = latch
        self.buffers: tuple[CudaBuffer, ...] = ()
        self.weight = 1

    def issue(self, context: Context, stream: Handle, staging: list[PinnedBlock]) -> None:
        driver = context.driver
        at_least = int(driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_GEQ)
        (error,) = driver.cuStreamWaitValue32(stream, self._latch.block.device_address, 1, at_least)
        if error:
            raise error_of(driver, "cuStreamWaitValue32", error)


class FaultOperation:
    """Fails when it is issued, and with it the rest of its list."""

    __slots__ = ("_error", "buffers", "weight")

    def __init__(self, error: HalError) -> None:
        self._error = error.again()
        self.buffers: tuple[CudaBuffer, ...] = ()
        self.weight = 0

    def issue(self, context: Context, stream: Handle, staging: list[PinnedBlock]) -> None:
        raise self._error.again()


class PlainStep:
    """One operation as plain stream calls."""

    __slots__ = ("_operation", "weight")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self.weight = operation.weight

    def launch(self, action: Action, engine: Engine, lane: Lane) -> None:
        staging: list[PinnedBlock] = []
        try:
            self._operation.issue(engine.context, lane.stream, staging)
        finally:
            if staging:
                action.staging = [*action.staging, *staging]


class GraphStep:
    """Several operations as one graph, which is built when it is first issued and every address is known."""

    __slots__ = ("_cache", "weight")

    def __init__(self, engine: Engine, operations: Sequence[Operation]) -> None:
        self.weight = sum(operation.weight for operation in operations)
        self._cache = GraphCache(engine, operations)

    def launch(self, action: Action, engine: Engine, lane: Lane) -> None:
        driver = engine.driver
        (error,) = driver.cuGraphLaunch(self._cache.executable(lane), lane.stream)
        if error:
            raise error_of(driver, "cuGraphLaunch", error)


class Program:
    """The steps of a command list. It never changes, so actions share it."""

    __slots__ = ("_buffers", "_weights", "steps")

    def __init__(self, steps: Sequence[Step], operations: Sequence[Operation]) -> None:
        self.steps = tuple(steps)
        self._buffers = tuple({buffer for operation in operations for buffer in operation.buffers})
        rest = 0
        weights = [0]
        for step in reversed(self.steps):
            rest += step.weight
            weights.append(rest)
        self._weights = weights[::-1]

    def weight_from(self, position: int) -> int:
        """How many launches the steps from ``position`` on are."""
        return self._weights[position]

    def check_alive(self) -> None:
        """Refuse to begin when a buffer has no memory at this moment, so that nothing is written then."""
        for buffer in self._buffers:
            buffer.live_address()


BARRIER = Program((), ())


class CudaCommandBuffer(CommandBuffer):
    """Recorded commands and the program made of them; graphs are kept with it."""

    def __init__(self, engine: Engine, commands: Sequence[Command], *, one_shot: bool) -> None:
        super().__init__(commands, one_shot=one_shot)
        self.engine = engine
        operations = [operation_of(engine, command) for command in self.commands]
        limit = engine.parameters.max_in_flight
        steps: list[Step] = []
        for run in _runs(operations, limit):
            fails = isinstance(run[0], FaultOperation)
            steps.append(PlainStep(run[0]) if len(run) == 1 or fails else GraphStep(engine, run))
        self.program = Program(steps, operations)


def _runs(operations: Sequence[Operation], limit: int) -> list[list[Operation]]:
    """Part operations into runs that become a graph each: none with a fault, none of more launches than the limit."""
    runs: list[list[Operation]] = []
    weight = 0
    for operation in operations:
        alone = isinstance(operation, FaultOperation)
        if not runs or alone or weight + operation.weight > limit:
            runs.append([operation])
            weight = limit + 1 if alone else operation.weight
        else:
            runs[-1].append(operation)
            weight += operation.weight
    return runs


def program_of(engine: Engine, commands: Sequence[Command]) -> Program:
    """Return the program of a list that is executed once: plain stream calls, since a graph costs more than it saves.

    :raises HalError: a command can be known to be wrong.
    """
    if not commands:
        return BARRIER
    operations = [operation_of(engine, command) for command in commands]
    return Program([PlainStep(operation) for operation in operations], operations)


def operation_of(engine: Engine, command: Command) -> Operation:
    """Check a command and take it apart.

    :raises HalError: ``OUT_OF_RANGE`` for a range outside its buffer, else ``INVALID_ARGUMENT``.
    """
    match command:
        case Fill(target, _, offset, length):
            owned = own_buffer(engine, target)
            offset, length = checked_range(offset, length, owned.size)
            return FillOperation(owned, command.pattern_bytes, offset, length)
        case Copy(source, target, source_offset, target_offset, length):
            origin, owned = own_buffer(engine, source), own_buffer(engine, target)
            source_offset, length = checked_range(source_offset, length, origin.size)
            checked_range(target_offset, length, owned.size)
            if origin is owned and abs(source_offset - target_offset) < length:
                text = f"a copy of {length} bytes from {source_offset} to {target_offset} of one buffer overlaps itself"
                raise HalError(StatusCode.INVALID_ARGUMENT, text)
            return CopyOperation(origin, owned, source_offset, target_offset, length)
        case Update(target, data, offset):
            owned = own_buffer(engine, target)
            checked_range(offset, len(data), owned.size)
            return UpdateOperation(owned, data, offset)
        case Hold(latch):
            if not isinstance(latch, CudaLatch) or latch.engine is not engine:
                raise HalError(StatusCode.INVALID_ARGUMENT, f"{latch!r} is no latch of this device")
            return HoldOperation(latch)
        case Fault(error):
            return FaultOperation(error)


def own_buffer(engine: Engine, buffer: Buffer) -> CudaBuffer:
    """Return the buffer if it belongs to the engine's device."""
    if not isinstance(buffer, CudaBuffer) or buffer.engine is not engine:
        raise HalError(StatusCode.INVALID_ARGUMENT, f"{buffer!r} is no buffer of this device")
    return buffer
