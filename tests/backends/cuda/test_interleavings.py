"""Orders of events, between threads and round an interruption, that a review found wrong."""

from __future__ import annotations

import gc
import threading

import pytest

from pytest_cuda2hal.backends.cuda.engine import Engine
from pytest_cuda2hal.backends.cuda.events import HostEvent
from pytest_cuda2hal.backends.cuda.issue import refill
from pytest_cuda2hal.backends.cuda.opening import open_on
from pytest_cuda2hal.backends.cuda.parameters import Parameters
from pytest_cuda2hal.backends.cuda.semaphore import EventSemaphore
from pytest_cuda2hal.backends.cuda.simulator import CUresult, SimulatedDriver
from pytest_cuda2hal.hal import Fill, HalError, StatusCode


class InterruptionError(Exception):
    """What a signal handler raises."""


def test_a_host_that_overtakes_a_device_while_one_looks_binds_nobody(rig, monkeypatch):
    """With no stream that may wait, the action waits on the host; what was reached meanwhile must not keep it there."""
    device = rig(streams=1)
    overtaken, done, unrelated = device.semaphores(3)
    latch = device.hold(0, [overtaken @ 5])
    look = EventSemaphore.look
    left = [1]

    def look_and_be_overtaken(self, value):
        seen = look(self, value)
        if self is overtaken and seen[2] is not None and left:
            left.clear()
            device.task(lambda: overtaken.signal(5)).result()
        return seen

    monkeypatch.setattr(EventSemaphore, "look", look_and_be_overtaken)
    device.task(lambda: device.submit(wait=[overtaken @ 5], signal=[done @ 1], queue=1)).result()
    assert not left
    done.wait(1, 5)
    device.submit(signal=[unrelated @ 1], queue=1)
    unrelated.wait(1, 5)
    latch.open()
    device.settles()


def test_a_free_that_was_interrupted_is_not_made_again(rig, monkeypatch):
    """Memory that was given back may be somebody else's already."""
    device = rig()
    made, freed = device.semaphores(2)
    buffer = device.device.queue_alloca(4096, signal=[made @ 1])
    made.wait(1, 5)
    free = device.driver.cuMemFreeAsync

    def free_and_be_interrupted(*arguments):
        monkeypatch.undo()
        free(*arguments)
        raise InterruptionError

    monkeypatch.setattr(device.driver, "cuMemFreeAsync", free_and_be_interrupted, raising=False)
    with pytest.raises(InterruptionError):
        device.device.queue_dealloca(buffer, signal=[freed @ 1])
    assert device.failure(freed).code is StatusCode.ABORTED
    device.settles()
    after = device.buffer(4096)
    after.write(b"mine")
    del buffer
    assert device.device.statistics().memory_in_use == 4096
    assert after.read(0, 4) == b"mine"


