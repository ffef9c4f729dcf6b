"""What the driver does: device memory, pools, pinned memory, fills and copies."""

from __future__ import annotations

import ctypes

import pytest

WIDTHS = {"cuMemsetD8Async": 1, "cuMemsetD16Async": 2, "cuMemsetD32Async": 4}


# --- fills and copies


@pytest.mark.parametrize(("name", "width"), WIDTHS.items())
def test_a_fill_counts_in_elements(cuda, name, width):
    stream, memory = cuda.stream(), cuda.memory()
    value = int.from_bytes(b"\x11\x22\x33\x44"[:width], "little")
    getattr(cuda, name)(memory + 8, value, 5, stream)
    cuda.synchronize(stream)
    assert cuda.read(memory, 48) == bytes(8) + b"\x11\x22\x33\x44"[:width] * 5 + bytes(40 - 5 * width)


@pytest.mark.parametrize(
    ("name", "offset"), [("cuMemsetD16Async", 1), ("cuMemsetD32Async", 1), ("cuMemsetD32Async", 2)]
)
def test_a_fill_that_is_not_aligned_is_refused(cuda, name, offset):
    stream, memory = cuda.stream(), cuda.memory()
    assert cuda.error(getattr(cuda.driver, name)(memory + offset, 0, 1, stream)) == "INVALID_VALUE"
    cuda.synchronize(stream)


def test_filling_nothing_is_fine(cuda):
    stream, memory = cuda.stream(), cuda.memory()
    cuda.fill(memory, 1, stream, size=0)
    cuda.cuMemcpyDtoDAsync(memory, memory + 64, 0, stream)
    cuda.synchronize(stream)


def test_an_address_that_nobody_knows_is_refused(cuda):
    stream = cuda.stream()
    assert cuda.error(cuda.driver.cuMemsetD8Async(0x1000, 0, 1, stream)) == "INVALID_VALUE"
    assert cuda.error(cuda.driver.cuMemFree(0x1000)) == "INVALID_VALUE"
    assert cuda.error(cuda.driver.cuStreamWaitValue32(stream, 0x1000, 1, 0)) == "INVALID_VALUE"
    cuda.synchronize(stream)


def test_a_word_that_is_not_aligned_is_refused(cuda):
    stream, hold = cuda.stream(), cuda.hold()
    assert cuda.error(cuda.driver.cuStreamWaitValue32(stream, hold.pointer + 2, 0, 0)) == "INVALID_VALUE"


def test_pinned_memory_is_copied_when_the_stream_comes_to_it(cuda):
    stream, memory, pinned = cuda.stream(), cuda.memory(), cuda.pinned()
    hold = cuda.hold(stream)
    cuda.cuMemcpyHtoDAsync(memory, pinned, 64, stream)
    ctypes.memset(pinned, 8, 64)
    hold.open()
    cuda.synchronize(stream)
    assert cuda.read(memory) == b"\x08" * 64


def test_pageable_memory_is_copied_both_ways(cuda):
    stream, memory = cuda.stream(), cuda.memory()
    source, target = ctypes.create_string_buffer(b"pageable", 64), ctypes.create_string_buffer(64)

    def copy():
        cuda.cuMemcpyHtoDAsync(memory, ctypes.addressof(source), 64, stream)
        cuda.cuMemcpyDtoHAsync(ctypes.addressof(target), memory, 64, stream)
        cuda.cuStreamSynchronize(stream)

    cuda.task(copy).result()
    assert target.raw == source.raw


def test_copying_to_pageable_memory_behind_a_hold_blocks(cuda):
    stream, memory = cuda.stream(), cuda.memory()
    target = ctypes.create_string_buffer(64)
    hold = cuda.hold(stream)
    copying = cuda.task(lambda: cuda.cuMemcpyDtoHAsync(ctypes.addressof(target), memory, 64, stream))
    blocked = copying.stays_blocked()
    hold.open()
    copying.result()
    cuda.synchronize(stream)
    assert blocked


def test_the_device_sees_pinned_memory(cuda):
    stream, pinned = cuda.stream(), cuda.pinned()
    cuda.fill(int(cuda.cuMemHostGetDevicePointer(pinned, 0)) + 4, 1, stream, size=4)
    cuda.synchronize(stream)
    assert ctypes.string_at(pinned, 12) == bytes(4) + b"\x01" * 4 + bytes(4)


@pytest.mark.parametrize(("allocate", "free"), [("cuMemAlloc", "cuMemFree"), ("cuMemHostAlloc", "cuMemFreeHost")])
def test_freeing_waits_for_the_device(cuda, allocate, free):
    stream = cuda.stream()
    address = int(getattr(cuda, allocate)(*((64, 0) if allocate == "cuMemHostAlloc" else (64,))))
    hold = cuda.hold(stream)
    freeing = cuda.task(lambda: getattr(cuda, free)(address))
    blocked = freeing.stays_blocked()
    hold.open()
    freeing.result()
    assert blocked


