"""What is kept for reuse: events, host events, timepoints, pinned memory; and the queue of those who wait."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from pytest_cuda2hal.backends.cuda.driver import CudaError
from pytest_cuda2hal.backends.cuda.events import DeviceEventPool, HostEvent, HostEventPool
from pytest_cuda2hal.backends.cuda.hostwait import HostWait
from pytest_cuda2hal.backends.cuda.staging import LEAST_BYTES, SLAB_BYTES, PinnedMemory
from pytest_cuda2hal.backends.cuda.timepoints import TimepointPool, WaitQueue
from pytest_cuda2hal.hal import HalError, StatusCode, WaitMode

# --- device events


def test_events_up_to_the_capacity_are_kept_and_the_rest_destroyed(raw):
    pool = DeviceEventPool(raw, 2, check_locks=True)
    pool.release([pool.acquire() for _ in range(5)])
    assert (raw.calls["cuEventCreate"], raw.calls["cuEventDestroy"]) == (5, 3)
    assert pool.outstanding == 0
    kept = [pool.acquire() for _ in range(2)]
    assert raw.calls["cuEventCreate"] == 5
    assert pool.outstanding == 2
    pool.release(kept)
    pool.destroy()
    assert raw.live() == {}


def test_no_event_is_given_to_two(raw):
    pool = DeviceEventPool(raw, 8)
    first = [pool.acquire() for _ in range(4)]
    pool.release(first[:2])
    others = [pool.acquire() for _ in range(4)]
    assert len({id(event) for event in [*first[2:], *others]}) == 6
    pool.release([*first[2:], *others])
    pool.destroy()


def test_events_record_no_times_and_only_those_that_a_thread_sleeps_on_are_blocking(rig):
    device = rig(record_calls=True)
    flags = device.driver.CUevent_flags
    opened = device.calls("cuEventCreate")
    plain, blocking = flags.CU_EVENT_DISABLE_TIMING, flags.CU_EVENT_DISABLE_TIMING | flags.CU_EVENT_BLOCKING_SYNC
    assert opened == [(blocking,)] * len(device.engine.lanes)
    done = device.semaphore()
    for value in range(1, 11):
        device.submit(signal=[done @ value])
    done.wait(10, 5)
    made = device.calls("cuEventCreate")[len(opened) :]
    assert made
    assert set(made) == {(plain,)}


def test_an_event_that_cannot_be_made_is_not_counted(raw):
    pool = DeviceEventPool(raw, 1)
    raw.fail("cuEventCreate", error=raw.CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_OUT_OF_MEMORY .* from cuEventCreate"):
        pool.acquire()
    assert pool.outstanding == 0


def test_a_device_keeps_no_more_events_than_its_pool_holds(rig):
    device = rig(event_pool_capacity=3, max_in_flight=64)
    before = device.driver.live()["CUevent"]
    latch, done = device.hold(), device.semaphore()
    for value in range(1, 41):
        device.submit(signal=[done @ value])
    assert device.driver.live()["CUevent"] > before + 20
    latch.open()
    done.wait(40, 5)
    device.settles()
    assert device.driver.live()["CUevent"] == before + 3


# --- host events


def test_a_host_event_wakes_once_however_often_it_was_set():
    event = HostEvent()
    assert not event.wait(0)
    event.set()
    event.set()
    assert event.wait(0)
    assert not event.wait(0)


def test_host_events_are_reused_up_to_the_capacity():
    pool = HostEventPool(2)
    events = [pool.acquire() for _ in range(3)]
    for event in events:
        pool.release(event)
    again = [pool.acquire() for _ in range(3)]
    assert len(set(again) & set(events)) == 2
    assert len(set(again)) == 3


def test_a_host_event_of_a_wait_that_was_told_early_comes_back_unset(rig):
    device = rig()
    done = device.semaphore()
    wait = HostWait(device.engine, [(done, 1)], WaitMode.ALL)
    wait.begin()
    done.signal(1)  # nobody sleeps on it
    wait.end()
    wait.result()
    event = device.engine.host_events.acquire()
    assert event is wait._event
    assert not event.wait(0)


def test_a_host_event_that_is_about_to_be_set_is_not_given_to_anybody(rig, monkeypatch):
    device = rig()
    done = device.semaphore()
    wait = HostWait(device.engine, [(done, 1)], WaitMode.ALL)
    wait.begin()
    event = wait._event
    monkeypatch.setattr(HostEvent, "set", lambda event: None)  # the signaler is on its way to it
    done.signal(1)
    wait.end()
    monkeypatch.undo()
    assert device.engine.host_events.acquire() is not event


def test_a_wait_that_ran_out_is_not_woken_by_a_late_signal(rig):
    device = rig()
    done, other = device.semaphores(2)
    for value in range(1, 51):
        with pytest.raises(HalError):
            done.wait(value, 0.0005)
        done.signal(value)
        with pytest.raises(HalError) as caught:
            other.wait(1, 0.0005)  # has the event of the wait before
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    assert done.waiting() == other.waiting() == 0


# --- timepoints


class OnDevice:
    """As much of an action as a timepoint looks at."""

    on_host = False


def acquire(pool, value=1):
    """Take a timepoint out of a pool."""
    return pool.acquire_device_wait(object(), value, OnDevice())


def test_timepoints_are_reused_unless_they_still_lie_in_a_queue():
    pool = TimepointPool(2)
    waits = [acquire(pool) for _ in range(4)]
    waits[0].queued = 1
    pool.release(waits)
    assert waits[0].dead
    again = [acquire(pool, 2) for _ in range(4)]
    assert len(set(again) & set(waits)) == 2
    assert waits[0] not in again
    assert all((wait.value, wait.dead, wait.queued, wait.producer) == (2, False, 0, None) for wait in again)


def test_a_timepoint_that_is_kept_keeps_nothing_alive():
    pool = TimepointPool(2)
    wait = acquire(pool)
    wait.producer = OnDevice()
    pool.release([wait])
    assert wait.action is None
    assert wait.producer is None
    assert wait.semaphore is None


# --- pinned memory


def test_pinned_memory_is_reused_and_freed_in_the_end(raw):
    pinned = PinnedMemory(raw)
    blocks = [pinned.take(100) for _ in range(20)]
    assert raw.calls["cuMemHostAlloc"] == 1
    assert len({block.address // LEAST_BYTES for block in blocks}) == 20
    assert all(block.size == LEAST_BYTES and block.address % 4 == 0 for block in blocks)
    pinned.release(blocks)
    assert {pinned.take(200).address for _ in range(20)} == {block.address for block in blocks}
    assert raw.calls["cuMemHostAlloc"] == 1
    pinned.destroy()
    assert raw.live() == {}


@pytest.mark.parametrize("size", [1, 255, 256, 257, SLAB_BYTES // 4, SLAB_BYTES // 4 + 1, 3 * SLAB_BYTES])
def test_a_block_is_as_large_as_asked(raw, size):
    pinned = PinnedMemory(raw)
    block = pinned.take(size)
    assert size <= block.size < max(LEAST_BYTES, size * 2) + 1
    block.write(bytes(range(256)) * (block.size // 256))  # inside what the driver gave
    pinned.destroy()


def test_blocks_do_not_overlap(raw):
    pinned = PinnedMemory(raw)
    sizes = random.Random(5).choices([1, 256, 1000, 5000, 70_000, 300_000], k=60)
    blocks = sorted((block.address, block.size) for block in map(pinned.take, sizes))
    assert all(start + size <= following for (start, size), (following, _) in itertools.pairwise(blocks))
    pinned.destroy()


# --- the queue of those who wait


class Counted(int):
    """A value that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other):
        Counted.comparisons += 1
        return int(self) < int(other)

    def __le__(self, other):
        Counted.comparisons += 1
        return int(self) <= int(other)

    def __gt__(self, other):
        Counted.comparisons += 1
        return int(self) > int(other)

    def __eq__(self, other):
        Counted.comparisons += 1
        return int(self) == int(other)

    __hash__ = int.__hash__


