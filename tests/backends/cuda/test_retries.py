"""What found too little memory is issued again when some was freed, and what can never be served fails."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.backends.cuda.actions import AllocaAction
from pytest_cuda2hal.backends.cuda.simulator import CUresult
from pytest_cuda2hal.hal import Fill, HalError, StatusCode

OUT_OF_MEMORY = CUresult.CUDA_ERROR_OUT_OF_MEMORY
MIB = 2**20


def allocated(device, size, queue=0):
    """Return a buffer that a queue has allocated."""
    made = device.semaphore()
    buffer = device.device.queue_alloca(size, signal=[made @ 1], queue=queue)
    made.wait(1, 5)
    return buffer


def freed_behind_a_hold(device, size):
    """Allocate and free on queue 0, where the free has to wait; return the latch and what the free signals."""
    buffer, freed = allocated(device, size), device.semaphore()
    latch = device.hold(0)
    device.device.queue_dealloca(buffer, signal=[freed @ 1])
    return latch, freed


@pytest.mark.parametrize("before", ["nothing was freed", "all is freed", "a free could not be recorded"])
def test_with_nothing_to_come_an_allocation_fails(rig, before):
    device = rig()
    if before != "nothing was freed":
        buffer, freed = allocated(device, 4096), device.semaphore()
        if before == "a free could not be recorded":
            device.driver.fail("cuEventRecord", 1, OUT_OF_MEMORY)
        device.device.queue_dealloca(buffer, signal=[freed @ 1])
        device.until(lambda: device.value(freed) != 0)
        device.settles()
    done = device.semaphore()
    device.driver.fail("cuMemAllocFromPoolAsync", 1, OUT_OF_MEMORY, times=2)  # it is asked again at once
    device.device.queue_alloca(4096, signal=[done @ 1])
    assert device.failure(done).code is StatusCode.RESOURCE_EXHAUSTED


def test_another_error_is_no_lack_of_memory(rig):
    """It is not for want of a free that the allocation failed, so none is waited for."""
    device = rig()
    freed_behind_a_hold(device, 4096)
    done = device.semaphore()
    device.driver.fail("cuMemAllocFromPoolAsync", 1, CUresult.CUDA_ERROR_NOT_SUPPORTED)
    device.device.queue_alloca(4096, signal=[done @ 1], queue=1)
    assert device.failure(done).code is StatusCode.UNIMPLEMENTED


def test_memory_that_is_being_freed_is_waited_for(rig):
    device = rig(memory=4 * MIB)
    latch, freed = freed_behind_a_hold(device, 3 * MIB)
    done = device.semaphore()
    device.device.queue_alloca(3 * MIB, signal=[done @ 1], queue=1)
    assert device.never(lambda: device.value(done) != 0)
    latch.open()
    freed.wait(1, 5)
    done.wait(1, 5)
    device.settles()
    assert not device.engine.starved


def test_memory_of_a_free_that_could_not_be_recorded_is_given_at_once(rig):
    """Another free is still to come, so that the allocation waits; it is not to wait for that one."""
    device = rig(memory=4 * MIB)
    second = allocated(device, MIB, queue=1)
    latch, _ = freed_behind_a_hold(device, 2 * MIB)
    done, lost = device.semaphores(2)
    device.device.queue_alloca(MIB + MIB // 2, signal=[done @ 1], queue=1)
    assert device.never(lambda: device.value(done) != 0)
    device.driver.fail("cuEventRecord", 1, OUT_OF_MEMORY)
    device.device.queue_dealloca(second, signal=[lost @ 1], queue=1)
    assert device.failure(lost).code is StatusCode.RESOURCE_EXHAUSTED
    done.wait(1, 5)
    latch.open()


def test_an_allocation_waits_on_though_a_free_could_not_be_recorded(rig):
    device = rig(memory=4 * MIB)
    second = allocated(device, MIB // 4, queue=1)
    latch, _ = freed_behind_a_hold(device, 3 * MIB)
    done, lost = device.semaphores(2)
    device.device.queue_alloca(3 * MIB, signal=[done @ 1], queue=1)
    device.driver.fail("cuEventRecord", 1, OUT_OF_MEMORY)
    device.device.queue_dealloca(second, signal=[lost @ 1], queue=1)
    assert device.failure(lost).code is StatusCode.RESOURCE_EXHAUSTED
    assert device.never(lambda: device.value(done) != 0)
    latch.open()
    done.wait(1, 5)


def test_a_free_that_was_issued_is_not_accepted_again(rig):
    """Its signals failed, since nobody will know when it is done; the memory is gone all the same."""
    device = rig()
    buffer, lost = allocated(device, 4096), device.semaphore()
    device.driver.fail("cuEventRecord", 1, OUT_OF_MEMORY)
    device.device.queue_dealloca(buffer, signal=[lost @ 1])
    assert device.failure(lost).code is StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(HalError, match="has been deallocated"):
        device.device.queue_dealloca(buffer)


def test_an_allocation_that_waits_for_memory_has_nothing_on_the_device(rig):
    """It ends with the device, and nothing is kept for it."""
    device = rig(memory=4 * MIB)
    freed_behind_a_hold(device, 3 * MIB)
    done = device.semaphore()
    device.device.queue_alloca(3 * MIB, signal=[done @ 1], queue=1)
    device.until(lambda: device.engine.starved)
    assert [action.state.name for action in device.engine.starved] == ["PENDING"]
    device.engine.exclusively(device.engine.cancel)
    assert device.failure(done).code is StatusCode.CANCELLED
    assert [action for action in device.engine.abandoned if isinstance(action, AllocaAction)] == []


def test_a_list_with_a_buffer_that_has_no_memory_writes_nothing(rig):
    """Not even what comes before that buffer's command."""
    device = rig()
    target, done, freed = device.buffer(), device.semaphore(), device.semaphore()
    target.write(bytes(64))
    gone = allocated(device, 64)
    device.device.queue_dealloca(gone, signal=[freed @ 1])
    freed.wait(1, 5)
    device.submit(Fill(target, 7), Fill(gone, 9), Fill(target, 8), signal=[done @ 1])
    assert device.failure(done).code is StatusCode.FAILED_PRECONDITION
    device.settles()
    assert target.read() == bytes(64)


def test_a_free_that_is_let_go_of_twice_counts_once(rig):
    """As it is where a retirement is interrupted, and done again."""
    device = rig()
    latch, freed = freed_behind_a_hold(device, 4096)
    device.until(lambda: device.engine.frees_in_flight)
    (free,) = device.engine.frees_in_flight
    latch.open()
    freed.wait(1, 5)
    device.settles()
    device.engine.exclusively(lambda: free.let_go(device.engine))
    assert not device.engine.frees_in_flight
    assert free not in device.engine.actions