def test_memory_is_allocated_behind_a_hold(cuda):
    stream, pool = cuda.stream(), cuda.pool()
    hold = cuda.hold(stream)

    def allocate():
        taken = int(cuda.cuMemAllocFromPoolAsync(4096, pool, stream))
        cuda.cuMemFreeAsync(taken, stream)
        return taken

    allocating = cuda.task(allocate)
    blocked = allocating.stays_blocked()
    hold.open()
    allocating.result()
    assert not blocked


def test_nothing_is_no_size(cuda):
    assert cuda.error(cuda.driver.cuMemAlloc(0)) == "INVALID_VALUE"


# --- pools


def test_memory_of_a_pool_is_there_for_what_comes_after(cuda):
    stream, pool, copy = cuda.stream(), cuda.pool(), cuda.memory()
    memory = int(cuda.cuMemAllocFromPoolAsync(4096, pool, stream))
    assert memory % 256 == 0
    cuda.fill(memory, 4, stream)
    cuda.cuMemcpyDtoDAsync(copy, memory, 64, stream)
    cuda.cuMemFreeAsync(memory, stream)
    cuda.synchronize(stream)
    assert cuda.read(copy) == b"\x04" * 64


def test_allocations_do_not_overlap(cuda):
    stream, pool = cuda.stream(), cuda.pool()
    taken = [int(cuda.cuMemAllocFromPoolAsync(1000, pool, stream)) for _ in range(20)]
    for index, memory in enumerate(taken):
        cuda.fill(memory, index, stream, size=1000)
    cuda.synchronize(stream)
    assert [cuda.read(memory, 1000) for memory in taken] == [bytes([index]) * 1000 for index in range(20)]
    for memory in taken:
        cuda.cuMemFreeAsync(memory, stream)
    cuda.synchronize(stream)


def most(cuda):
    """Return so much memory that the device has it once only."""
    free, _ = cuda.cuMemGetInfo()
    return int(free * 0.6) // 2**21 * 2**21


def test_more_than_there_is_cannot_be_had_and_nothing_else_is_lost(cuda):
    stream, pool = cuda.stream(), cuda.pool()
    _, total = cuda.cuMemGetInfo()
    assert cuda.error(cuda.driver.cuMemAllocFromPoolAsync(2 * total, pool, stream)) == "OUT_OF_MEMORY"
    assert cuda.error(cuda.driver.cuMemAlloc(2 * total)) == "OUT_OF_MEMORY"
    cuda.cuMemFreeAsync(int(cuda.cuMemAllocFromPoolAsync(64, pool, stream)), stream)
    cuda.synchronize(stream)


def test_the_same_stream_takes_over_what_it_freed_before_that_has_happened(cuda):
    stream, pool = cuda.stream(), cuda.pool()
    size = most(cuda)
    hold = cuda.hold(stream)
    first = int(cuda.cuMemAllocFromPoolAsync(size, pool, stream))
    cuda.cuMemFreeAsync(first, stream)
    second = int(cuda.cuMemAllocFromPoolAsync(size, pool, stream))
    cuda.cuMemFreeAsync(second, stream)
    hold.open()
    cuda.synchronize(stream)


def test_another_stream_does_not_take_over_what_may_be_in_use(cuda):
    stream, other, pool = cuda.stream(), cuda.stream(), cuda.pool()
    size = most(cuda)
    first = int(cuda.cuMemAllocFromPoolAsync(size, pool, stream))
    cuda.synchronize(stream)
    hold = cuda.hold(stream)
    cuda.cuMemFreeAsync(first, stream)
    assert cuda.error(cuda.driver.cuMemAllocFromPoolAsync(size, pool, other)) == "OUT_OF_MEMORY"
    hold.open()
    cuda.synchronize(stream)


def test_another_stream_takes_over_what_an_event_says_is_free(cuda):
    stream, other, pool = cuda.stream(), cuda.stream(), cuda.pool()
    size = most(cuda)
    first = int(cuda.cuMemAllocFromPoolAsync(size, pool, stream))
    hold = cuda.hold(stream)
    cuda.cuMemFreeAsync(first, stream)
    cuda.cuStreamWaitEvent(other, cuda.recorded(stream), 0)
    second = int(cuda.cuMemAllocFromPoolAsync(size, pool, other))
    cuda.fill(second, 1, other)
    cuda.cuMemFreeAsync(second, other)
    hold.open()
    cuda.synchronize(other)


def test_another_stream_takes_over_what_has_been_freed(cuda):
    stream, other, pool = cuda.stream(), cuda.stream(), cuda.pool()
    size = most(cuda)
    cuda.cuMemFreeAsync(int(cuda.cuMemAllocFromPoolAsync(size, pool, stream)), stream)
    cuda.synchronize(stream)
    cuda.cuMemFreeAsync(int(cuda.cuMemAllocFromPoolAsync(size, pool, other)), other)
    cuda.synchronize(other)


