"""Every driver call may fail, while a device is opened and while work is issued, and nobody hangs or leaks for it."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter

import pytest

from pytest_cuda2hal.backends.cuda.actions import State
from pytest_cuda2hal.backends.cuda.context import Context
from pytest_cuda2hal.backends.cuda.opening import open_on
from pytest_cuda2hal.backends.cuda.parameters import Parameters
from pytest_cuda2hal.backends.cuda.simulator import CUresult, SimulatedDriver
from pytest_cuda2hal.hal import BackendUnavailable, Copy, Fill, HalError, Hold, StatusCode, Update

REFUSED = CUresult.CUDA_ERROR_NOT_SUPPORTED


def one_command(make):
    """Submit one command on a buffer."""

    def submit(device, done, fail):
        command = make(device.buffer(4096))
        fail()
        device.submit(command, signal=[done @ 1])

    return submit


def graph(device, done, fail):
    commands = device.device.create_command_buffer([Fill(device.buffer(), 1), Update(device.buffer(), b"x")])
    fail()
    device.submit(commands, signal=[done @ 1])


def consumer(device, done, fail):
    produced = device.semaphore()
    device.hold(0, [produced @ 1])
    fail()
    device.submit(wait=[produced @ 1], signal=[done @ 1], queue=1)


def barrier(device, done, fail):
    fail()
    device.submit(signal=[done @ 1])


def hold(device, done, fail):
    latch = device.latch()
    fail()
    device.submit(Hold(latch), signal=[done @ 1])


def alloca(device, done, fail):
    fail()
    device.device.queue_alloca(256, signal=[done @ 1])


def dealloca(device, done, fail):
    there = device.semaphore()
    buffer = device.device.queue_alloca(256, signal=[there @ 1])
    there.wait(1, 5)
    device.until(lambda: device.device.statistics().in_flight == 0)
    fail()
    device.device.queue_dealloca(buffer, signal=[done @ 1])


def large_update(device, done, fail):
    update = Update(device.buffer(2**20), bytes(2**20))
    fail()
    device.submit(update, signal=[done @ 1])


CALLS = {
    "cuMemsetD8Async": one_command(lambda buffer: Fill(buffer, 1)),
    "cuMemsetD16Async": one_command(lambda buffer: Fill(buffer, b"ab")),
    "cuMemsetD32Async": one_command(lambda buffer: Fill(buffer, b"abcd")),
    "cuMemcpyDtoDAsync": one_command(lambda buffer: Copy(buffer, buffer, 0, 64, 64)),
    "cuMemcpyHtoDAsync": one_command(lambda buffer: Update(buffer, b"xyz")),
    "cuStreamWaitValue32": hold,
    "cuStreamBeginCapture": graph,
    "cuGraphInstantiate": graph,
    "cuGraphLaunch": graph,
    "cuEventCreate": barrier,
    "cuEventRecord": barrier,
    "cuMemAllocFromPoolAsync": alloca,
    "cuMemFreeAsync": dealloca,
    "cuMemHostAlloc": large_update,
    "cuMemHostGetDevicePointer": large_update,
}


def fails_and_leaves_nothing(device, name, submit):
    """A failing call of an issue fails its submission, and only that."""
    done = device.semaphore()
    downstream = device.semaphore()
    device.submit(wait=[done @ 1], signal=[downstream @ 1], queue=1)
    submit(device, done, lambda: device.driver.fail(name, error=REFUSED))
    for semaphore in (done, downstream):
        error = device.failure(semaphore)
        assert name in error.message
        assert "CUDA_ERROR_NOT_SUPPORTED" in error.message
        assert error.code is StatusCode.UNIMPLEMENTED
    unrelated, target = device.semaphore(), device.buffer()
    for value in range(1, 4):
        device.submit(Fill(target, value), signal=[unrelated @ value], queue=1)
        unrelated.wait(value, 5)
    assert target.read() == bytes([3] * 64)
    device.open_latches()
    device.settles()
    del target
    device.until(lambda: device.device.statistics().buffers == 0)
    assert device.device.statistics().memory_in_use == 0
    device.close()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_fails_fails_its_submission_and_only_that(rig, completion, name):
    device = rig(completion=completion)
    fails_and_leaves_nothing(device, name, CALLS[name])


def test_a_capture_that_fails_leaves_nothing_to_the_garbage_collector(rig, completion):
    device = rig(completion=completion)
    gc.disable()
    try:
        fails_and_leaves_nothing(device, "cuStreamBeginCapture", CALLS["cuStreamBeginCapture"])
    finally:
        gc.enable()


def test_a_wait_for_a_producer_that_fails_fails_its_submission_and_only_that(rig):
    fails_and_leaves_nothing(rig(), "cuStreamWaitEvent", consumer)


@pytest.mark.parametrize("name", ["cuStreamWaitEvent", "cuLaunchHostFunc"])
def test_a_callback_that_cannot_be_ordered_fails_its_submission_and_only_that(rig, name):
    device = rig(completion="host-function")
    fails_and_leaves_nothing(device, name, barrier)


@pytest.mark.parametrize("name", ["cuEventCreate", "cuEventRecord"])
def test_a_device_that_nobody_closes_goes_although_its_work_could_not_be_recorded(completion, name):
    driver = SimulatedDriver()
    device = open_on(driver, ordinal=0, parameters=Parameters(completion=completion, check_locks=True), versions={})
    done, buffer = device.create_semaphore(0), device.allocate_buffer(64)
    driver.fail(name, error=REFUSED)
    device.queue_execute([Fill(buffer, 1)], signal=[done @ 1])
    with pytest.raises(HalError, match=name):
        done.wait(1, 5)
    del device, done, buffer
    end = time.monotonic() + 5
    while driver.contexts and time.monotonic() < end:
        gc.collect()
        time.sleep(0.001)
    assert driver.contexts == {}
    assert driver.violations == []


@pytest.mark.parametrize("name", ["cuMemsetD8Async", "cuMemcpyHtoDAsync", "cuGraphInstantiate"])
def test_a_capture_is_ended_whatever_fails_in_it(rig, completion, name):
    device = rig(completion=completion)
    target = device.buffer(4)
    commands = device.device.create_command_buffer([Fill(target, 1), Update(target, b"x")])
    done, failed = device.semaphores(2)
    device.driver.fail(name, error=REFUSED)
    device.submit(commands, signal=[failed @ 1])
    assert name in device.failure(failed).message
    device.submit(commands, signal=[done @ 1])
    done.wait(1, 5)
    assert target.read() == b"x\1\1\1"
    device.settles()
    assert device.driver.live()["CUgraph"] == 0


def test_a_capture_that_became_invalid_fails_its_submission_and_only_that(rig, completion):
    device = rig(completion=completion, watched=True)
    commands = device.device.create_command_buffer([Fill(device.buffer(), 1), Update(device.buffer(), b"x")])
    done, failed = device.semaphores(2)

    def invalidate(name, arguments):
        if name == "cuStreamEndCapture":
            arguments[0].capture.invalidated = True

    device.watched.watch = invalidate
    device.submit(commands, signal=[failed @ 1])
    message = device.failure(failed).message
    assert "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" in message
    assert "cuStreamEndCapture" in message
    device.watched.watch = None
    device.submit(commands, signal=[done @ 1])
    done.wait(1, 5)
    device.settles()


@pytest.mark.parametrize("nth", range(1, 6))
@pytest.mark.parametrize("name", ["cuMemsetD8Async", "cuEventRecord"])
def test_a_failure_in_the_middle_leaves_what_comes_before_and_after(rig, completion, name, nth):
    device = rig(completion=completion)
    gate, target = device.semaphore(), device.buffer()
    dones = device.semaphores(5)
    for done in dones:
        device.submit(Fill(target, 1), wait=[gate @ 1], signal=[done @ 1])
    device.driver.fail(name, nth, REFUSED)
    gate.signal(1)
    for number, done in enumerate(dones, 1):
        if number == nth:
            assert name in device.failure(done).message
        else:
            done.wait(1, 5)
    device.settles()


def test_the_signaler_hears_nothing_of_what_fails_by_it(rig):
    device = rig()
    gate, done = device.semaphores(2)
    device.submit(Fill(device.buffer(), 1), wait=[gate @ 1], signal=[done @ 1])
    device.driver.fail("cuMemsetD8Async", error=REFUSED)
    gate.signal(1)
    assert "cuMemsetD8Async" in device.failure(done).message


def test_what_was_issued_before_a_failing_command_is_waited_for(rig, completion):
    device = rig(completion=completion)
    latch, done = device.latch(), device.semaphore()
    target = device.buffer()
    device.driver.fail("cuMemcpyHtoDAsync", error=REFUSED)
    device.submit(Fill(target, 7), Hold(latch), Update(target, b"never"), signal=[done @ 1])
    address = target._address
    del target
    device.engine.turn()
    assert device.never(lambda: device.driver.calls["cuMemFreeAsync"])
    latch.open()
    assert "cuMemcpyHtoDAsync" in device.failure(done).message
    device.settles()
    device.until(lambda: device.engine.turn() or device.driver.calls["cuMemFreeAsync"] == 1)
    assert address not in device.context.allocations


def test_the_first_of_two_failing_calls_is_told(rig, completion):
    device = rig(completion=completion)
    done = device.semaphore()
    device.driver.fail("cuMemsetD8Async", error=REFUSED)
    device.driver.fail("cuEventRecord", error=CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    device.submit(Fill(device.buffer(), 1), signal=[done @ 1])
    assert "cuMemsetD8Async" in device.failure(done).message


@pytest.mark.parametrize(
    ("completion", "call"),
    [("event", "cuMemsetD8Async"), ("event", "cuEventRecord"), ("host-function", "cuLaunchHostFunc")],
)
def test_a_fault_that_one_call_is_told_of_is_a_loss_though_no_other_is(rig, completion, call):
    device = rig(completion=completion)
    target, done, later = device.buffer(), device.semaphore(), device.semaphore()
    device.driver.fail(call, 1, CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
    device.submit(Fill(target, 1), signal=[done @ 1])
    device.submit(signal=[later @ 1], queue=1)
    for semaphore in (done, later):
        assert call in device.failure(semaphore).message


def test_what_a_launch_that_lost_the_device_uses_is_kept(rig):
    """Some of it may run: nobody lets go of it though two calls fail for it."""
    device = rig()
    target, done = device.buffer(), device.semaphore()
    for call in ("cuMemsetD8Async", "cuEventRecord"):
        device.driver.fail(call, 1, CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
    device.submit(Fill(target, 1), signal=[done @ 1])
    assert "cuMemsetD8Async" in device.failure(done).message
    device.engine.exclusively(lambda: None)  # after whoever is at it
    assert [work.state for work in device.engine.abandoned] == [State.ABANDONED]


def test_an_argument_that_the_bindings_refuse_fails_its_submission_and_only_that(rig):
    device = rig(watched=True)
    target, done, after = device.buffer(), device.semaphore(), device.semaphore()

    def refuse(name, arguments):
        if name == "cuMemsetD8Async":
            device.watched.watch = None
            raise OverflowError("an int too large to convert")

    device.watched.watch = refuse
    device.submit(Fill(target, 1), signal=[done @ 1])
    error = device.failure(done)
    assert error.code is StatusCode.INTERNAL
    assert error.message == "OverflowError: an int too large to convert"
    device.submit(Fill(target, 2), signal=[after @ 1])
    after.wait(1, 5)
    device.settles()


def test_memory_that_cannot_be_had_at_once_is_an_error_that_says_so(rig):
    device = rig()
    device.driver.fail("cuMemAllocFromPoolAsync", error=CUresult.CUDA_ERROR_UNKNOWN)
    with pytest.raises(HalError, match=r"CUDA_ERROR_UNKNOWN .* from cuMemAllocFromPoolAsync"):
        device.buffer()
    assert device.device.statistics().memory_in_use == 0
    device.buffer()


@pytest.mark.parametrize("name", ["cuMemcpyDtoHAsync", "cuMemcpyHtoDAsync", "cuStreamSynchronize"])
def test_a_failing_copy_past_the_queues_is_an_error_that_names_the_call(rig, name):
    device = rig()
    buffer = device.buffer()
    device.driver.fail(name, error=REFUSED)
    with pytest.raises(HalError, match=rf"CUDA_ERROR_NOT_SUPPORTED .* from {name}"):
        buffer.write(b"abc") if name == "cuMemcpyHtoDAsync" else buffer.read()
    buffer.write(b"abc")


# --- while a device is opened


OPENING = [
    *("cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"),
    *("cuDeviceTotalMem", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuStreamCreate", "cuEventCreate"),
    *("cuMemPoolCreate", "cuMemPoolSetAttribute", "cuMemHostAlloc", "cuMemHostGetDevicePointer"),
]


def calls_of_opening(watch, completion):
    """Count the calls of the thread that opens a device; the completers' own are not its."""
    driver = SimulatedDriver()
    watched = watch(driver)
    calls: Counter[str] = Counter()
    opener = threading.current_thread()
    watched.watch = lambda name, arguments: calls.update([name] if threading.current_thread() is opener else [])
    device = open_on(watched, ordinal=0, parameters=Parameters(completion=completion), versions={})
    made = calls.copy()
    device.close()
    return made


