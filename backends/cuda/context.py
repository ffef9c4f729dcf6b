"""What the driver gives a device: context, streams, pools, side stream. Made in order, taken down in reverse."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from pytest_cuda2hal.hal import BackendUnavailable, HalError, StatusCode

from .driver import OUT_OF_MEMORY, CudaError, Driver, Handle, checked, nested_call
from .events import DeviceEventPool
from .lane import Lane
from .locks import Rank, make_owned_lock
from .parameters import Parameters
from .staging import PinnedBlock, PinnedMemory

#: Bytes that a read or write moves at a time through pinned memory.
PIECE_BYTES = 2**20
#: The oldest driver that has every function used here: stream-ordered pools, and memory operations in graphs.
LEAST_VERSION = 12000

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Context:
    """The driver objects of one open device. Destroyed once, by whoever leaves last: see :meth:`leave`."""

    # What it makes of the driver's objects.
    lane_class: ClassVar[type[Lane]] = Lane
    event_pool_class: ClassVar[type[DeviceEventPool]] = DeviceEventPool

    def __init__(self, driver: Driver, ordinal: int, parameters: Parameters) -> None:
        """Retain the primary context of device ``ordinal`` and make everything in it.

        :raises BackendUnavailable: no such device, or one that lacks what is needed.
        :raises HalError: ``DATA_LOSS`` when a fault has ruined the context in this process.
        """
        self.driver = driver
        self.parameters = parameters
        self._undo: list[Callable[[], object]] = []
        #: Who needs it.
        self._users: set[object] = set()
        self._users_lock = threading.Lock()
        self._callbacks: list[Any] = []
        self._is_closing = False
        self.is_destroyed = False
        self.device, self.device_count = _device(driver, ordinal)
        self.name = _text(checked(driver, "cuDeviceGetName", 256, self.device))
        self.version = int(checked(driver, "cuDriverGetVersion"))
        self._check_device()
        try:
            self.handle = checked(driver, "cuDevicePrimaryCtxRetain", self.device)
            self._undo.append(lambda: driver.cuDevicePrimaryCtxRelease(self.device))
            self.bind()
            self._make(ordinal)
        except BaseException as error:
            self.destroy()
            if isinstance(error, CudaError) and error.is_sticky:
                text = f"a fault has ruined the device for this process; start a new process. {error.message}"
                raise HalError(StatusCode.DATA_LOSS, text) from None
            raise

    def _check_device(self) -> None:
        driver = self.driver
        if self.version < LEAST_VERSION:
            raise BackendUnavailable(
                f"the CUDA driver is of version {_dotted(self.version)}, and {_dotted(LEAST_VERSION)} is needed",
                "Install a newer NVIDIA driver",
            )
        pools = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
        if not checked(driver, "cuDeviceGetAttribute", pools, self.device):
            raise BackendUnavailable(f"{self.name} has no stream-ordered memory pools", "Use a newer GPU or driver")

    def _make(self, ordinal: int) -> None:
        driver, parameters = self.driver, self.parameters
        total = int(checked(driver, "cuDeviceTotalMem", self.device))
        self.memory_total = min(total, parameters.memory or total)
        self.events = self.event_pool_class(driver, parameters.event_pool_capacity, check_locks=parameters.check_locks)
        self._undo.append(self.events.destroy)
        self.staging = PinnedMemory(driver, check_locks=parameters.check_locks)
        self._undo.append(self.staging.destroy)
        self.memory_pool = self._make_memory_pool(ordinal)
        self._side_lock = make_owned_lock(Rank.SIDE_STREAM, check=parameters.check_locks)
        self.side_stream = self._make_stream()
        self.capture_stream = self._make_stream()
        self._piece: PinnedBlock = self.staging.take(PIECE_BYTES)
        #: Device memory that is allocated: address -> bytes.
        self.allocations: dict[int, int] = {}
        self._undo.append(self._free_allocations)
        self.lanes = [
            self.lane_class(self, index, self._make_stream(), self._make_stream(), self._make_watch_event())
            for index in range(parameters.queues * parameters.streams)
        ]
        #: Executable graphs, by identity.
        self.graphs: dict[int, Handle] = {}
        self._undo.append(self._destroy_graphs)
        self._undo.append(self._let_callbacks_return)

    def _make_stream(self) -> Handle:
        stream = checked(self.driver, "cuStreamCreate", int(self.driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self._undo.append(lambda: self.driver.cuStreamDestroy(stream))
        return stream

    def _make_watch_event(self) -> Handle:
        flags = self.driver.CUevent_flags
        flags_set = int(flags.CU_EVENT_DISABLE_TIMING) | int(flags.CU_EVENT_BLOCKING_SYNC)
        event = checked(self.driver, "cuEventCreate", flags_set)
        self._undo.append(lambda: self.driver.cuEventDestroy(event))
        return event

    def _make_memory_pool(self, ordinal: int) -> Handle:
        driver = self.driver
        properties = driver.CUmemPoolProps()
        properties.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        properties.location.id = ordinal
        pool = checked(driver, "cuMemPoolCreate", properties)
        self._undo.append(lambda: driver.cuMemPoolDestroy(pool))
        attribute = driver.CUmemPool_attribute
        kept = driver.cuuint64_t(self.parameters.memory_kept)
        checked(driver, "cuMemPoolSetAttribute", pool, attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, kept)
        # With internal dependencies the driver makes one stream wait for another behind our back, for as long as that
        # one is held.
        checked(driver, "cuMemPoolSetAttribute", pool, attribute.CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, 0)
        return pool

    def bind(self) -> None:
        """Make the context current on the calling thread, where others may have made theirs current since."""
        if not self.is_destroyed:
            checked(self.driver, "cuCtxSetCurrent", self.handle)

    def make_callback(self, lane: Lane) -> Any:
        """Return a host function that notes the number of what is done on ``lane`` and wakes its completer.

        It runs on a thread of the driver and makes no CUDA call, which the driver forbids there.
        """

        def called(number: int | None) -> None:
            lane.called = max(lane.called, number or 0)  # host functions of one stream run one after another
            lane.alarm.set()

        function = _HOST_FUNCTION(called)
        self._callbacks.append(function)
        address = ctypes.cast(function, ctypes.c_void_p).value
        return self.driver.CUhostFn(address)

    # --- the side stream: works while every queue is held

    def refuse_within_a_transfer(self) -> None:
        """Raise if the calling thread is in a read, a write or an allocation already.

        :raises HalError: ``FAILED_PRECONDITION``: a finalizer or a signal handler calls, in the middle of that.
        """
        if self._side_lock._is_owned():
            raise nested_call()

    def allocate(self, size: int) -> int:
        """Return the address of device memory that is ready for use.

        :raises CudaError: there is none.
        """
        self.refuse_within_a_transfer()
        with self._side_lock:
            self._begin_transfer()
            address = int(checked(self.driver, "cuMemAllocFromPoolAsync", size, self.memory_pool, self.side_stream))
            self.allocations[address] = size
            try:
                checked(self.driver, "cuStreamSynchronize", self.side_stream)
            except BaseException:  # nobody will know the address
                with contextlib.suppress(CudaError):
                    self.free_on(None, address)
                raise
        return address

    def allocate_on(self, stream: Handle, size: int) -> int:
        """Return the address of memory that is ready for what comes after it on ``stream``, and what waits for that.

        :raises CudaError: there is none.
        """
        try:
            address = int(checked(self.driver, "cuMemAllocFromPoolAsync", size, self.memory_pool, stream))
        except CudaError as error:
            if error.result != OUT_OF_MEMORY:
                raise
            # Buffers that were dropped are freed on the side stream, which is never held: their memory is there soon.
            checked(self.driver, "cuStreamSynchronize", self.side_stream)
            address = int(checked(self.driver, "cuMemAllocFromPoolAsync", size, self.memory_pool, stream))
        self.allocations[address] = size
        return address

    def free_on(self, stream: Handle | None, address: int) -> None:
        """Free memory behind the work on ``stream``; ``None`` for the side stream, when nobody uses it any more.

        :raises CudaError: the driver refused.
        """
        size = self.allocations.pop(address, 0)  # first: once it is free another thread may be given the same address
        try:
            checked(self.driver, "cuMemFreeAsync", address, self.side_stream if stream is None else stream)
        except CudaError:
            self.allocations[address] = size
            raise

    def read(self, address: int, size: int) -> bytes:
        """Copy device memory to the host, past the queues."""
        parts: list[bytes] = []
        self.refuse_within_a_transfer()
        with self._side_lock:
            self._begin_transfer()
            for at in range(0, size, PIECE_BYTES):
                length = min(PIECE_BYTES, size - at)
                piece = self._piece.address
                self._copy("cuMemcpyDtoHAsync", piece, address + at, length)
                parts.append(ctypes.string_at(piece, length))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Copy host bytes to device memory, past the queues."""
        self.refuse_within_a_transfer()
        with self._side_lock:
            self._begin_transfer()
            for at in range(0, len(data), PIECE_BYTES):
                part = data[at : at + PIECE_BYTES]
                self._piece.write(part)
                self._copy("cuMemcpyHtoDAsync", address + at, self._piece.address, len(part))

    def _copy(self, call: str, target: int, source: int, size: int) -> None:
        """Copy, and wait until that is done."""
        try:
            checked(self.driver, call, target, source, size, self.side_stream)
            checked(self.driver, "cuStreamSynchronize", self.side_stream)
        except BaseException:  # a driver's error, or an exception from a signal handler
            with contextlib.suppress(CudaError):  # the copy may still be on its way to or from the old piece
                self._piece = self.staging.take(PIECE_BYTES)
            raise

    def _begin_transfer(self) -> None:
        if self._is_closing:
            raise HalError(StatusCode.FAILED_PRECONDITION, "the device is closed")
        self.bind()

    def _let_callbacks_return(self) -> None:
        """Be sure that the device is at no work, nor the driver in a host function, which need what goes next.

        There may be work that nobody knew to be in flight: its event could not be recorded, or its issue was cut short.
        After a fault all this returns at once.
        """
        for lane in self.lanes:
            self.driver.cuStreamSynchronize(lane.stream)
            self.driver.cuStreamSynchronize(lane.watch_stream)

    def _destroy_graphs(self) -> None:
        while self.graphs:
            self.driver.cuGraphExecDestroy(self.graphs.popitem()[1])

    def _free_allocations(self) -> None:
        for address in list(self.allocations):
            self.allocations.pop(address, None)
            self.driver.cuMemFreeAsync(address, self.side_stream)
        self.driver.cuStreamSynchronize(self.side_stream)

    # --- the end

    def enter(self, user: object) -> None:
        """Note that somebody needs the context; to say so again changes nothing."""
        with self._users_lock:
            self._users.add(user)

    def leave(self, user: object) -> None:
        """Note that somebody needs it no more; the last one takes everything down."""
        with self._users_lock:
            self._users.discard(user)
            is_last = not self._users
        if is_last:
            self.destroy()

    def destroy(self) -> None:
        """Destroy everything in reverse order, once. After a fault each step returns it again."""
        side_lock = getattr(self, "_side_lock", None)
        if side_lock is not None:
            with side_lock:  # a read or write of another thread ends first, and none begins
                self._is_closing = True
        for _ in range(2 if self._undo else 0):  # where the context is not current nothing can be destroyed
            with contextlib.suppress(CudaError):
                self.bind()
                break
        self.is_destroyed = True
        while self._undo:
            self._undo.pop()()


def _device(driver: Driver, ordinal: int) -> tuple[Handle, int]:
    """Return device ``ordinal``, and how many there are."""
    try:
        checked(driver, "cuInit", 0)
        count = int(checked(driver, "cuDeviceGetCount"))
    except CudaError as error:
        raise BackendUnavailable(f"the CUDA driver found no device: {error.message}", "Check nvidia-smi") from None
    if not count:
        raise BackendUnavailable("the CUDA driver found no device", "Check nvidia-smi and CUDA_VISIBLE_DEVICES")
    if not 0 <= ordinal < count:
        known = "0 only" if count == 1 else f"0 … {count - 1}"
        raise BackendUnavailable(f"there is no CUDA device {ordinal}", f"This machine has {known}")
    return checked(driver, "cuDeviceGet", ordinal), count


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _text(name: bytes | str) -> str:
    return (name.decode() if isinstance(name, bytes) else name).partition("\0")[0]
