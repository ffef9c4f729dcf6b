"""How finished work is noticed: by callbacks or events, with nobody waiting, on each queue for itself; and faults."""

from __future__ import annotations

import signal
import threading
import time
import weakref

import pytest

from pytest_cuda2hal.backends.cuda import completion as completion_module
from pytest_cuda2hal.backends.cuda.events import HostEvent
from pytest_cuda2hal.backends.cuda.opening import open_on
from pytest_cuda2hal.backends.cuda.parameters import Parameters
from pytest_cuda2hal.backends.cuda.simulator import CUresult
from pytest_cuda2hal.hal import Copy, Fill, HalError, StatusCode, Update, WaitMode

FAULT = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS


def mixed_work(device):
    """Submit work of every kind to two queues; return the number of submissions that go to a stream."""
    timeline, target, source = device.semaphore(), device.buffer(), device.buffer()
    commands = device.device.create_command_buffer([Fill(target, 1), Copy(source, target), Update(target, b"abc")])
    for value in range(1, 121):
        work = commands if value % 3 else [Fill(target, value)]
        waits, signals = [timeline @ (value - 1)], [timeline @ value]
        device.device.queue_execute(work, wait=waits, signal=signals, queue=value % 2)
    buffer = device.device.queue_alloca(64, wait=[timeline @ 120], signal=[timeline @ 121])
    device.device.queue_dealloca(buffer, wait=[timeline @ 121], signal=[timeline @ 122], queue=1)
    timeline.wait(122, 10)
    device.settles()
    return 122


# --- the two ways


def test_in_host_function_mode_callbacks_cause_every_retirement(rig, monkeypatch):
    monkeypatch.setattr(completion_module, "FAULT_SECONDS", 60.0)
    device = rig(completion="host-function", record_calls=True)
    submissions = mixed_work(device)
    assert device.driver.calls["cuLaunchHostFunc"] == submissions
    # A consumer's callback retires its producer too, whose own may come a little later.
    device.until(lambda: sum(lane.called for lane in device.engine.lanes) == submissions)
    assert sum(lane.retired for lane in device.engine.lanes) == submissions
    for call in ("cuEventQuery", "cuEventSynchronize", "cuStreamQuery"):
        assert call not in device.driver.calls
    assert device.driver.violations == []  # a call inside a host function is one


def test_in_host_function_mode_each_callback_is_ordered_after_its_event(rig):
    device = rig(completion="host-function", record_calls=True)
    mixed_work(device)
    streams = {lane.stream for lane in device.engine.lanes}
    names = ("cuEventRecord", "cuStreamWaitEvent", "cuLaunchHostFunc")
    log = [entry for entry in device.driver.log if entry[0] in names]
    for place, (name, arguments) in enumerate(log):
        if name != "cuLaunchHostFunc":
            continue
        waited, (stream, event, _) = log[place - 1]
        assert arguments[0] not in streams  # it holds up nothing
        assert waited == "cuStreamWaitEvent"
        assert stream is arguments[0]
        assert any(one == "cuEventRecord" and given[0] is event for one, given in log[: place - 1])


def test_in_event_mode_no_host_function_is_ever_launched(rig):
    device = rig(completion="event")
    mixed_work(device)
    assert "cuLaunchHostFunc" not in device.driver.calls
    assert not any(lane.called for lane in device.engine.lanes)
    assert device.driver.calls["cuEventQuery"] + device.driver.calls["cuEventSynchronize"] > 0


def test_a_waiter_never_blocks_in_the_driver(rig, completion):
    device = rig(completion=completion, watched=True)
    done, started = device.semaphore(), threading.Event()
    device.hold(0, [done @ 1])
    blocking: list[str] = []

    def look(name, arguments):
        if name.endswith("Synchronize") and threading.current_thread() is waiting.thread:
            blocking.append(name)

    waiting = device.task(lambda: started.wait(5) and done.wait(1, 0.05))
    device.watched.watch = look
    started.set()
    with pytest.raises(HalError, match="DEADLINE_EXCEEDED"):
        waiting.result()
    assert blocking == []