def test_every_call_of_opening_is_tried(watch, completion):
    assert set(calls_of_opening(watch, completion)) <= set(OPENING)


@pytest.mark.parametrize("name", OPENING)
def test_a_device_that_cannot_be_opened_leaves_nothing(watch, completion, name):
    for n in range(1, calls_of_opening(watch, completion)[name] + 1):
        driver = SimulatedDriver()
        driver.fail(name, n, REFUSED)
        before = threading.active_count()
        with pytest.raises((HalError, BackendUnavailable), match="CUDA_ERROR_NOT_SUPPORTED"):
            open_on(driver, ordinal=0, parameters=Parameters(completion=completion, check_locks=True), versions={})
        assert driver.live() == {}
        assert driver.contexts == {}
        assert driver.violations == []
        assert threading.active_count() <= before + 2  # the simulated driver's, which are ending
        open_on(driver, ordinal=0, parameters=Parameters(), versions={}).close()
        assert driver.violations == []


@pytest.mark.parametrize("nth", range(1, 7))
def test_a_device_whose_threads_cannot_be_started_leaves_nothing(monkeypatch, completion, nth):
    driver = SimulatedDriver()
    start, started = threading.Thread.start, []

    def sometimes(thread):
        if thread.name.startswith("hal-lane"):
            started.append(thread)
            if len(started) == nth:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", sometimes)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        open_on(driver, ordinal=0, parameters=Parameters(completion=completion, check_locks=True), versions={})
    for thread in started[:-1]:
        thread.join(5)
        assert not thread.is_alive()
    assert driver.contexts == {}
    assert driver.violations == []