class Waiter:
    """Somebody who waits for a value."""

    def __init__(self, value, told=None):
        self.value = value
        self.dead = False
        self.queued = 0
        self.told = [] if told is None else told

    def reached(self):
        self.told.append(self)

    def failed(self, error):
        self.told.append(error)


def values(queue, value):
    """Take what a value reaches; return the values."""
    into: list[Any] = []
    queue.take(value, into)
    return [wait.value for wait in into]


def test_waits_are_taken_lowest_first_and_equals_in_their_order():
    queue = WaitQueue()
    waiters = [Waiter(value) for value in (3, 1, 2, 1, 5, 2)]
    for waiter in waiters:
        queue.push(waiter)
    assert not queue.reaches(0)
    assert queue.reaches(1)
    into: list[Any] = []
    queue.take(2, into)
    assert into == [waiters[1], waiters[3], waiters[2], waiters[5]]
    assert len(queue) == 2
    assert values(queue, None) == [3, 5]
    assert not queue.reaches(None)
    assert all(waiter.queued == 0 for waiter in waiters)


def test_the_dead_are_never_taken():
    queue = WaitQueue()
    waiters = [Waiter(value) for value in range(10)]
    for waiter in waiters:
        queue.push(waiter)
    for waiter in waiters[::2]:
        waiter.dead = True
        queue.given_up(waiter)
    assert len(queue) == 5
    assert values(queue, None) == [1, 3, 5, 7, 9]
    assert len(queue) == 0