def test_close_waits_for_a_callback_that_has_not_returned(rig, monkeypatch):
    device = rig(completion="host-function")
    done, lingers, let_go = device.semaphore(), threading.Event(), threading.Event()
    latch, lane = device.hold(0, [done @ 1]), device.lane_of(0)
    set_alarm = HostEvent.set

    def linger(event):
        set_alarm(event)
        if device.driver.engine.thread_state.in_host_function:
            lingers.set()
            let_go.wait(5)

    monkeypatch.setattr(HostEvent, "set", linger)
    latch.open()
    assert lingers.wait(5)
    done.wait(1, 5)  # its completer was told, though the driver is not through with the function
    closing = device.task(device.device.close)
    assert device.never(lambda: closing.done)
    let_go.set()
    closing.result()
    assert lane.called == 1
    assert device.driver.violations == []


# --- progress needs no caller


def test_with_nobody_waiting_finished_work_lets_go_of_what_it_used(rig, completion):
    device = rig(completion=completion)
    latch, target = device.hold(), device.buffer()
    reference = weakref.ref(target)
    device.submit(Fill(target, 1))
    del target
    assert device.never(lambda: reference() is None)
    latch.open()
    device.dies(reference)


def test_with_nobody_waiting_chains_go_on_across_queues(rig, completion):
    device = rig(completion=completion)
    timeline, target = device.semaphore(), device.buffer(4)
    latch = device.hold(0, [timeline @ 1])
    for value in range(2, 12):
        device.submit(Fill(target, value), wait=[timeline @ (value - 1)], signal=[timeline @ value], queue=value % 2)
    latch.open()
    device.until(lambda: device.value(timeline) == 11)
    assert target.read() == bytes([11] * 4)


def test_with_nobody_waiting_a_host_call_is_made_and_signals(rig, completion):
    device = rig(completion=completion)
    produced, done = device.semaphores(2)
    called: list[str] = []
    latch = device.hold(0, [produced @ 1])
    device.device.queue_host_call(
        lambda: called.append(threading.current_thread().name), wait=[produced @ 1], signal=[done @ 1]
    )
    assert device.never(lambda: called)
    latch.open()
    device.until(lambda: device.value(done) == 1)
    assert called == ["hal-host-call"]  # on a thread of its own: no completer, and none of the driver's


def test_with_nobody_waiting_memory_is_given_back(rig, completion):
    device = rig(completion=completion, memory=2**20)
    latch = device.latch()
    there = device.semaphore()
    first = device.device.queue_alloca(2**20, signal=[there @ 1])
    there.wait(1, 5)
    hold = device.hold()
    device.device.queue_dealloca(first)
    again = device.semaphore()
    device.device.queue_alloca(2**19, wait=[], signal=[again @ 1])
    assert device.value(again) == 0
    hold.open()
    device.until(lambda: device.value(again) == 1)
    latch.open()


def test_one_queue_completes_while_another_is_held(rig, completion):
    device = rig(completion=completion)
    held, done, target = device.semaphore(), device.semaphore(), device.buffer()
    device.hold(0, [held @ 1])
    for value in range(1, 21):
        device.submit(Fill(target, value), signal=[done @ value], queue=1)
    device.until(lambda: device.value(done) == 20)
    assert device.value(held) == 0


# --- waits for work that does not come


def test_a_wait_for_a_held_producer_runs_out(rig, completion):
    device = rig(completion=completion)
    done = device.semaphore()
    latch = device.hold(0, [done @ 1])
    for timeout in (0, 0.00001, 0.02):
        began = time.monotonic()
        with pytest.raises(HalError, match="DEADLINE_EXCEEDED"):
            done.wait(1, timeout)
        assert timeout <= time.monotonic() - began < timeout + 2
    assert done.waiting() == 0
    assert not device.engine.sleepers
    latch.open()
    done.wait(1, 5)


