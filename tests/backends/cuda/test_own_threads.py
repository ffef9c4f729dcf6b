"""The device's own threads: those that cannot begin, those that end by a defect, and what they must not keep alive."""

from __future__ import annotations

import gc
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_cuda2hal.backends.cuda.completion import Completer, EventCompleter, HostFunctionCompleter
from pytest_cuda2hal.backends.cuda.events import HostEvent
from pytest_cuda2hal.backends.cuda.opening import open_on
from pytest_cuda2hal.backends.cuda.parameters import Parameters
from pytest_cuda2hal.backends.cuda.simulator import CUresult, SimulatedDriver
from pytest_cuda2hal.hal import Fill, HalError, Hold, StatusCode

REFUSED = CUresult.CUDA_ERROR_NOT_SUPPORTED
#: What each kind of completer does when there is something to retire.
RETIRES = {"event": (EventCompleter, "_retire_or_wait"), "host-function": (HostFunctionCompleter, "_retire_called")}


def release(device):
    """Let go of everything that a rig has of its device, which nobody closes; return what dies with it."""
    device.device.engine.closed = True  # for the fixture: it is not to close it
    engine = weakref.ref(device.engine)
    device.device = device.context = device.engine = type("Closed", (), {"closed": True})
    return engine


@pytest.mark.usefixtures("quiet_threads")
def test_a_completer_does_not_end_in_silence(rig, completion, monkeypatch):
    """What it would have noticed nobody notices, so everything fails."""
    device = rig(completion=completion)
    never, done = device.semaphores(2)
    device.submit(wait=[never @ 1], signal=[done @ 1])
    kind, name = RETIRES[completion]

    def defect(self, engine):
        raise ValueError("a defect")

    monkeypatch.setattr(kind, name, defect)
    latch = device.hold(0)
    latch.open()
    device.until(lambda: device.value(done) is None)
    error = device.failure(done)
    assert error.code is StatusCode.INTERNAL
    assert error.message == "a completer has ended: ValueError: a defect"


@pytest.mark.usefixtures("quiet_threads")
def test_a_service_thread_that_ends_while_it_sleeps_does_not_do_so_in_silence(rig, monkeypatch):
    device = rig()
    never, done = device.semaphores(2)
    device.submit(wait=[never @ 1], signal=[done @ 1])
    wait, alarm = HostEvent.wait, device.engine.service_alarm
    ended: list[threading.Thread] = []

    def wait_and_fail(self, timeout):
        woken = wait(self, timeout)
        if self is alarm and not ended:
            ended.append(threading.current_thread())
            raise ValueError("a defect")
        return woken

    monkeypatch.setattr(HostEvent, "wait", wait_and_fail)
    device.engine.wake_service()  # it may still be in the call that was there before
    device.until(lambda: ended or device.engine.wake_service())
    error = device.failure(done)
    assert error.message == "the service thread has ended: ValueError: a defect"


@pytest.mark.usefixtures("quiet_threads")
def test_a_completer_without_the_context_is_heard_of_by_whoever_opens(rig):
    driver, other = SimulatedDriver(), rig()
    driver.fail("cuCtxSetCurrent", 2, REFUSED)
    opening = other.task(lambda: open_on(driver, ordinal=0, parameters=Parameters(), versions={}))
    with pytest.raises(HalError, match="CUDA_ERROR_NOT_SUPPORTED"):
        opening.result()
    other.until(lambda: gc.collect() is None or not driver.contexts)
    assert driver.live() == {}


@pytest.mark.parametrize("name", ["hal-lane-0", "hal-lane-5", "hal-service"])
def test_a_thread_that_cannot_begin_leaves_a_device_that_goes(rig, monkeypatch, completion, name):
    """It counts as somebody who needs the context until it says otherwise, which it never will."""
    until, driver = rig().until, SimulatedDriver()
    start = threading.Thread.start

    def sometimes(thread):
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", sometimes)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        open_on(driver, ordinal=0, parameters=Parameters(completion=completion), versions={})
    until(lambda: gc.collect() is None or not driver.contexts)
    assert driver.live() == {}
    assert driver.violations == []