@pytest.mark.usefixtures("quiet_threads")
def test_a_completer_that_cannot_make_the_context_current_is_no_silent_loss():
    driver = SimulatedDriver()
    driver.fail("cuCtxSetCurrent", 2, REFUSED)
    with pytest.raises((HalError, BackendUnavailable), match="CUDA_ERROR_NOT_SUPPORTED"):
        open_on(driver, ordinal=0, parameters=Parameters(), versions={}).close()


def test_a_host_call_that_found_no_thread_is_not_made_by_one_that_begins_later(rig, monkeypatch):
    """A RuntimeError of a signal handler, before the thread is noted to run, cannot be told from a lack of threads."""
    device = rig()
    done, calls, late = device.semaphore(), [], []
    start = threading.Thread.start

    def begin_later(thread):
        if thread.name != "hal-host-call":
            start(thread)
            return
        late.append(thread)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", begin_later)
    device.device.queue_host_call(lambda: calls.append(1), signal=[done @ 1])
    assert device.failure(done).code is StatusCode.RESOURCE_EXHAUSTED
    for thread in late:
        start(thread)
        thread.join(5)
    assert len(late) == 1
    assert calls == []
    device.settles()


def test_a_device_whose_context_cannot_be_made_current_is_lost(rig):
    """A thread without it would have its launches refused, or made on another library's device."""
    device = rig()
    done, later = device.semaphores(2)
    device.driver.fail("cuCtxSetCurrent", 1, CUresult.CUDA_ERROR_UNKNOWN)
    device.submit(signal=[done @ 1])
    assert "cuCtxSetCurrent" in device.failure(done).message
    device.submit(signal=[later @ 1])
    assert "cuCtxSetCurrent" in device.failure(later).message