@pytest.mark.parametrize("mode", WaitMode)
def test_a_wait_for_a_held_producer_is_failed(rig, completion, mode):
    device = rig(completion=completion)
    done, other = device.semaphores(2)
    latch = device.hold(0, [done @ 1, other @ 1])
    waiting = device.task(lambda: device.device.wait_semaphores([done @ 1, other @ 1], mode=mode, timeout=5))
    device.until(lambda: device.engine.sleepers)
    done.fail(HalError(StatusCode.ABORTED, "enough"))
    with pytest.raises(HalError, match="ABORTED: enough"):
        waiting.result()
    latch.open()
    other.wait(1, 5)


class Interruption(Exception):
    """What a signal handler raises."""


@pytest.fixture
def interrupt():
    """Raise :class:`Interruption` in the main thread once a condition holds."""

    def handler(number, frame):
        raise Interruption

    before = signal.signal(signal.SIGUSR1, handler)
    main = threading.main_thread().ident
    assert main is not None

    def when(device, condition):
        def kill():
            device.until(condition)
            signal.pthread_kill(main, signal.SIGUSR1)

        return device.task(kill)

    yield when
    signal.signal(signal.SIGUSR1, before)


def test_a_wait_is_interrupted_and_everything_goes_on(rig, completion, interrupt):
    device = rig(completion=completion)
    done, after = device.semaphores(2)
    latch = device.hold(0, [done @ 1])
    device.submit(wait=[done @ 1], signal=[after @ 1], queue=1)
    interrupting = interrupt(device, lambda: done.waiting() and device.engine.sleepers)
    with pytest.raises(Interruption):
        done.wait(1, 10)
    interrupting.result()
    assert not device.engine.sleepers
    with pytest.raises(HalError, match="DEADLINE_EXCEEDED"):
        done.wait(1, 0.01)
    latch.open()
    after.wait(1, 5)
    done.wait(1, 0)
    device.settles()


@pytest.mark.usefixtures("quiet_threads")
def test_a_signal_is_interrupted_while_it_issues_and_what_waits_is_made_all_the_same(rig, completion):
    device = rig(completion=completion, watched=True)
    done, target, later = device.semaphore(), device.buffer(), device.semaphore()
    gate = device.semaphore()
    device.submit(wait=[gate @ 1], signal=[done @ 1])

    def interrupted(name, arguments):
        if name == "cuEventCreate":
            device.watched.watch = None
            raise Interruption  # as a signal handler does, at any point of the main thread

    device.watched.watch = interrupted
    with pytest.raises(Interruption):
        gate.signal(1)
    done.wait(1, 5)
    device.submit(Fill(target, 3), signal=[later @ 1])
    later.wait(1, 5)
    device.settles()


# --- faults


def fault_everything(device):
    """Lose the device with work running, queued and pending, and threads waiting; return the semaphores."""
    running, queued, pending, dependent, gate = device.semaphores(5)
    target = device.buffer()
    device.hold(0, [running @ 1])
    device.submit(Fill(target, 1), signal=[queued @ 1])
    device.submit(wait=[gate @ 1], signal=[pending @ 1])
    device.submit(wait=[running @ 1], signal=[dependent @ 1], queue=1)
    waiting = device.task(lambda: running.wait(1, 10))
    device.until(lambda: device.engine.sleepers)
    device.driver.inject_fault(FAULT)
    return waiting, [running, queued, pending, dependent]


def test_after_a_fault_everything_fails_within_a_second(rig, completion):
    device = rig(completion=completion)
    waiting, semaphores = fault_everything(device)
    with pytest.raises(HalError, match="DATA_LOSS: CUDA_ERROR_ILLEGAL_ADDRESS"):
        waiting.result(1.5)
    for semaphore in semaphores:
        error = device.failure(semaphore, timeout=1)
        assert error.code is StatusCode.DATA_LOSS
        assert "CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)" in error.message