def test_a_thread_that_cannot_begin_a_host_call_is_forgotten(rig, monkeypatch):
    device = rig()
    done, start = device.semaphore(), threading.Thread.start

    def never(thread):
        if thread.name == "hal-host-call":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", never)
    device.device.queue_host_call(lambda: None, signal=[done @ 1])
    assert device.failure(done).code is StatusCode.RESOURCE_EXHAUSTED
    assert device.engine.host_calls == set()


def test_a_completer_that_rests_keeps_no_device(rig, completion):
    """Nobody has it any more after some work, and its completers have nothing to do."""
    device = rig(completion=completion)
    driver, target, done = device.driver, device.buffer(), device.semaphore()
    lanes = device.engine.lanes
    for value in range(1, 4):
        device.submit(Fill(target, value), signal=[done @ value])
        done.wait(value, 5)
        device.until(lambda: all(lane.asleep for lane in lanes))
    until = device.until
    engine = release(device)
    del target, done
    until(lambda: gc.collect() is None or not driver.contexts)
    assert engine() is None
    assert driver.violations == []


class Meanwhile:
    """An alarm; the first time that somebody waits for it while there is work on the lane, something else happens."""

    def __init__(self, lane, do):
        self._alarm, self._lane, self._do = lane.alarm, lane, do
        self.set = lane.alarm.set

    def wait(self, timeout):
        if self._do is not None and self._lane.in_flight:
            do, self._do = self._do, None
            do()
        return self._alarm.wait(timeout)


def test_a_completer_whose_work_another_retires_keeps_no_device(rig):
    """It leaves alone those who submit; when they have done its work it rests."""
    device = rig()
    driver, until, lane = device.driver, device.until, device.lane_of(0)
    until(lambda: lane.asleep)
    latches, retired = [device.latch()], threading.Event()

    def retire():
        until(lane.finished)
        lane.engine().poll(lane)
        retired.set()

    def open_and_retire():
        latches.pop().open()
        lane.engine().exclusively(retire)

    lane.alarm = Meanwhile(lane, lambda: device.task(open_and_retire).result())
    device.submit(Hold(latches[0]))
    assert retired.wait(5)
    until(lambda: lane.asleep)
    engine = release(device)
    until(lambda: gc.collect() is None or not driver.contexts)
    assert engine() is None


def test_a_device_that_nobody_has_waits_for_its_work(rig, completion):
    """Work in flight keeps its buffers, and by them the device, until it is done, and no longer."""
    device = rig(completion=completion)
    driver, until, never = device.driver, device.until, device.never
    latch = device.device.create_latch()
    word = latch._word
    device.submit(Hold(latch), Fill(device.buffer(), 1))
    lanes = device.engine.lanes
    until(lambda: lanes[0].in_flight)
    engine = release(device)
    del latch
    gc.collect()
    assert never(lambda: engine() is None or not driver.contexts)
    word.value = 1
    until(lambda: gc.collect() is None or not driver.contexts)
    assert engine() is None
    assert driver.violations == []


@pytest.mark.parametrize(
    ("is_idle", "is_stopping", "sleeps"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_a_completer_that_has_work_or_is_to_end_does_not_fall_asleep(is_idle, is_stopping, sleeps):
    """What comes between its last look and its sleep sets no alarm."""
    waits: list[float] = []
    alarm = SimpleNamespace(wait=waits.append)
    lane: Any = SimpleNamespace(asleep=False, is_idle=is_idle, stopping=is_stopping, alarm=alarm)
    completer = Completer.__new__(Completer)
    completer._lane = lane
    completer._sleep()
    assert bool(waits) is sleeps
    assert not lane.asleep