def test_a_pool_may_make_a_stream_wait_for_memory_on_its_own_account(cuda):
    stream, other, pool = cuda.stream(), cuda.stream(), cuda.pool()
    attribute = cuda.driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES
    cuda.cuMemPoolSetAttribute(pool, attribute, 1)
    size = most(cuda)
    first = int(cuda.cuMemAllocFromPoolAsync(size, pool, stream))
    cuda.synchronize(stream)
    hold = cuda.hold(stream)
    cuda.cuMemFreeAsync(first, stream)
    second = int(cuda.cuMemAllocFromPoolAsync(size, pool, other))
    event = cuda.recorded(other)
    assert cuda.stays_pending(event)
    hold.open()
    assert cuda.gets_done(event)
    cuda.cuMemFreeAsync(second, other)
    cuda.synchronize(other)


def test_reuse_is_allowed_by_default(cuda):
    pool, attributes = cuda.pool(plain=True), cuda.driver.CUmemPool_attribute
    for attribute in (
        attributes.CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES,
        attributes.CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC,
        attributes.CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES,
    ):
        assert int(cuda.cuMemPoolGetAttribute(pool, attribute)) == 1
    assert int(cuda.cuMemPoolGetAttribute(pool, attributes.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD)) == 0


def test_a_pool_keeps_what_its_threshold_says_until_it_is_trimmed(cuda):
    stream, pool, attributes = cuda.stream(), cuda.pool(), cuda.driver.CUmemPool_attribute

    def used_and_reserved():
        cuda.synchronize(stream)
        used = int(cuda.cuMemPoolGetAttribute(pool, attributes.CU_MEMPOOL_ATTR_USED_MEM_CURRENT))
        return used, int(cuda.cuMemPoolGetAttribute(pool, attributes.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT))

    size = 2**20
    assert used_and_reserved() == (0, 0)
    threshold = cuda.driver.cuuint64_t(2**40)
    cuda.cuMemPoolSetAttribute(pool, attributes.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, threshold)
    memory = int(cuda.cuMemAllocFromPoolAsync(size, pool, stream))
    used, reserved = used_and_reserved()
    assert used == size <= reserved
    cuda.cuMemFreeAsync(memory, stream)
    used, reserved = used_and_reserved()
    assert used == 0 < size <= reserved
    cuda.cuMemPoolTrimTo(pool, 0)
    assert used_and_reserved() == (0, 0)


def test_a_pool_without_a_threshold_keeps_nothing(cuda):
    stream, pool, attributes = cuda.stream(), cuda.pool(), cuda.driver.CUmemPool_attribute
    cuda.cuMemFreeAsync(int(cuda.cuMemAllocFromPoolAsync(2**20, pool, stream)), stream)
    cuda.synchronize(stream)
    assert int(cuda.cuMemPoolGetAttribute(pool, attributes.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)) == 0


def test_memory_may_be_freed_on_another_stream_that_comes_after(cuda):
    stream, other, pool = cuda.stream(), cuda.stream(), cuda.pool()
    memory = int(cuda.cuMemAllocFromPoolAsync(64, pool, stream))
    hold = cuda.hold(stream)
    cuda.fill(memory, 1, stream)
    cuda.cuStreamWaitEvent(other, cuda.recorded(stream), 0)
    cuda.cuMemFreeAsync(memory, other)
    hold.open()
    cuda.synchronize(other)


def test_a_pool_is_destroyed_before_its_memory_is_freed(cuda):
    stream, pool = cuda.stream(), cuda.pool()
    cuda.keep()
    memory = int(cuda.cuMemAllocFromPoolAsync(64, pool, stream))
    cuda.cuMemPoolDestroy(pool)
    cuda.fill(memory, 1, stream)
    cuda.cuMemFreeAsync(memory, stream)
    cuda.synchronize(stream)


def test_numbers_come_wrapped(cuda):
    stream, pool = cuda.stream(), cuda.pool()
    attributes = cuda.driver.CUmemPool_attribute
    memory = cuda.cuMemAllocFromPoolAsync(64, pool, stream)
    assert isinstance(memory, cuda.driver.CUdeviceptr)
    cuda.cuMemsetD8Async(memory, 1, 64, stream)
    cuda.cuMemFreeAsync(memory, stream)
    cuda.synchronize(stream)
    used = cuda.cuMemPoolGetAttribute(pool, attributes.CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
    assert isinstance(used, cuda.driver.cuuint64_t)
    assert int(used) == 0
    with pytest.raises((TypeError, AttributeError)):
        cuda.driver.cuMemPoolSetAttribute(pool, attributes.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, 2**40)
