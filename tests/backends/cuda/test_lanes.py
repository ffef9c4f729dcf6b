"""Which stream a submission goes to: nothing is delayed by what it does not depend on, and order is what is said."""

from __future__ import annotations

import random

import pytest

from pytest_cuda2hal.hal import Command, Copy, Fill


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_a_consumer_of_running_work_does_not_delay_what_comes_later(rig, completion, streams):
    device = rig(completion=completion, streams=streams)
    produced, consumed, later = device.semaphores(3)
    latch = device.hold(0, [produced @ 1])
    device.submit(wait=[produced @ 1], signal=[consumed @ 1], queue=1)
    device.submit(Fill(device.buffer(), 1), signal=[later @ 1], queue=1)
    device.until(lambda: device.value(later) == 1)
    assert device.value(consumed) == 0
    latch.open()
    consumed.wait(1, 5)


@pytest.mark.parametrize("streams", [1, 3])
def test_more_consumers_than_streams_delay_nobody(rig, completion, streams):
    device = rig(completion=completion, streams=streams, queues=5)
    produced, later = device.semaphores(3), device.semaphore()
    consumed = device.semaphores(12)
    latches = [device.hold(queue, [produced[queue] @ 1]) for queue in range(3)]
    for number, done in enumerate(consumed):
        device.submit(wait=[produced[number % 3] @ 1], signal=[done @ 1], queue=4)
        device.submit(signal=[later @ (number + 1)], queue=4)
    device.until(lambda: device.value(later) == 12)
    latches[1].open()
    for done in consumed[1::3]:
        done.wait(1, 5)
    assert not any(device.value(done) for done in consumed[::3])
    for latch in latches:
        latch.open()
    for done in consumed:
        done.wait(1, 5)


def test_a_consumer_on_its_producers_queue_is_bound_without_a_wait(rig):
    device = rig(record_calls=True)
    timeline = device.semaphore()
    latch = device.hold(0, [timeline @ 1])
    for value in range(2, 6):
        device.submit(wait=[timeline @ (value - 1)], signal=[timeline @ value])
    device.until(lambda: len(device.lane_of(0).in_flight) == 5)
    assert device.stream_waits() == []
    latch.open()
    timeline.wait(5, 5)


def test_a_consumer_is_on_the_device_before_its_producer_is_done(rig):
    device = rig(record_calls=True)
    produced, consumed = device.semaphores(2)
    latch = device.hold(0, [produced @ 1])
    device.submit(wait=[produced @ 1], signal=[consumed @ 1], queue=1)
    assert len(device.stream_waits()) == 1
    assert [len(device.lane_of(1, place).in_flight) for place in range(3)] == [0, 1, 0]
    latch.open()
    consumed.wait(1, 5)


def test_what_the_host_overtakes_binds_nobody_who_waits_for_the_host_as_well(rig, completion):
    device = rig(completion=completion)
    overtaken, gate, done = device.semaphores(3)
    latch = device.hold(1, [overtaken @ 1])
    device.submit(wait=[overtaken @ 1, gate @ 1], signal=[done @ 1])
    overtaken.signal(1)
    gate.signal(1)
    done.wait(1, 5)
    latch.open()
    device.settles()


def test_the_newest_event_of_a_lane_is_enough(rig):
    device = rig(record_calls=True)
    timelines, done = device.semaphores(5), device.semaphore()
    latch = device.hold()
    for timeline in timelines:
        device.submit(signal=[timeline @ 1])
    device.submit(wait=[timeline @ 1 for timeline in timelines], signal=[done @ 1], queue=1)
    ((_, event, _),) = device.stream_waits()
    assert event is device.lane_of(0).in_flight[-1].event
    latch.open()
    done.wait(1, 5)


def test_whoever_sees_a_consumers_signal_sees_its_producers(rig, completion):
    device = rig(completion=completion, manual=True, queues=3)
    chain = device.semaphores(6)
    latch = device.hold(0, [chain[0] @ 1])
    for number in range(1, 6):
        device.submit(wait=[chain[number - 1] @ 1], signal=[chain[number] @ 1], queue=number % 3)
    lane = next(lane for lane in device.engine.lanes if any((chain[5], 1) in e.signals for e in lane.in_flight))
    latch.open()

    def look():
        device.until(lambda: device.driver.run_until_idle() == 0 and not lane.stream.queue)
        device.engine.retire(lane, len(lane.in_flight))  # the last one's lane is looked at first
        assert [semaphore.query() for semaphore in chain] == [1] * 6

    device.engine.exclusively(look)


def test_whoever_sees_a_consumers_signal_sees_its_producers_while_others_retire(rig, completion):
    device = rig(completion=completion, seed=23, streams=3)
    first, second = device.semaphores(2)

    def watch():
        while device.value(second) != 150:
            after = device.value(second)
            assert device.value(first) >= after

    watching = device.task(watch)
    for value in range(1, 151):
        device.submit(signal=[first @ value], queue=0)
        device.submit(wait=[first @ value], signal=[second @ value], queue=1)
    watching.result(10)


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("capacity", [0, 1, 32])
@pytest.mark.parametrize("seed", range(4))
def test_a_random_program_runs_in_the_order_of_its_semaphores(rig, completion, seed, capacity, streams):
    """Each action copies the marks of those before it, then makes its own; a mark that is missing came too late."""
    choose = random.Random(seed)
    device = rig(completion=completion, seed=seed, queues=3, streams=streams, event_pool_capacity=capacity)
    count = 40
    marks, seen = device.buffer(count), device.buffer(count * count)
    marks.write(bytes(count))
    done = device.semaphores(count)
    before = [sorted(choose.sample(range(number), min(number, choose.randrange(4)))) for number in range(count)]
    order = list(range(count))
    for _ in range(count):  # consumers may come before their producers
        place = choose.randrange(count - 1)
        order[place : place + 2] = order[place : place + 2][::-1]
    for number in order:
        commands: list[Command] = [Copy(marks, seen, other, number * count + other, 1) for other in before[number]]
        commands = [*commands, Fill(marks, number + 1, number, 1)]
        work = device.device.create_command_buffer(commands) if choose.random() < 0.3 else commands
        waits = [done[other] @ 1 for other in before[number]]
        device.device.queue_execute(work, wait=waits, signal=[done[number] @ 1], queue=choose.randrange(3))
    device.device.wait_semaphores([semaphore @ 1 for semaphore in done], timeout=10)
    data = seen.read()
    for number in range(count):
        for other in before[number]:
            assert data[number * count + other] == other + 1, f"{number} ran before {other}"
    device.settles()
