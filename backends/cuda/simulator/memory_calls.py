"""Calls about memory: pools, device memory, pinned memory."""

# ruff: noqa: N802 - the names are the driver's

from __future__ import annotations

from .calls import INVALID_VALUE, SUCCESS, Maybe, Status, call
from .device_calls import DeviceCalls
from .enums import CUmemAllocationType, CUmemLocationType, CUmemPool_attribute, CUresult
from .handles import CUdeviceptr, CUmemoryPool, CUmemPoolProps, CUstream, cuuint64_t
from .memory import Block
from .operations import Allocate, Free, WaitRecord

OUT_OF_MEMORY = CUresult.CUDA_ERROR_OUT_OF_MEMORY

#: Where a pool keeps each attribute, whether it can be set, and whether it is a ``cuuint64_t``.
POOL_ATTRIBUTES = {
    CUmemPool_attribute.CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES: ("follow_events", True, False),
    CUmemPool_attribute.CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC: ("opportunistic", True, False),
    CUmemPool_attribute.CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES: ("internal_dependencies", True, False),
    CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: ("threshold", True, True),
    CUmemPool_attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: ("reserved", False, True),
    CUmemPool_attribute.CU_MEMPOOL_ATTR_USED_MEM_CURRENT: ("used", False, True),
}


