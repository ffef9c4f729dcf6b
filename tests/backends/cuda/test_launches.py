"""Launching work: what waits for room, and what an interruption leaves behind."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.hal import Fill, HalError, Hold, StatusCode


class InterruptionError(Exception):
    """What a signal handler raises."""


def test_work_that_waits_for_room_hears_of_a_failure_at_once(rig):
    """Whoever is to let go of what is before it may want to hear of the failure first."""
    device = rig()
    target, other = device.buffer(), device.buffer()
    other.write(bytes(other.size))
    made, done = device.semaphores(2)
    latch, lane = device.latch(), device.lane_of(0)
    device.submit(Hold(latch), *[Fill(target, 7)] * 255, signal=[made @ 1])
    device.submit(Fill(other, 9), wait=[made @ 1], signal=[done @ 1])
    assert lane.backlog
    made.fail(HalError(StatusCode.ABORTED, "while the stream is full"))
    assert "while the stream is full" in device.failure(done).message
    latch.open()
    device.settles()
    assert other.read() == bytes(other.size)


@pytest.mark.parametrize("place", ["before it went in flight", "after it went in flight"])
def test_the_event_of_work_whose_launch_was_interrupted_goes_back(rig, completion, monkeypatch, place):
    device = rig(completion=completion)
    done, lane = device.semaphore(), device.lane_of(0)
    accept = lane.accept

    def accept_and_be_interrupted(*arguments):
        monkeypatch.undo()
        if place.startswith("after"):
            accept(*arguments)
        raise InterruptionError

    monkeypatch.setattr(lane, "accept", accept_and_be_interrupted)
    with pytest.raises(InterruptionError):
        device.submit(signal=[done @ 1])
    done.wait(1, 5)
    device.settles()
    assert device.device.statistics().events == 0
