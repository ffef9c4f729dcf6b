"""Work that went in flight unnoted, was refused, or overtaken: its signals are made, and none before its producers'."""

from __future__ import annotations

import sys
import threading

import pytest

from pytest_cuda2hal.backends.cuda import issue as issuing
from pytest_cuda2hal.backends.cuda.actions import Stage, State
from pytest_cuda2hal.backends.cuda.simulator import CUresult
from pytest_cuda2hal.hal import Hold, StatusCode, Update

REFUSED = CUresult.CUDA_ERROR_NOT_SUPPORTED


class InterruptionError(Exception):
    """What a signal handler raises."""


def interrupt_before(monkeypatch, owner, name):
    """Have this thread interrupted where it calls a function, the first time, before the call is made."""
    made, thread, left = getattr(owner, name), threading.current_thread(), [1]

    def call(*arguments):
        if left and threading.current_thread() is thread:
            left.clear()
            raise InterruptionError
        return made(*arguments)

    monkeypatch.setattr(owner, name, call)


def interrupt_at(stage, call):
    """Make a call that is interrupted in a launch, at the first line where the action is being issued, at ``stage``."""

    def trace(frame, event, argument):
        if frame.f_code is not issuing._launch.__code__:
            return None
        action = frame.f_locals["action"]
        if event == "line" and action.state is State.ISSUING and action.stage is stage:
            raise InterruptionError
        return trace

    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(tracer)


def retire(device, lane):
    """Retire what is done on a lane, once something is. The role is held."""
    device.until(lane.finished)
    device.engine.poll(lane)


def overtake(device, submit, then):
    """Have a submission to the first queue interrupted, and other work of its stream go in flight before it.

    A completer has the role next, and retires what the other work waits for. At last ``then`` is called with the
    semaphore that the other work signals. The role is held all the while.
    """
    latch, gate, overtaker, lane = device.latch(), device.semaphore(), device.semaphore(), device.lane_of(1)
    device.submit(Hold(latch), Hold(latch), queue=1)
    device.submit(signal=[gate @ 1], queue=1)
    device.submit(wait=[gate @ 1], signal=[overtaker @ 1])
    assert lane.backlog

    def work():
        with pytest.raises(InterruptionError):
            submit()
        latch.open()
        retire(device, lane)
        retire(device, lane)
        device.engine._drain(100)
        assert [entry.signals[0][0] is overtaker for entry in device.lane_of(0).in_flight] == [True, False]
        then(overtaker)

    device.engine.exclusively(work)


def test_work_that_fills_its_stream_and_went_in_flight_unnoted_makes_its_signal(rig, completion, monkeypatch):
    device = rig(completion=completion)
    target, done, later, latch = device.buffer(), device.semaphore(), device.semaphore(), device.latch()
    interrupt_before(monkeypatch, issuing, "_accepted")
    with pytest.raises(InterruptionError):
        device.submit(Hold(latch), *[Update(target, b"x")] * 255, signal=[done @ 1])
    device.until(lambda: not device.engine.inbox and not device.engine.ready)
    assert not device.lane_of(0).has_room(1)
    latch.open()
    done.wait(1, 5)
    device.submit(signal=[later @ 1])
    later.wait(1, 5)
    device.settles()


def test_a_consumer_is_signaled_after_its_producer_that_was_overtaken(rig, monkeypatch):
    """Others went in flight between the launch of the producer and the record of its event."""
    device = rig(max_in_flight=2)
    first, done = device.semaphores(2)

    def submit():
        device.submit(signal=[first @ 1])
        interrupt_before(monkeypatch, device.engine.events, "acquire")
        device.engine._drain(1)

    def then(overtaker):
        device.submit(wait=[first @ 1], signal=[done @ 1], queue=1)
        device.engine._drain(1)
        lane = device.lane_of(1, 1)
        retire(device, lane)
        assert not lane.in_flight
        assert (device.value(first), device.value(done)) == (1, 1)

    overtake(device, submit, then)
    device.settles()


def test_a_consumer_of_overtaken_work_and_of_what_overtook_it_runs_after_both(rig):
    """The one was interrupted with its place in the stream given, and nothing launched."""
    device = rig(max_in_flight=2)
    first, done, latch = device.semaphore(), device.semaphore(), device.latch()

    def submit():
        device.submit(Hold(latch), signal=[first @ 1])
        interrupt_at(Stage.NOT_BEGUN, lambda: device.engine._drain(1))

    def then(overtaker):
        device.submit(wait=[overtaker @ 1, first @ 1], signal=[done @ 1], queue=1)
        device.engine._drain(1)
        assert len(device.lane_of(1, 1).in_flight) == 1

    overtake(device, submit, then)
    assert device.never(lambda: device.value(done))
    latch.open()
    done.wait(1, 5)
    assert device.value(first) == 1
    device.settles()


def test_a_consumer_is_signaled_after_its_producer_though_the_next_could_not_be_made_to_wait(rig):
    """The driver refuses the wait of what comes after the consumer on its stream."""
    device = rig()
    produced, consumed, other, failed = device.semaphores(4)
    producing, held = device.hold(1, [produced @ 1]), device.hold(0, [other @ 1])
    device.submit(wait=[produced @ 1], signal=[consumed @ 1])
    lane = device.lane_of(0, 1)

    def work():
        device.submit(wait=[consumed @ 1, other @ 1], signal=[failed @ 1])
        device.driver.fail("cuStreamWaitEvent", error=REFUSED)
        device.engine._drain(1)
        assert [entry.clock is None for entry in lane.in_flight] == [False, True]
        producing.open()
        retire(device, lane)
        assert (device.value(produced), device.value(consumed)) == (1, 1)

    device.engine.exclusively(work)
    assert "cuStreamWaitEvent" in device.failure(failed).message
    held.open()
    device.settles()


@pytest.mark.parametrize("launches", [0, 10], ids=["of-all-of-the-work", "of-a-part-of-it"])
def test_a_queue_goes_on_after_a_record_that_the_driver_refused_on_an_idle_device(rig, completion, launches):
    device = rig(completion=completion, max_in_flight=4)
    target = device.buffer()
    failed, done = device.semaphores(2)
    device.until(lambda: all(lane.asleep for lane in device.engine.lanes))
    device.driver.fail("cuEventRecord", error=REFUSED)
    device.submit(*[Update(target, b"x")] * launches, signal=[failed @ 1])
    assert device.failure(failed).code is StatusCode.UNIMPLEMENTED
    assert not device.lane_of(0).backlog
    device.submit(signal=[done @ 1])
    done.wait(1, 5)
    device.settles()
