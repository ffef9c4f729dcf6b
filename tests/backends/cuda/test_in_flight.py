"""A stream takes about 1,000 launches that cannot start, so no more than a limit are ever on one."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.backends.cuda.simulator import CUresult
from pytest_cuda2hal.hal import Fill, Hold, Update

LIMIT = 8


class Most:
    """The most launches that were on a stream at any driver call, as the device counts them and the driver."""

    def __init__(self, device):
        self.weight = self.launches = 0
        self._device = device
        device.watched.watch = self

    def __call__(self, name, arguments):
        for lane in self._device.engine.lanes:
            self.weight = max(self.weight, lane.weight)
            self.launches = max(self.launches, lane.stream.launches)


def test_launches_beyond_the_limit_wait_on_the_host(rig, completion):
    device = rig(completion=completion, max_in_flight=LIMIT, watched=True)
    most, done, target = Most(device), device.semaphore(), device.buffer()
    latch = device.hold()
    for value in range(1, 101):
        device.submit(Fill(target, value), signal=[done @ value])
    assert len(device.lane_of(0).in_flight) == LIMIT
    assert device.device.statistics().pending >= 100 - LIMIT
    latch.open()
    done.wait(100, 10)
    assert target.read(0, 1) == bytes([100])
    assert LIMIT - 1 <= most.weight <= LIMIT
    assert most.launches <= LIMIT


def test_the_limit_is_each_streams_own(rig, completion):
    device = rig(completion=completion, max_in_flight=LIMIT)
    device.hold()
    done = device.semaphore()
    for value in range(1, 3 * LIMIT):
        device.submit(signal=[], queue=0)
        device.submit(signal=[done @ value], queue=1)
    device.until(lambda: device.value(done) == 3 * LIMIT - 1)


def test_what_makes_no_launch_counts_too(rig):
    device = rig(max_in_flight=LIMIT)
    latch, done = device.hold(), device.semaphore()
    for value in range(1, 101):
        device.submit(signal=[done @ value])
    assert len(device.lane_of(0).in_flight) <= LIMIT + 1
    latch.open()
    done.wait(100, 5)


def test_graphs_count_with_all_their_nodes(rig, completion):
    device = rig(completion=completion, max_in_flight=LIMIT, watched=True)
    most, done, target = Most(device), device.semaphore(), device.buffer()
    three = device.device.create_command_buffer([Fill(target, value) for value in (1, 2, 3)])
    latch = device.hold()
    for value in range(1, 11):
        device.submit(three, signal=[done @ value])
    assert len(device.lane_of(0).in_flight) == 1 + (LIMIT - 1) // 3
    latch.open()
    done.wait(10, 10)
    assert most.weight <= LIMIT


def test_a_command_buffer_of_more_than_the_limit_is_parted(rig, completion):
    device = rig(completion=completion, max_in_flight=LIMIT, watched=True)
    most, done, target = Most(device), device.semaphore(), device.buffer()
    many = device.device.create_command_buffer([Update(target, bytes([value] * 64)) for value in range(50)])
    latch = device.hold()
    device.submit(many, signal=[done @ 1])
    device.submit(many, signal=[done @ 2])
    latch.open()
    done.wait(2, 10)
    assert target.read() == bytes([49] * 64)
    assert most.weight <= LIMIT
    assert most.launches <= LIMIT
    device.settles()


def test_a_list_of_3000_commands_is_issued_in_slices(rig, completion):
    device = rig(completion=completion, watched=True)
    most, done, target = Most(device), device.semaphore(), device.buffer(3000)
    latch = device.latch()
    commands = [Hold(latch), *(Fill(target, at % 251, at, 1) for at in range(3000))]
    device.task(lambda: device.submit(*commands, signal=[done @ 1])).result()
    after = device.semaphore()
    device.submit(Fill(target, 255, 0, 1), signal=[after @ 1])
    assert device.driver.calls["cuMemsetD8Async"] <= 256
    latch.open()
    done.wait(1, 20)
    after.wait(1, 5)
    assert target.read() == bytes([255, *(at % 251 for at in range(1, 3000))])
    assert most.launches <= 256
    assert device.driver.calls["cuEventRecord"] >= 3000 // 256
    device.settles()


@pytest.mark.parametrize("how", ["fails", "closes"])
def test_a_list_that_ends_halfway_issues_no_more(rig, completion, how):
    device = rig(completion=completion, max_in_flight=LIMIT)
    done, target = device.semaphore(), device.buffer()
    latch = device.latch()
    if how == "fails":
        device.driver.fail("cuMemsetD8Async", 3 * LIMIT)
    device.submit(Hold(latch), *(Fill(target, value) for value in range(100)), signal=[done @ 1])
    if how == "closes":
        device.task(device.device.close).result()
    else:
        latch.open()
    device.failure(done)
    assert device.driver.calls["cuMemsetD8Async"] <= 3 * LIMIT
    if how == "fails":
        device.settles()


def test_5000_submissions_behind_a_latch_jam_nobody(rig, completion):
    device = rig(completion=completion, check_locks=False)
    done, other, target = device.semaphore(), device.semaphore(), device.buffer()
    latch = device.hold()

    def submit_all():
        for value in range(1, 5001):
            device.submit(Fill(target, value % 251), signal=[done @ value])

    device.task(submit_all).result(20)
    assert device.driver.engine.jammed is None
    device.submit(Fill(device.buffer(), 1), signal=[other @ 1], queue=1)
    other.wait(1, 5)
    latch.open()
    done.wait(5000, 20)
    assert target.read(0, 1) == bytes([5000 % 251])
    device.settles()


def test_a_heavy_list_waits_for_room_whatever_comes_behind_it(rig, completion):
    device = rig(completion=completion, max_in_flight=LIMIT, watched=True)
    most, done, target = Most(device), device.semaphore(), device.buffer()
    latch = device.hold()
    device.submit(*(Fill(target, value) for value in range(LIMIT)), signal=[done @ 1])
    device.submit(signal=[done @ 2])
    device.engine.exclusively(lambda: device.engine.poll(device.lane_of(0)))
    latch.open()
    done.wait(2, 5)
    assert most.weight <= LIMIT
    device.settles()


def test_what_an_empty_stream_takes_does_not_depend_on_what_was_on_it(rig):
    """After an interruption the account of what is on a stream may be off."""
    device = rig(max_in_flight=LIMIT)
    lane, done = device.lane_of(0), device.semaphore()
    lane.weight = -1000
    device.submit(signal=[done @ 1])
    done.wait(1, 5)
    device.hold()
    for _ in range(2 * LIMIT):
        device.submit()
    assert len(lane.in_flight) <= LIMIT + 1


def test_a_list_that_fails_halfway_gives_back_its_pinned_memory(rig):
    """What its first part has read is let go when that is done, though the rest never comes."""
    device = rig(completion="host-function", max_in_flight=LIMIT)
    target, latches = device.buffer(), [device.latch(), device.latch()]
    updates = [Update(target, bytes([value] * 16)) for value in range(3 * LIMIT)]

    def kept():
        return sum(len(blocks) for blocks in device.context.staging._free.values())

    done, failed = device.semaphores(2)
    device.submit(Hold(latches[0]), *updates, signal=[done @ 1])
    latches[0].open()
    done.wait(1, 10)
    device.settles()
    before = kept()
    assert before
    device.driver.fail("cuLaunchHostFunc", 1, CUresult.CUDA_ERROR_NOT_SUPPORTED)
    device.submit(Hold(latches[1]), *updates, signal=[failed @ 1])
    device.failure(failed)
    assert device.lane_of(0).in_flight
    latches[1].open()
    device.settles()
    assert kept() == before
