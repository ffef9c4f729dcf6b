"""What streams run. Apart from records and graph launches, an operation holds no state: a graph runs it many times."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, ClassVar, Protocol

from .enums import CUresult, CUstreamWaitValue_flags

if TYPE_CHECKING:
    import threading

    from .handles import Clock, CUcontext, CUgraphExec, CUhostFn, CUstream
    from .memory import Block

#: What became of an operation that was run: finished; to be run again; waiting for a host function to return.
DONE, MORE, AWAY = range(3)

_WORD = struct.Struct("=I")


class DeviceFault(Exception):
    """What an operation does wrong on the device; the context is lost."""

    def __init__(self, error: CUresult) -> None:
        super().__init__(error.name)
        self.error = error


class Scheduler(Protocol):
    """What operations ask of the engine that runs them."""

    def consider(self, stream: CUstream) -> None:
        """Look again at whether the stream's head can run."""

    def poll(self, stream: CUstream) -> None:
        """Look at the stream from time to time until its head can run."""

    def wake(self, context: CUcontext, sleeper: threading.Lock) -> None:
        """Wake a thread that is blocked in a call."""

    def call(self, stream: CUstream, function: CUhostFn, argument: int | None) -> None:
        """Call a host function on the thread for that, then go on with the stream."""


class Operation:
    """One thing a stream does."""

    __slots__ = ("pinned",)

    #: Whether it takes one of the stream's launch slots until it has finished.
    counted: ClassVar[bool] = True

    def __init__(self, *pinned: Block | None) -> None:
        #: Pinned host memory that it touches.
        self.pinned: tuple[Block, ...] = tuple(one for one in pinned if one is not None and one.buffer is not None)

    def slots(self) -> int:
        """Tell how many of the stream's launch slots it takes."""
        return int(self.counted)

    def ready(self, scheduler: Scheduler, stream: CUstream) -> bool:
        """Tell whether it can run at the head of ``stream`` now; if not, see to it that somebody looks again."""
        return True

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Run it, under the driver's lock."""
        raise NotImplementedError

    def resumed(self, scheduler: Scheduler) -> int:
        """The host function that it called has returned."""
        return DONE