def test_a_context_that_cannot_be_made_current_at_first_is_destroyed_all_the_same():
    """Who takes down a device that nobody closed is a thread that never had its context."""
    driver = SimulatedDriver()
    context = Context(driver, 0, Parameters())
    driver.fail("cuCtxSetCurrent", 1, CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    thread = threading.Thread(target=context.destroy)
    thread.start()
    thread.join(5)
    assert driver.live() == {}
    assert driver.contexts == {}
    assert driver.violations == []


def test_a_graph_dropped_where_the_context_cannot_be_made_current_is_left_to_the_close(rig):
    """Its destruction would be refused there, and nobody would try again."""
    device = rig()
    target, done = device.buffer(4), device.semaphore()
    commands = device.device.create_command_buffer([Fill(target, 1), Fill(target, 2, 0, 1)])
    device.submit(commands, signal=[done @ 1])
    done.wait(1, 5)
    device.settles()
    assert device.driver.live()["CUgraphExec"] == 1
    device.driver.fail("cuCtxSetCurrent", 1, CUresult.CUDA_ERROR_UNKNOWN)
    del commands
    device.until(lambda: gc.collect() is None or device.engine.lost)  # the service thread: it never had the context
    device.until(lambda: not device.engine.trash)
    device.close()
    assert device.driver.live() == {}