def test_a_submission_that_is_the_first_to_see_a_fault_fails_with_it(rig, monkeypatch):
    device = rig()
    target, done = device.buffer(), device.semaphore()
    device.hold(0)
    for _ in range(31):  # with the next one the submitter looks at what is done
        device.submit(Fill(target, 1))
    poll, submitter, looks = Engine.poll, threading.current_thread(), []

    def poll_after_a_fault(self, lane):
        if threading.current_thread() is submitter:
            looks.append(lane)
            device.driver.lose(CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
        return poll(self, lane)

    monkeypatch.setattr(Engine, "poll", poll_after_a_fault)
    device.submit(Fill(target, 2), signal=[done @ 1])
    assert looks
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in device.failure(done).message


@pytest.mark.parametrize("check_locks", [False, True])
def test_what_needs_a_turn_of_its_own_is_refused_in_the_middle_of_one(rig, check_locks):
    """As a finalizer or a signal handler may call it; the turn goes on, and later the call works."""
    device = rig(watched=True, check_locks=check_locks)
    target, done = device.buffer(), device.semaphore()
    refused: list[HalError] = []

    def call(name, arguments):
        if name == "cuEventRecord" and not refused:
            for method in (device.device.close, device.device.create_latch):
                with pytest.raises(HalError) as caught:
                    method()
                refused.append(caught.value)

    device.watched.watch = call
    device.submit(Fill(target, 1), signal=[done @ 1])
    done.wait(1, 5)
    assert [error.code for error in refused] == [StatusCode.FAILED_PRECONDITION] * 2
    assert all("call it from another thread, or later" in error.message for error in refused)
    assert not device.engine.closed


def test_a_wait_whose_teller_was_interrupted_leaves_nothing_to_later_waits(rig, monkeypatch):
    device = rig()
    semaphore, *later = device.semaphores(4)
    waiting = device.task(lambda: semaphore.wait(1, 5))
    device.until(lambda: device.engine.waiting_hosts() == 1)
    set_event, teller, left = HostEvent.set, threading.current_thread(), [1]

    def set_and_be_interrupted(self):
        set_event(self)
        if left and threading.current_thread() is teller:
            left.clear()
            raise InterruptionError

    monkeypatch.setattr(HostEvent, "set", set_and_be_interrupted)
    with pytest.raises(InterruptionError):
        semaphore.signal(1)
    waiting.result()
    for each in later:
        late = device.task(lambda each=each: each.wait(1, 5))
        assert device.never(lambda late=late: late.done)
        each.signal(1)
        late.result()


def test_a_lane_whose_refill_was_interrupted_goes_on_by_itself(rig, completion, monkeypatch):
    device = rig(completion=completion, max_in_flight=1)
    target, done = device.buffer(), device.semaphore()
    latch, lane = device.hold(0), device.lane_of(0)
    for value in (1, 2, 3):
        device.submit(Fill(target, value), signal=[done @ value])
    assert len(lane.backlog) == 3
    interrupted = threading.current_thread()

    def refill_or_be_interrupted(*arguments):
        if threading.current_thread() is interrupted:
            raise InterruptionError
        refill(*arguments)

    def retire():
        latch.open()
        device.until(lane.finished)
        device.engine.poll(lane)

    monkeypatch.setattr(lane, "was_called_back", lambda: False)  # all callbacks are late: only a look finds it
    monkeypatch.setattr("pytest_cuda2hal.backends.cuda.engine.refill", refill_or_be_interrupted)
    with pytest.raises(InterruptionError):
        device.engine.exclusively(retire)
    device.until(lambda: device.value(done) == 3)


def test_memory_given_to_another_thread_at_once_is_known_to_be_allocated(rig, monkeypatch):
    """The driver gives an address again as soon as it is free, before the call that freed it has returned here."""
    device = rig()
    buffer = device.buffer(4096)
    free, got = device.driver.cuMemFreeAsync, []

    def free_and_allocate(*arguments):
        monkeypatch.undo()
        result = free(*arguments)
        got.append(device.task(lambda: device.context.allocate(4096)).result())
        return result

    monkeypatch.setattr(device.driver, "cuMemFreeAsync", free_and_allocate, raising=False)
    address = buffer.live_address()
    del buffer
    device.until(lambda: got)
    device.engine.exclusively(lambda: None)  # whoever freed it has come to its end
    assert got == [address]
    assert address in device.context.allocations


def test_a_context_that_another_library_made_current_does_no_harm(rig):
    device = rig(SimulatedDriver(devices=2), event_pool_capacity=0)
    target, done = device.buffer(), device.semaphore()
    driver = device.driver
    other = driver.cuDevicePrimaryCtxRetain(driver.cuDeviceGet(1)[1])[1]
    for value in range(1, 4):
        driver.cuCtxSetCurrent(other)
        device.submit(Fill(target, value), signal=[done @ value])
        done.wait(value, 5)
        assert target.read(0, 1) == bytes([value])
    driver.cuDevicePrimaryCtxRelease(driver.cuDeviceGet(1)[1])


def test_the_service_thread_ends_though_it_wakes_while_the_last_handle_goes(rig, monkeypatch):
    """A weak reference still finds the engine while its ``__del__`` runs, which is called once."""
    until = rig().until
    driver = SimulatedDriver()
    device = open_on(driver, ordinal=0, parameters=Parameters(check_locks=True), versions={})
    alarm, (service,) = device.engine.service_alarm, [t for t in device._completers if t.name == "hal-service"]
    set_event, turn, turns = HostEvent.set, Engine.turn, []
    is_going: list[int] = []

    def noted_turn(self, **options):
        turn(self, **options)
        if threading.current_thread() is service:
            turns.append(self.lost)

    def set_and_let_it_run(self):
        set_event(self)
        if self is alarm and is_going:
            until(lambda: turns or not service.is_alive())

    monkeypatch.setattr(HostEvent, "set", set_and_let_it_run)
    monkeypatch.setattr(Engine, "turn", noted_turn)
    gc.collect()
    is_going.append(1)
    del device
    until(lambda: not driver.contexts and not service.is_alive())
    assert driver.violations == []


def test_the_service_thread_does_not_end_in_silence(rig, quiet_threads):
    device = rig()
    never, done = device.semaphores(2)
    device.submit(wait=[never @ 1], signal=[done @ 1])
    device.until(lambda: all(lane.asleep for lane in device.engine.lanes))

    class Defect:
        def advance(self, engine):
            if threading.current_thread().name == "hal-service":
                raise ValueError("a defect")

    device.engine.inbox.append(Defect())
    device.engine.wake_service()
    device.until(lambda: device.value(done) is None)
    error = device.failure(done)
    assert error.code is StatusCode.INTERNAL
    assert error.message == "the service thread has ended: ValueError: a defect"
    device.engine.inbox.clear()


def overtake(monkeypatch, method, semaphore, do):
    """Do something, on another thread, just before a semaphore's method is called for the first time."""
    made, left = getattr(EventSemaphore, method), [1]

    def call(self, *arguments):
        if self is semaphore and left:
            left.clear()
            do()
        return made(self, *arguments)

    monkeypatch.setattr(EventSemaphore, method, call)


def test_a_failure_between_look_and_launch_launches_nothing(rig, monkeypatch):
    """The submission was bound to running work, and a host failed the semaphore before it was issued."""
    device = rig()
    target, bound, done = device.buffer(), device.semaphore(), device.semaphore()
    target.write(bytes(64))
    latch, lane = device.hold(0, [bound @ 1]), device.lane_of(0)

    def fail():
        device.task(lambda: bound.fail(HalError(StatusCode.ABORTED, "given up"))).result()

    overtake(monkeypatch, "failure_before", bound, fail)
    device.submit(Fill(target, 1), wait=[bound @ 1], signal=[done @ 1])
    assert device.failure(done).message == "given up"
    assert not lane.backlog
    latch.open()
    device.settles()
    assert target.read() == bytes(64)


def test_a_failure_between_look_and_registration_is_heard_of(rig, monkeypatch):
    """With no stream that may wait, the action waits on the host, and nobody else would tell it."""
    device = rig(streams=1)
    bound, done = device.semaphores(2)
    latch = device.hold(0, [bound @ 1])

    def fail():
        device.task(lambda: bound.fail(HalError(StatusCode.ABORTED, "given up"))).result()

    overtake(monkeypatch, "register", bound, fail)
    device.submit(wait=[bound @ 1], signal=[done @ 1], queue=1)
    assert device.failure(done).message == "given up"
    latch.open()
    device.settles()


def test_a_signal_between_look_and_registration_starts_the_work(rig, monkeypatch):
    """Nobody would tell it, as it came too late to be registered."""
    device = rig()
    gate, done = device.semaphores(2)
    overtake(monkeypatch, "register", gate, lambda: device.task(lambda: gate.signal(1)).result())
    device.submit(wait=[gate @ 1], signal=[done @ 1])
    done.wait(1, 5)
    device.settles()
