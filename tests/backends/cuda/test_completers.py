"""Completers, and who submits, on a driver that refuses what they need to know when work is done."""

from __future__ import annotations

import time

from pytest_cuda2hal.backends.cuda.completion import PACE_SECONDS
from pytest_cuda2hal.backends.cuda.engine import Engine
from pytest_cuda2hal.backends.cuda.simulator import CUresult
from pytest_cuda2hal.hal import StatusCode


def test_work_that_the_driver_once_refused_to_watch_completes_with_nobody_waiting(rig, monkeypatch):
    device = rig()
    done, lane = device.semaphore(), device.lane_of(0)
    watch = lane.watch
    refused: list[int] = []

    def refuse_once():
        if refused:
            return watch()
        refused.append(1)
        return False

    monkeypatch.setattr(lane, "watch", refuse_once)
    latch = device.hold(0, [done @ 1])
    device.until(lambda: refused)
    latch.open()
    device.until(lambda: device.value(done) == 1)


def test_a_completer_that_may_not_watch_rests_between_its_looks(rig, monkeypatch):
    """Also while a thread waits, which would be glad to hear of it at once."""
    device = rig()
    done, lane, looks = device.semaphore(), device.lane_of(0), []
    monkeypatch.setattr(lane, "watch", lambda: looks.append(1))
    latch = device.hold(0, [done @ 1])
    waiting = device.task(lambda: done.wait(1, 60))
    device.until(lambda: device.engine.waiting_hosts())
    begin, before = time.monotonic(), len(looks)
    device.until(lambda: len(looks) >= before + 50, 30)
    assert time.monotonic() - begin > 25 * PACE_SECONDS
    latch.open()
    waiting.result()


def test_a_device_closes_whose_driver_fails_to_wait_for_held_work(rig, monkeypatch):
    """To watch its work again and again would fill a stream, until the driver blocks who does it."""
    device = rig(launch_limit=20)
    done, lane, looks = device.semaphore(), device.lane_of(0), []
    poll = Engine.poll

    def note_and_poll(self, lane):
        looks.append(lane)
        return poll(self, lane)

    device.driver.fail("cuEventSynchronize", 1, CUresult.CUDA_ERROR_INVALID_VALUE, times=None)
    device.hold(0, [done @ 1])
    assert "cuEventSynchronize" in device.failure(done).message
    monkeypatch.setattr(Engine, "poll", note_and_poll)
    device.until(lambda: looks.count(lane) > 50)
    device.task(device.device.close).result()
    assert device.driver.violations == []


def test_a_submission_for_which_there_is_no_event_fails_and_leaves_none(rig, completion):
    device = rig(completion=completion)
    failed, done = device.semaphores(2)
    device.driver.fail("cuEventCreate", 1, CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    device.submit(signal=[failed @ 1])
    error = device.failure(failed)
    assert error.code is StatusCode.RESOURCE_EXHAUSTED
    assert "cuEventCreate" in error.message
    device.submit(signal=[done @ 1])
    done.wait(1, 5)
    device.settles()
    assert device.device.statistics().events == 0


def test_each_thread_of_a_device_keeps_its_context(rig, completion):
    """The last to end takes it down, alone."""
    device = rig(completion=completion)
    threads = device.device._completers
    assert {thread.name for thread in threads} >= {"hal-service", "hal-lane-0"}
    assert device.context._users >= set(threads)
