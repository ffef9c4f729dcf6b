"""An exception out of a signal handler at points where a review found that something was lost, or done twice."""

from __future__ import annotations

import _thread
import threading
from collections import deque
from typing import Any

import pytest

from pytest_cuda2hal.backends.cuda.context import Context
from pytest_cuda2hal.backends.cuda.engine import Engine
from pytest_cuda2hal.backends.cuda.simulator import CUresult, SimulatedDriver
from pytest_cuda2hal.hal import Fill, HalError, Hold, StatusCode


class InterruptionError(Exception):
    """What a signal handler raises."""


@pytest.fixture
def interrupt(monkeypatch):
    """Have a call of an object's be made and then interrupted, the first time that this thread makes it."""
    interrupted = threading.current_thread()

    def after(owner, name):
        made = getattr(owner, name)
        left = [1]

        def call(*arguments):
            result = made(*arguments)
            if left and threading.current_thread() is interrupted:
                left.clear()
                raise InterruptionError
            return result

        monkeypatch.setattr(owner, name, call, raising=False)

    return after


class Interrupted(deque[Any]):
    """Work in flight, or messages: whoever puts the first in is interrupted once it is there."""

    left = 1

    def append(self, entry):
        super().append(entry)
        if self.left:
            self.left = 0
            raise InterruptionError


def test_work_that_went_in_flight_unnoted_is_retired_by_itself(rig, completion):
    """Also where the completer sleeps, and where no host function was launched for it."""
    device = rig(completion=completion)
    target, done = device.buffer(), device.semaphore()
    lane = device.lane_of(0)
    device.until(lambda: lane.asleep)
    waiting = device.task(lambda: done.wait(1, 5))
    device.until(lambda: device.engine.waiting_hosts() == 1)
    lane.in_flight = Interrupted()
    with pytest.raises(InterruptionError):
        device.submit(Fill(target, 1), signal=[done @ 1])
    waiting.result()
    device.settles()


def test_work_that_is_retired_before_it_was_noted_makes_its_signals(rig, monkeypatch):
    """A completer that waits for the role has it before the service thread, which would go on with the submission."""
    device = rig(check_locks=False)
    target, done = device.buffer(), device.semaphore()
    lane = device.lane_of(0)
    accept = lane.accept

    def accept_and_be_interrupted(*arguments):
        accept(*arguments)
        raise InterruptionError

    def submit():
        device.submit(Fill(target, 1), signal=[done @ 1])  # within a turn it is left in the inbox
        with pytest.raises(InterruptionError):
            device.engine._drain(1)
        device.until(lane.finished)
        device.engine.poll(lane)

    monkeypatch.setattr(lane, "accept", accept_and_be_interrupted)
    device.engine.exclusively(submit)
    done.wait(1, 5)
    device.settles()


def test_a_copy_that_was_interrupted_spoils_no_later_one(rig, interrupt):
    device = rig(manual=True)
    read, written = device.buffer(), device.buffer()
    read.write(b"r" * 64)
    device.pause_side_stream()
    interrupt(device.driver, "cuMemcpyDtoHAsync")
    with pytest.raises(InterruptionError):
        read.read()
    device.resume_side_stream()
    written.write(b"w" * 64)
    assert written.read() == b"w" * 64