def test_after_a_fault_with_nobody_waiting_everything_fails_within_a_second(rig, completion):
    device = rig(completion=completion)
    done, pending, gate = device.semaphores(3)
    device.hold(0, [done @ 1])
    device.submit(wait=[gate @ 1], signal=[pending @ 1])
    device.driver.lose(FAULT)
    device.until(lambda: device.value(done) is None and device.value(pending) is None, 1.5)


def test_after_a_fault_later_submissions_fail_and_close_returns(rig, completion):
    device = rig(completion=completion)
    target = device.buffer()
    _, semaphores = fault_everything(device)
    device.failure(semaphores[0])
    late, call = device.semaphores(2)
    device.submit(Fill(target, 1), signal=[late @ 1])
    device.device.queue_host_call(lambda: None, signal=[call @ 1])
    assert device.failure(late).code is device.failure(call).code is StatusCode.DATA_LOSS
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in device.failure(late).message
    with pytest.raises(HalError):
        target.read()
    device.close()


def test_a_fault_in_the_order_of_a_stream_leaves_what_was_signaled(rig, completion):
    device = rig(completion=completion)
    before, after = device.semaphores(2)
    device.submit(signal=[before @ 1])
    before.wait(1, 5)
    device.driver.inject_fault(FAULT, device.lane_of(0).stream)
    device.submit(signal=[after @ 1])
    assert device.failure(after).code is StatusCode.DATA_LOSS
    assert before.query() == 1


def test_a_fault_that_a_launch_meets_fails_everything(rig, completion):
    device = rig(completion=completion)
    done, pending, gate = device.semaphores(3)
    device.submit(wait=[gate @ 1], signal=[pending @ 1])
    target = device.buffer()
    device.driver.lose(FAULT)
    device.submit(Fill(target, 1), signal=[done @ 1])
    assert device.failure(done).code is device.failure(pending).code is StatusCode.DATA_LOSS


@pytest.mark.parametrize("while_open", [True, False], ids=["while the first is open", "after it was closed"])
def test_no_device_opens_in_a_process_that_a_fault_has_ruined(rig, completion, while_open):
    device = rig(completion=completion)
    driver = device.driver
    kept = driver.cuDevicePrimaryCtxRetain(driver.cuDeviceGet(0)[1])  # as keep_primary_context does
    assert not kept[0]
    waiting, _ = fault_everything(device)
    with pytest.raises(HalError):
        waiting.result()
    if not while_open:
        device.close()
    with pytest.raises(HalError, match="start a new process") as caught:
        open_on(driver, ordinal=0, parameters=Parameters(completion=completion), versions={})
    assert caught.value.code is StatusCode.DATA_LOSS


def test_an_injected_loss_is_a_loss(rig, completion):
    device = rig(completion=completion)
    done, late = device.semaphores(2)
    device.hold(0, [done @ 1])
    device.device.inject_device_loss(HalError(StatusCode.UNAVAILABLE, "unplugged"))
    device.submit(signal=[late @ 1])
    assert [device.failure(one).message for one in (done, late)] == ["unplugged"] * 2


# --- a callback that never comes


def test_work_whose_callback_cannot_be_launched_lets_go_before_what_follows_it(rig):
    """The completer looks at the oldest work, which is done; of what is behind it, it says nothing."""
    device = rig(completion="host-function")
    target, lost, held = device.buffer(), device.semaphore(), device.semaphore()
    device.driver.fail("cuLaunchHostFunc", 1, CUresult.CUDA_ERROR_NOT_SUPPORTED)
    device.submit(Fill(target, 1), signal=[lost @ 1])
    assert "cuLaunchHostFunc" in device.failure(lost).message
    latch = device.hold(0, [held @ 1])
    device.until(lambda: len(device.lane_of(0).in_flight) == 1)
    assert device.never(lambda: device.value(held) != 0)
    latch.open()
    held.wait(1, 5)
    device.settles()
