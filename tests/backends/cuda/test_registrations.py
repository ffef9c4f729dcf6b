"""Who waits for what: registrations that an interruption, a failure or a second producer comes between."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref

import pytest

from pytest_cuda2hal.backends.cuda.semaphore import EventSemaphore
from pytest_cuda2hal.backends.cuda.timepoints import HostWaitPoint
from pytest_cuda2hal.hal import HalError, StatusCode


class InterruptionError(Exception):
    """What a signal handler raises."""


def be_interrupted():
    raise InterruptionError


def before_call(monkeypatch, owner, name, number, do):
    """Do something just before this thread makes the ``number``-th call of a function from now on."""
    made, thread, calls = getattr(owner, name), threading.current_thread(), itertools.count(1)

    def call(*arguments):
        if threading.current_thread() is thread and next(calls) == number:
            do()
        return made(*arguments)

    monkeypatch.setattr(owner, name, call)


def retire(device, lane):
    """Retire what is done on a lane, once something is. The role is held."""
    device.until(lane.finished)
    device.engine.poll(lane)


def is_quiet(device):
    """Whether every message has been dealt with."""
    return not device.engine.inbox and not device.engine.ready


# --- an interruption between two registrations


@pytest.mark.parametrize("twice", [False, True], ids=["once", "and-as-it-is-taken-back"])
def test_work_that_waits_for_two_values_is_not_started_by_one_after_an_interruption(rig, monkeypatch, twice):
    """A completer has the role next, and issues the producer of the first value, which had no room before."""
    device = rig(max_in_flight=1)
    first, second, done = device.semaphores(3)
    latch, lane = device.hold(0), device.lane_of(0)
    device.submit(signal=[first @ 1])
    assert lane.backlog

    def work():
        device.submit(wait=[first @ 1, second @ 1], signal=[done @ 1], queue=1)
        for name, number in (("register", 2), ("unregister", 1))[: 1 + twice]:
            with monkeypatch.context() as patch:
                before_call(patch, EventSemaphore, name, number, be_interrupted)
                with pytest.raises(InterruptionError):
                    device.engine._drain(1)
        latch.open()
        retire(device, lane)
        assert not lane.backlog

    device.engine.exclusively(work)
    first.wait(1, 5)
    device.until(lambda: is_quiet(device) and device.device.statistics().in_flight == 0)
    assert device.never(lambda: device.value(done))
    second.signal(1)
    done.wait(1, 5)
    device.settles()


def test_work_that_no_stream_is_left_for_waits_for_both_its_producers_after_an_interruption(rig, monkeypatch):
    """It had a stream, but found too little memory; when some was freed another had taken the stream."""
    device = rig(memory=4 * 2**20, queues=3, streams=2)
    made, freed, first, second, other, done = device.semaphores(6)
    buffer = device.device.queue_alloca(3 * 2**20, signal=[made @ 1])
    made.wait(1, 5)
    freeing, producing, held = device.hold(0), device.hold(1, [first @ 1]), device.hold(2, [second @ 1])
    device.device.queue_dealloca(buffer, signal=[freed @ 1])
    again = device.device.queue_alloca(3 * 2**20, wait=[first @ 1, second @ 1], signal=[done @ 1], queue=1)
    assert len(device.engine.starved) == 1
    device.submit(wait=[second @ 1], signal=[other @ 1], queue=1)
    assert len(device.lane_of(1, 1).in_flight) == 1

    def work():
        freeing.open()
        device.until(lambda: device.lane_of(0).finished() == 2)
        device.engine.poll(device.lane_of(0))
        before_call(monkeypatch, EventSemaphore, "register", 2, be_interrupted)
        with pytest.raises(InterruptionError):
            device.engine._drain(1)

    device.engine.exclusively(work)
    producing.open()
    first.wait(1, 5)
    device.until(lambda: is_quiet(device))
    assert device.device.statistics().pending == 1
    assert device.never(lambda: device.value(done))
    held.open()
    done.wait(1, 5)
    device.settles()
    del again


def test_what_an_interrupted_registration_left_holds_up_no_later_one(rig, monkeypatch):
    """The first value is there when the work is looked at again, and the second has a producer on another stream."""
    device = rig(streams=1, max_in_flight=1)
    first, second, done = device.semaphores(3)
    latch, lane = device.hold(0), device.lane_of(0)
    device.submit(signal=[second @ 1])
    assert lane.backlog

    def work():
        device.submit(wait=[first @ 1, second @ 1], signal=[done @ 1], queue=1)
        before_call(monkeypatch, EventSemaphore, "register", 1, be_interrupted)
        with pytest.raises(InterruptionError):
            device.engine._drain(1)
        first.signal(1)
        latch.open()
        retire(device, lane)
        device.engine._drain(1)
        assert second.waiting() == 1

    device.engine.exclusively(work)
    done.wait(1, 5)
    device.settles()


# --- what is registered, and for how long


def test_a_failure_between_two_registrations_leaves_none_of_them(rig, monkeypatch):
    """The work waits for two producers on other queues, and no stream is left for it."""
    device = rig(queues=3, streams=1)
    first, failing, done = device.semaphores(3)
    latches = device.hold(0, [first @ 1]), device.hold(2, [failing @ 1])

    def fail():
        device.task(lambda: failing.fail(HalError(StatusCode.ABORTED, "given up"))).result()

    before_call(monkeypatch, EventSemaphore, "register", 2, fail)
    device.submit(wait=[first @ 1, failing @ 1], signal=[done @ 1], queue=1)
    assert device.failure(done).message == "given up"
    assert first.waiting() == 0
    for latch in latches:
        latch.open()
    device.settles()


def test_what_was_told_to_work_that_has_failed_starts_no_other_work(rig):
    """The telling still lies in the inbox when its wait serves other work, whose value is not reached."""
    device = rig()
    failing, reached, gate, failed, done = device.semaphores(5)
    device.submit(wait=[failing @ 1, reached @ 1], signal=[failed @ 1])
    with device.role_held():
        failing.fail(HalError(StatusCode.ABORTED, "given up"))
        device.submit(wait=[gate @ 1], signal=[done @ 1])
        reached.signal(1)
    assert device.failure(failed).message == "given up"
    device.until(lambda: is_quiet(device) and device.device.statistics().in_flight == 0)
    assert device.never(lambda: device.value(done))
    gate.signal(1)
    done.wait(1, 5)
    device.settles()


def test_a_host_whose_teller_was_interrupted_before_it_told_wakes(rig, monkeypatch):
    device = rig()
    semaphore = device.semaphore()
    waiting = device.task(lambda: semaphore.wait(1, 60))
    device.until(lambda: semaphore.waiting() == 1)
    before_call(monkeypatch, HostWaitPoint, "reached", 1, be_interrupted)
    with pytest.raises(InterruptionError):
        semaphore.signal(1)
    waiting.result()
    device.settles()


def test_hosts_that_an_interrupted_retirement_was_to_tell_wake(rig, monkeypatch):
    """Whoever retires the work next finds the value there, and nobody who waits for it."""
    device = rig()
    done, lane = device.semaphore(), device.lane_of(0)
    latch = device.hold(0, [done @ 1])
    waiting = [device.task(lambda: done.wait(1, 60)) for _ in range(2)]
    device.until(lambda: done.waiting() == 2)

    def work():
        latch.open()
        before_call(monkeypatch, HostWaitPoint, "reached", 1, be_interrupted)
        with pytest.raises(InterruptionError):
            retire(device, lane)

    device.engine.exclusively(work)
    for each in waiting:
        each.result()
    device.settles()


def test_a_semaphore_whose_failing_was_interrupted_keeps_nobody_who_was_to_signal_it(rig, monkeypatch):
    """The work fails, too, so that it does not take back what it was to signal."""
    device = rig()
    made, failed, other = device.semaphores(3)
    latch = device.hold(0, [made @ 1])
    device.submit(wait=[made @ 1], signal=[failed @ 1, other @ 1], queue=1)
    before_call(monkeypatch, EventSemaphore, "_take", 1, be_interrupted)
    with pytest.raises(InterruptionError):
        failed.fail(HalError(StatusCode.ABORTED, "given up"))
    device.until(lambda: is_quiet(device))
    made.fail(HalError(StatusCode.ABORTED, "given up, too"))
    latch.open()
    assert device.failure(other).message == "given up, too"
    kept = weakref.ref(other)
    del other

    def is_gone():
        gc.collect()  # an error and the frames that raised it hold each other
        return kept() is None

    device.until(is_gone)
    assert device.failure(failed).message == "given up"
    device.settles()


def test_a_bound_wait_is_not_bound_to_a_second_producer_of_its_value(rig):
    """On the device it would wait for that, which is held, though the first has made the value long since."""
    device = rig(queues=4, streams=2)
    value, held, between, done = device.semaphores(4)
    first, second = device.hold(1, [value @ 1]), device.hold(3, [held @ 1])
    device.submit(wait=[held @ 1], signal=[between @ 1])
    device.submit(wait=[value @ 1], signal=[done @ 1])
    assert value.waiting() == 1  # no stream is left for it
    device.submit(wait=[between @ 1], signal=[value @ 1], queue=2)
    first.open()
    done.wait(1, 5)
    assert device.never(lambda: device.value(between))
    second.open()
    device.settles()