def test_work_that_nobody_knows_to_be_in_flight_ends_before_its_memory_goes(rig):
    """Its event could not be recorded, so nothing tells when it is done; the checker blames a stream that is busy."""
    device = rig(SimulatedDriver(memory=2**22))
    target, done, latch = device.buffer(2**20), device.semaphore(), device.latch()
    device.driver.fail("cuEventRecord", 1, CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    device.submit(Hold(latch), *(Fill(target, number) for number in range(200)), signal=[done @ 1])
    assert device.failure(done).code is StatusCode.RESOURCE_EXHAUSTED
    device.task(device.device.close).result()  # which opens the latch
    assert device.driver.violations == []


def test_memory_of_work_whose_launch_was_interrupted_stays_until_the_device_closes(rig, interrupt):
    """Whoever closes comes before the service thread, which would have recorded an event behind it."""
    device = rig(check_locks=False, record_calls=True)
    targets = [device.buffer()]

    def work():
        device.submit(Fill(targets[0], 1))  # within a turn it is left in the inbox
        with pytest.raises(InterruptionError):
            device.engine._drain(1)
        device.engine.cancel()

    interrupt(device.driver, "cuMemsetD8Async")
    device.engine.exclusively(work)
    targets.clear()
    device.until(lambda: not device.engine.trash)
    device.engine.exclusively(lambda: None)
    assert not device.calls("cuMemFreeAsync")
    assert len(device.engine.abandoned) == 1


def test_work_that_another_overtook_after_an_interruption_is_in_flight_once(rig, monkeypatch):
    device = rig(check_locks=False)
    target, first, second = device.buffer(), device.semaphore(), device.semaphore()
    lane = device.lane_of(0)
    accept, left = lane.accept, [1]

    def accept_and_be_interrupted(*arguments):
        accept(*arguments)
        if left:
            left.clear()
            raise InterruptionError

    def work():
        device.submit(Fill(target, 1), signal=[first @ 1])
        with pytest.raises(InterruptionError):
            device.engine._drain(1)
        device.submit(Fill(target, 2), signal=[second @ 1])
        device.engine.inbox.rotate(1)
        device.engine._drain(2)
        assert len(lane.in_flight) == 2

    monkeypatch.setattr(lane, "accept", accept_and_be_interrupted)
    device.engine.exclusively(work)
    first.wait(1, 5)
    second.wait(1, 5)
    device.settles()


def test_a_capture_that_was_interrupted_is_none_of_the_next_ones(rig, interrupt):
    device = rig()
    target = device.buffer()
    commands = device.device.create_command_buffer([Fill(target, 1), Fill(target, 2, 0, 8)])
    interrupt(device.driver, "cuStreamBeginCapture")
    with pytest.raises(InterruptionError):
        device.submit(commands)
    done = device.semaphore()
    device.submit(device.device.create_command_buffer([Fill(target, 3), Fill(target, 4, 0, 8)]), signal=[done @ 1])
    done.wait(1, 5)
    assert target.read() == b"\4" * 8 + b"\3" * 56


def test_a_host_call_whose_start_was_interrupted_is_made_once_and_waited_for(rig, monkeypatch):
    device = rig()
    done, leave = device.semaphore(), threading.Event()
    calls: list[int] = []
    start, starter, left = threading.Thread.start, threading.current_thread(), [1]

    def begin_and_be_interrupted(self):
        if self.name != "hal-host-call" or threading.current_thread() is not starter or not left:
            start(self)
            return
        left.clear()
        _thread.start_new_thread(self._target, self._args)  # it runs, and nobody has noted that
        device.until(lambda: calls)
        raise InterruptionError

    def call():
        calls.append(1)
        assert leave.wait(5)
        raise HalError(StatusCode.ABORTED, "in the end")

    monkeypatch.setattr(threading.Thread, "start", begin_and_be_interrupted)
    with pytest.raises(InterruptionError):
        device.device.queue_host_call(call, signal=[done @ 1])
    device.until(lambda: calls)
    assert device.never(lambda: device.value(done) != 0)
    leave.set()
    assert device.failure(done).message == "in the end"
    assert calls == [1]
    device.settles()  # the thread that found the call made counts no more


def test_a_host_call_that_was_interrupted_before_its_thread_began_is_made(rig, monkeypatch):
    device = rig()
    done, calls = device.semaphore(), []
    start, starter, left = threading.Thread.start, threading.current_thread(), [1]

    def be_interrupted(self):
        if self.name == "hal-host-call" and threading.current_thread() is starter and left:
            left.clear()
            raise InterruptionError
        start(self)

    monkeypatch.setattr(threading.Thread, "start", be_interrupted)
    with pytest.raises(InterruptionError):
        device.device.queue_host_call(lambda: calls.append(1), signal=[done @ 1])
    done.wait(1, 5)
    assert calls == [1]
    device.settles()


def test_memory_that_was_freed_round_an_interruption_is_told_of(rig, monkeypatch):
    device = rig(memory=4 * 2**20)
    made, freed, again = device.semaphores(3)
    buffer = device.device.queue_alloca(3 * 2**20, signal=[made @ 1])
    made.wait(1, 5)
    latch, lane = device.hold(0), device.lane_of(0)
    device.device.queue_dealloca(buffer, signal=[freed @ 1])
    starved = device.device.queue_alloca(3 * 2**20, signal=[again @ 1], queue=1)
    tell, interrupted, left = Engine.memory_was_freed, threading.current_thread(), [1]

    def be_interrupted(self):
        if left and threading.current_thread() is interrupted:
            left.clear()
            raise InterruptionError
        tell(self)

    def retire():
        latch.open()
        device.until(lambda: lane.finished() == 2)
        device.engine.poll(lane)

    monkeypatch.setattr(Engine, "memory_was_freed", be_interrupted)
    with pytest.raises(InterruptionError):
        device.engine.exclusively(retire)
    freed.wait(1, 5)
    again.wait(1, 5)
    del starved


def test_a_consumer_whose_issue_was_interrupted_is_retired_after_its_producer(rig, interrupt):
    device = rig(check_locks=False)
    target = device.buffer()
    first, second = device.semaphores(2)
    latch = device.hold(0)
    device.submit(Fill(target, 1), signal=[first @ 1])
    interrupt(device.driver, "cuStreamWaitEvent")
    with pytest.raises(InterruptionError):
        device.submit(Fill(target, 2), wait=[first @ 1], signal=[second @ 1], queue=1)
    device.until(lambda: any(lane.in_flight for lane in device.engine.lanes[3:]))
    (consumer,) = (lane for lane in device.engine.lanes[3:] if lane.in_flight)

    def retire():
        latch.open()
        device.until(consumer.finished)
        device.engine.poll(consumer)
        assert (device.value(first), device.value(second)) == (1, 1)

    device.engine.exclusively(retire)


@pytest.mark.parametrize("call", ["close", "read", "write", "allocate", "create_latch", "lose"])
def test_a_call_in_the_middle_of_a_transfer_is_refused(rig, call):
    """As a finalizer or a signal handler makes it; to wait for the thread's own lock would be for ever."""
    device = rig(watched=True, check_locks=False)
    target = device.buffer()
    refused: list[HalError] = []
    calls = {
        "close": device.device.close,
        "read": target.read,
        "write": lambda: target.write(b"x"),
        "allocate": lambda: device.device.allocate_buffer(16),
        "create_latch": device.device.create_latch,
        "lose": lambda: device.device.inject_device_loss(HalError(StatusCode.DATA_LOSS, "lost")),
    }

    def watch(name, arguments):
        if name == "cuMemcpyDtoHAsync" and not refused:
            with pytest.raises(HalError) as caught:
                calls[call]()
            refused.append(caught.value)

    device.watched.watch = watch
    reading = device.task(target.read)
    reading.result()
    assert [error.code for error in refused] == [StatusCode.FAILED_PRECONDITION]
    assert "in the middle of another call" in refused[0].message
    target.write(b"x")


@pytest.mark.parametrize("error", [InterruptionError("a"), HalError(StatusCode.OUT_OF_RANGE, "a"), ValueError("a")])
@pytest.mark.parametrize("call", ["signal", "fail"])
def test_who_was_to_be_told_is_told_whatever_a_signal_handler_raises(rig, monkeypatch, call, error):
    device = rig()
    semaphore = device.semaphore()
    waiting, not_due = (device.task(lambda value=value: semaphore.wait(value, 5)) for value in (1, 2))
    device.until(lambda: device.engine.waiting_hosts() == 2)
    take, left = semaphore._take, [1]

    def take_and_be_interrupted(value, into):
        take(value, into)
        if left:
            left.clear()
            raise error

    monkeypatch.setattr(semaphore, "_take", take_and_be_interrupted)
    with pytest.raises(type(error)):
        semaphore.signal(1) if call == "signal" else semaphore.fail(HalError(StatusCode.ABORTED, "failed"))
    if call == "signal":
        waiting.result()
        assert device.never(lambda: device.engine.waiting_hosts() != 1)
        semaphore.signal(2)
        not_due.result()
    else:
        for each in (waiting, not_due):
            with pytest.raises(HalError, match="failed"):
                each.result()


def test_a_runtime_error_of_a_signal_handler_is_no_lack_of_threads(rig, monkeypatch):
    device = rig()
    done, calls = device.semaphore(), []
    start, starter = threading.Thread.start, threading.current_thread()

    def start_and_be_interrupted(self):
        start(self)
        if self.name == "hal-host-call" and threading.current_thread() is starter:
            raise RuntimeError("a signal handler's")

    monkeypatch.setattr(threading.Thread, "start", start_and_be_interrupted)
    with pytest.raises(RuntimeError, match="a signal handler's"):
        device.device.queue_host_call(lambda: calls.append(1), signal=[done @ 1])
    done.wait(1, 5)
    assert calls == [1]


def test_memory_whose_allocation_was_interrupted_can_be_had(rig, interrupt):
    device = rig(SimulatedDriver(memory=2**22), memory_kept=0)
    interrupt(device.driver, "cuStreamSynchronize")
    with pytest.raises(InterruptionError):
        device.buffer(3 * 2**20)
    assert device.context.allocations == {}
    device.buffer(3 * 2**20)


def test_events_of_an_interrupted_retirement_go_back(rig, monkeypatch):
    device = rig()
    target, done, latch = device.buffer(), device.semaphore(), device.hold(0)
    lane = device.lane_of(0)
    for number in range(1, 21):
        device.submit(Fill(target, 1), signal=[done @ number])
    take, interrupted, left = done.signal_from_device, threading.current_thread(), [10]

    def be_interrupted(*arguments):
        take(*arguments)
        if threading.current_thread() is interrupted:
            left[0] -= 1
            if left[0] == 0:
                raise InterruptionError

    def retire():
        latch.open()
        device.until(lambda: lane.finished() == len(lane.in_flight))
        device.engine.poll(lane)

    monkeypatch.setattr(done, "signal_from_device", be_interrupted)
    with pytest.raises(InterruptionError):
        device.engine.exclusively(retire)
    done.wait(20, 5)
    device.settles()


def test_a_wait_binds_the_context_once_for_all_its_looks(rig, monkeypatch):
    device = rig()
    target, done, latch = device.buffer(), device.semaphore(), device.hold(0)
    device.submit(Fill(target, 1), signal=[done @ 1])
    looks: list[int] = []
    binds: list[int] = []
    poll, bind = Engine.poll, Context.bind

    def look(self, lane):
        looks.append(threading.get_ident())
        return poll(self, lane)

    def note_and_bind(self):
        binds.append(threading.get_ident())
        bind(self)

    monkeypatch.setattr(Engine, "poll", look)
    monkeypatch.setattr(Context, "bind", note_and_bind)
    lane = device.lane_of(0)
    assert not device.engine.spin(lane, done, 1, 0.05, None)
    me = threading.get_ident()
    assert looks.count(me) > 10
    assert binds.count(me) == 1
    latch.open()
    done.wait(1, 5)


def test_a_submission_that_was_left_and_interrupted_is_dealt_with(rig):
    device = rig()
    done = device.semaphore()
    device.until(lambda: all(lane.asleep for lane in device.engine.lanes))
    device.engine.inbox = Interrupted()
    with pytest.raises(InterruptionError):
        device.submit(signal=[done @ 1])
    done.wait(1, 5)


def test_a_thread_that_is_interrupted_while_it_spins_lets_the_role_go(rig, monkeypatch):
    device = rig()
    held, done = device.semaphores(2)
    latch, interrupted = device.hold(0, [held @ 1]), threading.current_thread()
    poll, left = Engine.poll, [1]

    def poll_and_be_interrupted(self, lane):
        if left and threading.current_thread() is interrupted:
            left.clear()
            raise InterruptionError
        return poll(self, lane)

    monkeypatch.setattr(Engine, "poll", poll_and_be_interrupted)
    monkeypatch.setattr("pytest_cuda2hal.backends.cuda.hostwait.SPIN_SECONDS", 1.0)
    with pytest.raises(InterruptionError):
        held.wait(1, 5)
    assert not device.engine._role._is_owned()
    device.task(lambda: device.submit(signal=[done @ 1], queue=1)).result()
    done.wait(1, 5)
    latch.open()


def test_work_that_failed_to_launch_binds_nobody_after_an_interruption(rig, interrupt):
    """It is in flight, as some of it may be, and unnoted; a consumer of it must not run."""
    device = rig(check_locks=False)
    target, copy, made, done = device.buffer(), device.buffer(), device.semaphore(), device.semaphore()
    copy.write(bytes(64))
    latch, lane = device.hold(0), device.lane_of(0)
    device.submit(Fill(copy, 1), wait=[made @ 1], signal=[done @ 1])
    interrupt(lane, "accept")
    device.driver.fail("cuMemsetD8Async", 1, CUresult.CUDA_ERROR_NOT_SUPPORTED)
    with pytest.raises(InterruptionError):
        device.submit(Fill(target, 1), signal=[made @ 1])
    device.until(lambda: not device.engine.inbox)
    latch.open()
    assert "cuMemsetD8Async" in device.failure(done).message
    device.settles()
    assert copy.read() == bytes(64)


def test_a_submission_whose_end_was_interrupted_is_pending_no_more(rig, interrupt):
    """Its signals are failed, and its waits forgotten, when the exception comes."""
    device = rig(check_locks=False)
    gate, done = device.semaphores(2)
    device.submit(wait=[gate @ 1], signal=[done @ 1])
    interrupt(device.engine.timepoints, "release")
    with pytest.raises(InterruptionError):
        gate.fail(HalError(StatusCode.ABORTED, "given up"))
    assert device.failure(done).message == "given up"
    device.settles()