def test_the_dead_are_cleared_away_when_they_are_the_majority():
    queue = WaitQueue()
    waiters = [Waiter(value) for value in range(1000)]
    for waiter in waiters:
        queue.push(waiter)
    for waiter in waiters[:900]:
        waiter.dead = True
        queue.given_up(waiter)
    assert len(queue) == 100
    assert len(queue._heap) <= 200
    assert sum(waiter.queued for waiter in waiters) == len(queue._heap)
    assert values(queue, None) == list(range(900, 1000))


def test_the_queue_does_what_a_sorted_list_does():
    random_ = random.Random(11)
    queue, model = WaitQueue(), []
    for _ in range(3000):
        if random_.random() < 0.5:
            model.append(Waiter(random_.randrange(100)))
            queue.push(model[-1])
        elif model and random_.random() < 0.7:
            waiter = model.pop(random_.randrange(len(model)))
            waiter.dead = True
            queue.given_up(waiter)
        elif random_.random() < 0.3:
            value = random_.randrange(100)
            expected = sorted(waiter.value for waiter in model if waiter.value <= value)
            assert values(queue, value) == expected
            model = [waiter for waiter in model if waiter.value > value]
        assert len(queue) == len(model)


def test_a_signal_touches_none_of_those_who_wait_for_more(rig):
    device = rig()
    timeline = device.semaphore()
    later = [Waiter(Counted(value)) for value in range(1000, 101_000)]
    for waiter in later:
        timeline.begin_wait(waiter)
    Counted.comparisons = 0
    timeline.signal(1)
    assert Counted.comparisons <= 2
    now = Waiter(Counted(2))
    timeline.begin_wait(now)
    Counted.comparisons = 0
    timeline.signal(2)
    assert now.told == [now]
    assert Counted.comparisons <= 100  # the logarithm of 100,000, times a few comparisons a level
    assert timeline.waiting() == 100_000
    assert not any(waiter.told for waiter in later)


def test_the_event_of_a_wait_that_came_true_goes_back(rig):
    device = rig()
    done, pool = device.semaphore(), device.engine.host_events
    waiting = device.task(lambda: done.wait(1, 5))
    device.until(lambda: device.engine.waiting_hosts() == 1)
    kept = len(pool._available)
    done.signal(1)
    waiting.result()
    assert len(pool._available) == kept + 1