class MemoryCalls(DeviceCalls):
    """Pools, device memory, pinned memory."""

    @call(results=1)
    def cuMemPoolCreate(self, props: CUmemPoolProps) -> tuple[CUresult, Maybe]:
        """Create a pool of a device's memory."""
        on_device = props.location.type == CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        pinned = props.allocType == CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        if not on_device or not pinned or not 0 <= props.location.id < self.devices:
            return INVALID_VALUE, None
        context = self.contexts.get(props.location.id)
        if context is not self.thread_context:  # a pool on a device without a context, or on another's, is not modelled
            return INVALID_VALUE, None
        pool = CUmemoryPool(context)
        context.handles.add(pool)
        context.memory.pools.add(pool)
        return SUCCESS, pool

    @call()
    def cuMemPoolDestroy(self, pool: CUmemoryPool) -> Status:
        """Destroy a pool; what was allocated from it stays until it is freed."""
        if (error := self.unusable("cuMemPoolDestroy", pool, CUmemoryPool, destroying=True)) is not None:
            return (error,)
        pool.destroyed = True
        pool.context.handles.discard(pool)
        pool.context.memory.close(pool)
        return (SUCCESS,)

    @call()
    def cuMemPoolSetAttribute(
        self, pool: CUmemoryPool, attribute: CUmemPool_attribute, value: int | cuuint64_t
    ) -> Status:
        """Set one of the pool's attributes."""
        if (error := self.unusable("cuMemPoolSetAttribute", pool, CUmemoryPool)) is not None:
            return (error,)
        name, settable, wide = POOL_ATTRIBUTES[CUmemPool_attribute(attribute.value)]
        if isinstance(value, cuuint64_t) is not wide:  # the bindings do not convert it either
            raise TypeError(f"{attribute.name} takes {'a cuuint64_t' if wide else 'an int'}, not {value!r}")
        if not settable:
            return (INVALID_VALUE,)
        setattr(pool, name, int(value))
        return (SUCCESS,)

    @call(results=1)
    def cuMemPoolGetAttribute(self, pool: CUmemoryPool, attribute: CUmemPool_attribute) -> tuple[CUresult, Maybe]:
        """Return one of the pool's attributes."""
        if (error := self.unusable("cuMemPoolGetAttribute", pool, CUmemoryPool)) is not None:
            return error, None
        name, _, wide = POOL_ATTRIBUTES[CUmemPool_attribute(attribute.value)]
        value = getattr(pool, name)
        return SUCCESS, cuuint64_t(value) if wide else value

    @call()
    def cuMemPoolTrimTo(self, pool: CUmemoryPool, keep: int) -> Status:
        """Give memory back that the pool does not use."""
        if (error := self.unusable("cuMemPoolTrimTo", pool, CUmemoryPool)) is not None:
            return (error,)
        pool.context.memory.trim(pool, int(keep))
        return (SUCCESS,)

    @call(results=1)
    def cuMemAllocFromPoolAsync(self, size: int, pool: CUmemoryPool, stream: CUstream) -> tuple[CUresult, Maybe]:
        """Return an address at once; there is memory behind it for what comes after on the stream."""
        name = "cuMemAllocFromPoolAsync"
        if (error := self.unusable(name, pool, CUmemoryPool)) is not None:
            return error, None
        if (error := self.unusable(name, stream, CUstream)) is not None:
            return error, None
        if size <= 0:
            return INVALID_VALUE, None
        if stream.capture is not None:  # memory that belongs to a graph is not modelled
            self.checker.blame(name, f"{stream!r} is capturing")
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, None
        taken = stream.context.memory.take(size, pool, stream)
        if taken is None:
            return OUT_OF_MEMORY, None
        block, waits = taken
        for free in waits:
            self.checker.blame(
                name, f"{stream!r} now waits for a free on {free.stream!r} (REUSE_ALLOW_INTERNAL_DEPENDENCIES)"
            )
            self.engine.order_after(stream, free)
            self.engine.submit(stream, WaitRecord(free))
        self.engine.submit(stream, Allocate(block))
        return SUCCESS, CUdeviceptr(block.start)

    @call()
    def cuMemFreeAsync(self, address: int, stream: CUstream) -> Status:
        """Free memory after what is enqueued on the stream so far."""
        if (error := self.unusable("cuMemFreeAsync", stream, CUstream)) is not None:
            return (error,)
        if stream.capture is not None:
            self.checker.blame("cuMemFreeAsync", f"{stream!r} is capturing")
            return (CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        block = self._allocated("cuMemFreeAsync", address, pinned=False)
        if block is None:
            return (INVALID_VALUE,)
        free = Free(stream, block)
        stream.context.memory.call_free(block, free)
        self.engine.submit(stream, free)
        return (SUCCESS,)

    @call(results=1, gated=True, unsafe=True)
    def cuMemAlloc(self, size: int) -> tuple[CUresult, Maybe]:
        """Allocate memory that is there at once."""
        if size <= 0:
            return INVALID_VALUE, None
        memory = self.thread_context.memory
        taken = memory.take(size, None, None)
        if taken is None:
            return OUT_OF_MEMORY, None
        memory.materialize(taken[0])
        return SUCCESS, CUdeviceptr(taken[0].start)

    @call(gated=True, unsafe=True)
    def cuMemFree(self, address: int) -> Status:
        """Wait for the device, then free."""
        return self._free("cuMemFree", address, pinned=False)

    @call(results=1, gated=True, unsafe=True)
    def cuMemHostAlloc(self, size: int, flags: int) -> tuple[CUresult, Maybe]:
        """Allocate host memory that the device sees at the same address."""
        if size <= 0 or int(flags) & ~7:
            return INVALID_VALUE, None
        return SUCCESS, self.thread_context.memory.pin(size).start

    @call(gated=True, unsafe=True)
    def cuMemFreeHost(self, address: int) -> Status:
        """Wait for the device, then free."""
        return self._free("cuMemFreeHost", address, pinned=True)

    @call(results=1)
    def cuMemHostGetDevicePointer(self, address: int, flags: int) -> tuple[CUresult, Maybe]:
        """Return the device's pointer to pinned memory."""
        block = self.thread_context.memory.known.find(int(address), 1)
        if flags or block is None or block.buffer is None:
            return INVALID_VALUE, None
        return SUCCESS, CUdeviceptr(int(address))

    @call(results=2)
    def cuMemGetInfo(self) -> tuple[CUresult, Maybe, Maybe]:
        """Return the free bytes and all bytes."""
        memory = self.thread_context.memory
        return SUCCESS, memory.free_bytes, memory.total

    def _allocated(self, name: str, address: int, *, pinned: bool) -> Block | None:
        """Return the block that begins at ``address`` and was not freed yet."""
        block = self.thread_context.memory.known.blocks.get(int(address))
        if block is None or block.freed or (block.buffer is not None) is not pinned:
            self.checker.blame(name, f"nothing was allocated at {int(address):#x}, or it was freed before")
            return None
        return block

    def _free(self, name: str, address: int, *, pinned: bool) -> Status:
        block = self._allocated(name, address, pinned=pinned)
        if block is None:
            return (INVALID_VALUE,)
        if pinned:
            self.checker.host_memory_freed(name, block)
        memory = self.thread_context.memory
        status = self.synchronize_context()
        if status == (SUCCESS,) and not block.freed:
            if pinned:
                memory.unpin(block)
            else:
                block.freed = True
                memory.dissolve(block)
        return status
