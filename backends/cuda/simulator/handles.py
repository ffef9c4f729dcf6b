"""Handles and small structures, named as ``cuda.bindings.driver`` names them.

A handle is the simulated object itself and compares by identity. Its fields belong to the simulator and are touched
under the driver's lock only.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .enums import CUmemAllocationHandleType, CUmemAllocationType, CUmemLocationType, CUresult, CUstreamCaptureMode

if TYPE_CHECKING:
    from .memory import Block, DeviceMemory
    from .operations import GraphLaunch, Operation, Record

_addresses = itertools.count(0x5000_0000, 0x40)

#: A vector clock: for each stream's serial, how many of its operations come before.
Clock = dict[int, int]
#: What a host function is, to ctypes.
HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Handle:
    """What all handles share; ``int(handle)`` is its made-up address."""

    __slots__ = ("_address", "context", "destroyed")

    context: CUcontext

    def __init__(self, context: CUcontext | None) -> None:
        self._address = next(_addresses)
        if context is not None:
            self.context = context
        self.destroyed = False

    def __int__(self) -> int:
        return self._address

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address:#x}{' destroyed' if self.destroyed else ''}>"


class CUdevice:
    """A device, by its index."""

    __slots__ = ("index",)

    def __init__(self, index: int = 0) -> None:
        self.index = index

    def __int__(self) -> int:
        return self.index

    def __index__(self) -> int:
        return self.index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CUdevice) and other.index == self.index

    def __hash__(self) -> int:
        return hash(self.index)

    def __repr__(self) -> str:
        return f"<CUdevice {self.index}>"


class CUcontext(Handle):
    """A device's primary context, from its first retain to its last release; a retain after that makes another."""

    __slots__ = ("device", "error", "handles", "memory", "references", "sleepers", "streams")

    def __init__(self, device: int, memory: DeviceMemory | None) -> None:
        super().__init__(None)
        self.device = device
        self.references = 0
        if memory is None:  # "no context", which has the address 0
            self._address = 0
        else:
            self.memory = memory
        #: What every call returns: a fault, for ever, or that the context is destroyed.
        self.error: CUresult | None = None
        #: Threads that are blocked in a call; the lock is theirs alone and is released to wake them.
        self.sleepers: set[threading.Lock] = set()
        #: What was created and not destroyed yet.
        self.handles: set[Handle] = set()
        #: Streams that exist, or have work left.
        self.streams: set[CUstream] = set()


class CUstream(Handle):
    """A stream: operations that run in order."""

    __slots__ = (
        "capture",
        "clock",
        "completed",
        "enqueued",
        "launches",
        "notices",
        "queue",
        "serial",
        "sleepers",
        "state",
        "unnoticed",
    )

    def __init__(self, context: CUcontext, serial: int) -> None:
        super().__init__(context)
        self.serial = serial
        self.queue: deque[Operation] = deque()
        self.state = IDLE
        self.enqueued = 0
        self.completed = 0
        #: Enqueued and not completed, of those that take one of the stream's launch slots.
        self.launches = 0
        #: Interrupts that it is still to raise: for records of blocking events, and for host functions that need it.
        self.notices = 0
        #: Streams that the next host function on this one has to be told of, since there is work that the last was not.
        self.unnoticed: set[CUstream] = set()
        #: Which operations of other streams come before whatever is enqueued next. Replaced, never changed in place.
        self.clock: Clock = {}
        #: Threads that wait until ``completed`` reaches a number.
        self.sleepers: list[tuple[int, threading.Lock]] = []
        self.capture: Capture | None = None


#: A stream's states: nothing queued; its head cannot run; it is in the list of ready streams; its head is running.
IDLE, BLOCKED, READY, RUNNING = range(4)


class Capture:
    """What a stream has captured so far."""

    __slots__ = ("invalidated", "mode", "operations", "thread")

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.thread = threading.get_ident()
        self.operations: list[Operation] = []
        self.invalidated = False

    @property
    def is_of_this_thread(self) -> bool:
        """Whether the calling thread began it, and not in the mode that forbids nothing."""
        return self.mode != CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED and self.thread == threading.get_ident()


class CUevent(Handle):
    """An event: its newest record, if there is any."""

    __slots__ = ("blocking", "captured", "record", "synchronizing")

    def __init__(self, context: CUcontext, *, blocking: bool = False) -> None:
        super().__init__(context)
        self.blocking = blocking
        self.record: Record | None = None
        #: The capture in which it was recorded last, if it was recorded in one.
        self.captured: Capture | None = None
        #: How many threads are in ``cuEventSynchronize`` on it.
        self.synchronizing = 0


class CUgraph(Handle):
    """A graph: captured operations, in order."""

    __slots__ = ("operations",)

    def __init__(self, context: CUcontext, operations: tuple[Operation, ...]) -> None:
        super().__init__(context)
        self.operations = operations


class CUgraphExec(Handle):
    """An instantiated graph; its launches run one after the other, whatever their streams."""

    __slots__ = ("launches", "operations", "pinned", "slots")

    def __init__(self, context: CUcontext, operations: tuple[Operation, ...]) -> None:
        super().__init__(context)
        self.operations = operations
        self.launches: deque[GraphLaunch] = deque()
        #: How many of the stream's slots a launch takes.
        self.slots = sum(one.slots() for one in operations)
        self.pinned: tuple[Block, ...] = tuple({block for one in operations for block in one.pinned})


class CUmemoryPool(Handle):
    """A pool of device memory. ``used`` and ``reserved`` are bytes."""

    __slots__ = ("follow_events", "internal_dependencies", "opportunistic", "reserved", "threshold", "used")

    def __init__(self, context: CUcontext) -> None:
        super().__init__(context)
        self.used = 0
        self.reserved = 0
        self.threshold = 0
        self.follow_events = 1
        self.opportunistic = 1
        self.internal_dependencies = 1


class CUmemLocation:
    """Where memory is."""

    def __init__(self) -> None:
        self.type = CUmemLocationType.CU_MEM_LOCATION_TYPE_INVALID
        self.id = 0


class CUmemPoolProps:
    """What ``cuMemPoolCreate`` is given."""

    def __init__(self) -> None:
        self.allocType = CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_INVALID
        self.handleTypes = CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_NONE
        self.location = CUmemLocation()
        self.maxSize = 0


class CUhostFn:
    """A C function, by its address; calling it calls the function."""

    __slots__ = ("address", "call")

    def __init__(self, address: int = 0) -> None:
        self.address = int(address)
        self.call: Callable[[Any], Any] = HOST_FUNCTION(self.address)

    def __int__(self) -> int:
        return self.address


class Number:
    """A number as the bindings wrap it: no ``int``, though ``int()`` takes it, so that nobody gets used to more."""

    __slots__ = ("_value",)

    def __init__(self, value: int = 0) -> None:
        self._value = int(value)

    def __int__(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._value}>"


class CUdeviceptr(Number):
    """An address on the device."""


class cuuint64_t(Number):  # noqa: N801 - the driver's name
    """An unsigned number of 64 bits."""