def resolve(stream: CUstream, address: int, size: int) -> tuple[bytearray | memoryview, int]:
    """Return the bytes at a device address and the offset in them, or fault."""
    block = stream.context.memory.live.find(address, size)
    if block is None or block.data is None:
        raise DeviceFault(CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
    return block.data, address - block.start


class Record(Operation):
    """One ``cuEventRecord``, or the like: done when what was enqueued before it is. It knows what it comes after."""

    __slots__ = ("blocking", "clock", "done", "position", "sleepers", "stream", "streams")
    counted = False

    def __init__(self, stream: CUstream, *, blocking: bool = False) -> None:
        self.pinned = ()
        #: It is of an event made with ``CU_EVENT_BLOCKING_SYNC``, of which a stream takes only so many.
        self.blocking = blocking
        self.done = False
        self.stream = stream
        self.position = stream.enqueued + 1
        self.clock: Clock = stream.clock
        #: Streams whose head waits for it, and threads that do.
        self.streams: list[CUstream] = []
        self.sleepers: list[threading.Lock] = []

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Complete it."""
        self.done = True
        if self.blocking:
            stream.notices -= 1
        for one in self.streams:
            scheduler.consider(one)
        for sleeper in self.sleepers:
            scheduler.wake(stream.context, sleeper)
        self.streams.clear()
        self.sleepers.clear()
        self.clock = {}  # what is done needs no place in the order, and chains of clocks keep memory
        return DONE


class WaitRecord(Operation):
    """Hold the stream until a record is done."""

    __slots__ = ("record",)
    counted = False

    def __init__(self, record: Record) -> None:
        self.pinned = ()
        self.record = record

    def ready(self, scheduler: Scheduler, stream: CUstream) -> bool:
        """Tell whether the record is done."""
        if not self.record.done:
            self.record.streams.append(stream)
        return self.record.done

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Do nothing more."""
        return DONE


class Memset(Operation):
    """Repeat a pattern of 1, 2 or 4 bytes."""

    __slots__ = ("address", "count", "pattern")

    def __init__(self, block: Block, address: int, pattern: bytes, count: int) -> None:
        super().__init__(block)
        self.address = address
        self.pattern = pattern
        self.count = count

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Write."""
        size = len(self.pattern) * self.count
        data, offset = resolve(stream, self.address, size)
        data[offset : offset + size] = self.pattern * self.count
        return DONE


class Copy(Operation):
    """Copy within what the device can see."""

    __slots__ = ("size", "source", "target")

    def __init__(self, target: int, source: int, size: int, *blocks: Block | None) -> None:
        super().__init__(*blocks)
        self.target = target
        self.source = source
        self.size = size

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Copy."""
        source, start = resolve(stream, self.source, self.size)
        target, offset = resolve(stream, self.target, self.size)
        target[offset : offset + self.size] = bytes(memoryview(source)[start : start + self.size])
        return DONE


class PageableRead(Copy):
    """Copy from host memory that is not pinned."""

    __slots__ = ()

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Copy."""
        target, offset = resolve(stream, self.target, self.size)
        target[offset : offset + self.size] = ctypes.string_at(self.source, self.size)
        return DONE


class PageableWrite(Copy):
    """Copy to host memory that is not pinned."""

    __slots__ = ()

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Copy."""
        source, start = resolve(stream, self.source, self.size)
        ctypes.memmove(self.target, bytes(memoryview(source)[start : start + self.size]), self.size)
        return DONE


class WaitValue(Operation):
    """Hold the stream until a word of 32 bits compares as asked."""

    __slots__ = ("address", "condition", "value")

    def __init__(self, block: Block, address: int, value: int, condition: int) -> None:
        super().__init__(block)
        self.address = address
        self.value = value & 0xFFFF_FFFF
        self.condition = condition & 3

    def ready(self, scheduler: Scheduler, stream: CUstream) -> bool:
        """Tell whether the comparison holds."""
        try:
            word = _WORD.unpack_from(*resolve(stream, self.address, 4))[0]
        except DeviceFault:
            return True  # it faults when it runs
        if self._holds(word):
            return True
        scheduler.poll(stream)
        return False

    def _holds(self, word: int) -> bool:
        match self.condition:
            case CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_GEQ:  # cyclic, as the driver's
                return (word - self.value) & 0x8000_0000 == 0
            case CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_EQ:
                return bool(word == self.value)
            case CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_AND:
                return word & self.value != 0
        return ~(word | self.value) & 0xFFFF_FFFF != 0

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Go on, or fault where the word is gone."""
        resolve(stream, self.address, 4)
        return DONE


class WriteValue(Operation):
    """Write a word of 32 bits."""

    __slots__ = ("address", "value")

    def __init__(self, block: Block, address: int, value: int) -> None:
        super().__init__(block)
        self.address = address
        self.value = value & 0xFFFF_FFFF

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Write."""
        data, offset = resolve(stream, self.address, 4)
        _WORD.pack_into(data, offset, self.value)
        return DONE


class HostFunction(Operation):
    """Call a function of the host, once these streams have told of their work."""

    __slots__ = ("argument", "function", "told_by")
    counted = False

    def __init__(self, function: CUhostFn, argument: int | None, told_by: tuple[CUstream, ...] = ()) -> None:
        self.pinned = ()
        self.told_by = told_by
        self.function = function
        self.argument = argument

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Hand it over."""
        for one in self.told_by:
            one.notices -= 1
        scheduler.call(stream, self.function, self.argument)
        return AWAY


class Allocate(Operation):
    """Bring a block's bytes into being."""

    __slots__ = ("block",)
    counted = False

    def __init__(self, block: Block) -> None:
        self.pinned = ()
        self.block = block

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Allocate."""
        stream.context.memory.materialize(self.block)
        return DONE


class Free(Record):
    """Give a block back. It is a record too: reuse elsewhere is ordered after it."""

    __slots__ = ("block",)

    def __init__(self, stream: CUstream, block: Block) -> None:
        super().__init__(stream)
        self.block = block

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Free."""
        if self.block.data is None:  # freed on a stream that does not come after the allocation
            raise DeviceFault(CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
        stream.context.memory.dissolve(self.block)
        return super().run(scheduler, stream)


class Fault(Operation):
    """Lose the context, as a kernel with a wild pointer does."""

    __slots__ = ("error",)
    counted = False

    def __init__(self, error: CUresult) -> None:
        self.pinned = ()
        self.error = error

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Fault."""
        raise DeviceFault(self.error)


class GraphLaunch(Operation):
    """One launch of a graph; it waits for the launches of the same executable before it."""

    __slots__ = ("executable", "index", "operations", "stream")

    def __init__(self, executable: CUgraphExec, stream: CUstream) -> None:
        self.pinned = executable.pinned
        self.executable = executable
        self.operations = executable.operations
        self.stream = stream
        self.index = 0
        executable.launches.append(self)

    def slots(self) -> int:
        """Tell how many its nodes take: each takes one."""
        return self.executable.slots

    def ready(self, scheduler: Scheduler, stream: CUstream) -> bool:
        """Tell whether its next operation can run."""
        if self.executable.launches[0] is not self:
            return False  # the launch before it looks at the stream again when it has finished
        return not self.operations or self.operations[self.index].ready(scheduler, stream)

    def run(self, scheduler: Scheduler, stream: CUstream) -> int:
        """Run its next operation."""
        if self.operations and self.operations[self.index].run(scheduler, stream) == AWAY:
            return AWAY
        return self.resumed(scheduler)

    def resumed(self, scheduler: Scheduler) -> int:
        """Go to the next operation."""
        self.index += 1
        if self.index < len(self.operations):
            return MORE
        launches = self.executable.launches
        launches.popleft()
        if launches:
            scheduler.consider(launches[0].stream)
        return DONE
