"""What only the simulated driver can do with memory: bytes and addresses that tell on their user, and small budgets."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.backends.cuda.simulator.memory import JUNK


def test_new_memory_is_junk_also_where_an_address_is_used_again(simulate):
    cuda = simulate()
    stream, pool = cuda.stream(), cuda.pool()
    first = int(cuda.cuMemAllocFromPoolAsync(64, pool, stream))
    cuda.fill(first, 1, stream)
    cuda.cuMemFreeAsync(first, stream)
    second = int(cuda.cuMemAllocFromPoolAsync(64, pool, stream))
    assert second == first
    cuda.synchronize(stream)
    assert cuda.read(second) == JUNK * 64


def test_an_address_that_was_taken_over_is_given_to_one_only(simulate):
    cuda = simulate(manual=True)
    stream, pool = cuda.stream(), cuda.pool()
    first = int(cuda.cuMemAllocFromPoolAsync(64, pool, stream))
    cuda.cuMemFreeAsync(first, stream)
    second = int(cuda.cuMemAllocFromPoolAsync(64, pool, stream))
    cuda.driver.run_until_idle()
    assert second == first
    assert int(cuda.cuMemAllocFromPoolAsync(64, pool, stream)) != second


def test_what_a_pool_only_keeps_goes_to_another_that_needs_it(simulate):
    cuda = simulate(memory=2**20)
    stream, pools = cuda.stream(), [cuda.pool(), cuda.pool()]
    attributes = cuda.driver.CUmemPool_attribute
    for pool in pools:
        cuda.cuMemPoolSetAttribute(pool, attributes.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, cuda.driver.cuuint64_t(2**20))
        cuda.cuMemFreeAsync(int(cuda.cuMemAllocFromPoolAsync(2**20, pool, stream)), stream)
        cuda.cuStreamSynchronize(stream)
    reserved = [cuda.cuMemPoolGetAttribute(pool, attributes.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) for pool in pools]
    assert [int(size) for size in reserved] == [0, 2**20]


@pytest.mark.parametrize("ordered", [False, True])
def test_a_use_that_is_not_ordered_after_the_allocation_is_a_fault(simulate, ordered):
    cuda = simulate(manual=True)
    stream, other, pool = cuda.stream(), cuda.stream(), cuda.pool()
    memory = int(cuda.cuMemAllocFromPoolAsync(64, pool, stream))
    if ordered:
        cuda.cuStreamWaitEvent(other, cuda.recorded(stream), 0)
    cuda.fill(memory, 1, other)
    cuda.driver.step(other)
    cuda.driver.run_until_idle()
    answer = cuda.error(cuda.driver.cuStreamQuery(other))
    assert answer == ("CUDA_SUCCESS" if ordered else "ILLEGAL_ADDRESS")


def test_a_use_after_the_free_is_a_fault_when_it_runs(simulate):
    cuda = simulate(manual=True)
    stream, pool = cuda.stream(), cuda.pool()
    memory = int(cuda.cuMemAllocFromPoolAsync(64, pool, stream))
    cuda.cuMemFreeAsync(memory, stream)
    cuda.fill(memory, 1, stream)
    assert cuda.driver.run_until_idle() == 3
    assert cuda.error(cuda.driver.cuStreamQuery(stream)) == "ILLEGAL_ADDRESS"


def test_a_use_after_the_free_has_run_is_refused(simulate):
    cuda = simulate(manual=True)
    stream, pool = cuda.stream(), cuda.pool()
    memory = int(cuda.cuMemAllocFromPoolAsync(64, pool, stream))
    cuda.cuMemFreeAsync(memory, stream)
    cuda.driver.run_until_idle()
    assert cuda.error(cuda.driver.cuMemsetD8Async(memory, 0, 1, stream)) == "INVALID_VALUE"


def test_a_range_must_lie_in_one_allocation(simulate):
    cuda = simulate()
    stream, memory = cuda.stream(), int(cuda.cuMemAlloc(100))
    cuda.fill(memory + 36, 1, stream, size=64)
    assert cuda.error(cuda.driver.cuMemsetD8Async(memory + 37, 0, 64, stream)) == "INVALID_VALUE"
    assert cuda.error(cuda.driver.cuMemsetD8Async(memory - 1, 0, 2, stream)) == "INVALID_VALUE"


def test_small_allocations_share_what_a_large_free_will_leave(simulate):
    cuda = simulate(manual=True, memory=2**20)
    stream, other, pool = cuda.stream(), cuda.stream(), cuda.pool()
    large = int(cuda.cuMemAllocFromPoolAsync(2**20, pool, stream))
    cuda.cuMemFreeAsync(large, stream)
    assert cuda.error(cuda.driver.cuMemAllocFromPoolAsync(512, pool, other)) == "OUT_OF_MEMORY"
    small = [cuda.cuMemAllocFromPoolAsync(2**18, pool, stream) for _ in range(4)]
    assert cuda.error(cuda.driver.cuMemAllocFromPoolAsync(1, pool, stream)) == "OUT_OF_MEMORY"
    for memory in small:
        cuda.cuMemFreeAsync(memory, stream)
    cuda.driver.run_until_idle()
    assert cuda.cuMemGetInfo() in ((2**20, 2**20), (0, 2**20))  # as long as nobody synchronizes, the pool may keep it
    cuda.cuStreamSynchronize(stream)
    assert cuda.cuMemGetInfo() == (2**20, 2**20)


def test_the_budget_comes_back_whatever_was_done(simulate):
    cuda = simulate(seed=11, memory=2**20)
    streams, pool = [cuda.stream() for _ in range(3)], cuda.pool()
    for round_ in range(60):
        stream = streams[round_ % 3]
        taken = [cuda.driver.cuMemAllocFromPoolAsync(1000 * (1 + round_ % 7), pool, stream)[1] for _ in range(4)]
        for memory in taken:
            if memory is not None:
                cuda.fill(memory, 1, stream)
                cuda.cuMemFreeAsync(memory, stream)
        cuda.cuStreamWaitEvent(streams[(round_ + 1) % 3], cuda.recorded(stream), 0)
    cuda.cuCtxSynchronize()
    cuda.cuMemFree(int(cuda.cuMemAlloc(2**20)))
    assert cuda.cuMemGetInfo() == (2**20, 2**20)


@pytest.mark.parametrize(
    ("flags", "word", "value", "holds"),
    [
        (0, 5, 5, True),
        (0, 4, 5, False),
        (0, 0, 0xFFFF_FFFF, True),
        (1, 5, 5, True),
        (1, 6, 5, False),
        (2, 6, 2, True),
        (2, 4, 2, False),
        (3, 4, 2, True),
        (3, 0xFFFF_FFFD, 2, False),
    ],
)
def test_how_words_compare(simulate, flags, word, value, holds):
    cuda = simulate(manual=True)
    stream, hold = cuda.stream(), cuda.hold()
    hold.word.value = word
    cuda.cuStreamWaitValue32(stream, hold.pointer, value, flags)
    assert cuda.driver.step() is holds
