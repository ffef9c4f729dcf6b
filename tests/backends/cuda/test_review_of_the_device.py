"""What a review of the device found: progress with nobody in the driver to ask, counting, memory, and odd arguments."""

from __future__ import annotations

import array
import linecache
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from pytest_cuda2hal.hal import Fault, Fill, HalError, Hold, StatusCode


class InterruptionError(Exception):
    """What a signal handler raises."""


def interrupted_at(place: int, call) -> bool:
    """Make a call, interrupted before the ``place``-th line of the device's that it runs; tell if there is one."""
    left = place

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        path = frame.f_code.co_filename
        if "/cuda/" not in path or "/simulator/" in path or path.endswith("locks.py"):
            return None
        # Leaving a `with` block is a line event of its own, where no signal is ever handled.
        if event == "line" and not linecache.getline(path, frame.f_lineno).lstrip().startswith("with "):
            left -= 1
            if left == 0:
                raise InterruptionError
        return trace

    sys.settrace(trace)
    try:
        call()
    except InterruptionError:
        return True
    finally:
        sys.settrace(None)
    return False


def code_of(semaphore) -> StatusCode:
    """Wait for value 1; return how that ended."""
    try:
        semaphore.wait(1, 5)
    except HalError as error:
        return error.code
    return StatusCode.OK


@pytest.mark.parametrize("what", ["submit", "signal", "fail"])
def test_an_interruption_at_any_line_leaves_nobody_waiting(rig, completion, what):
    """Each signal is made, or fails, and what comes after is as ever, wherever the exception came."""
    device = rig(completion=completion, check_locks=False)  # locks that check are Python, and may be interrupted inside
    target = device.buffer()
    place = 0
    while True:
        place += 1
        gate, done, after = device.semaphores(3)
        calls = {
            "submit": lambda done=done: device.submit(Fill(target, 1), signal=[done @ 1]),
            "signal": lambda gate=gate: gate.signal(1),
            "fail": lambda gate=gate: gate.fail(HalError(StatusCode.ABORTED, "given up")),
        }
        accepted = what != "submit"
        if accepted:
            device.submit(Fill(target, 2), wait=[gate @ 1], signal=[done @ 1])
        if not interrupted_at(place, calls[what]):
            break
        if accepted and device.value(gate) == 0:  # it came before anything had happened
            calls[what]()
        device.submit(Fill(target, 3), signal=[after @ 1])
        after.wait(1, 5)
        if accepted:
            code = code_of(done)
            assert code in (StatusCode.OK, StatusCode.ABORTED), f"interrupted at {place}: {code.name}"
    assert place > 30


@pytest.mark.parametrize("what", ["work", "consumer", "dealloca"])
def test_an_interruption_at_any_line_loses_nothing_where_there_is_no_room(rig, completion, what):
    """What waits for room is issued when there is some, or fails."""
    device = rig(completion=completion, check_locks=False, max_in_flight=1)
    target = device.buffer()
    place, goes_on = 0, True
    while goes_on:
        place += 1
        held, made, done = device.semaphores(3)
        buffer = device.device.queue_alloca(64, signal=[made @ 1])
        made.wait(1, 5)
        latch = device.hold(0, [held @ 1])
        call = {
            "work": lambda done=done: device.submit(Fill(target, 1), signal=[done @ 1]),
            "consumer": lambda held=held, done=done: device.submit(wait=[held @ 1], signal=[done @ 1]),
            "dealloca": lambda buffer=buffer, done=done: device.device.queue_dealloca(buffer, signal=[done @ 1]),
        }[what]
        goes_on = interrupted_at(place, call)
        latch.open()
        device.until(lambda: not device.engine.inbox)
        device.settles()  # also where it was not accepted yet
    done.wait(1, 5)
    assert place > 30
    assert not device.engine.frees_in_flight


def test_messages_are_dealt_with_though_the_completer_is_in_the_driver(rig, completion):
    device = rig(completion=completion, check_locks=False)
    gate, never, done = device.semaphores(3)
    for _ in range(2100):  # more than the thread that signals has patience for
        device.submit(wait=[gate @ 1, never @ 1], queue=1)
    device.submit(wait=[gate @ 1], signal=[done @ 1], queue=1)
    latch = device.hold(0)
    gate.signal(1)
    done.wait(1, 5)
    latch.open()
    never.signal(1)


def test_what_was_launched_before_a_command_failed_counts(rig):
    device = rig(max_in_flight=256, launch_limit=1000)
    target = device.buffer(4096)
    latch = device.hold(0)
    fails = Fault(HalError(StatusCode.ABORTED, "in the end"))

    def submit():
        for _ in range(8):
            device.submit(*(Fill(target, 1, k, 1) for k in range(200)), fails)

    device.task(submit).result()
    latch.open()
    device.settles()


@pytest.mark.parametrize("looks", [True, False])
def test_memory_that_another_thread_is_about_to_give_back_is_waited_for(rig, monkeypatch, looks):
    """Also where that one leaves the role without a look at what was dropped meanwhile, and nobody else has one."""
    device = rig(memory=2**20)
    engine, entered, leave = device.device.engine, threading.Event(), threading.Event()

    def hold():
        entered.set()
        leave.wait(10)

    def hold_without_a_look():
        with engine._role:
            hold()

    buffer = device.buffer(700_000)
    if not looks:
        monkeypatch.setattr(engine, "wake_service", lambda: None)
    holding = device.task(lambda: engine.exclusively(hold) if looks else hold_without_a_look())
    assert entered.wait(5)
    del buffer
    allocating = device.task(lambda: device.buffer(700_000))
    assert device.never(lambda: allocating.done)
    leave.set()
    assert allocating.result().size == 700_000
    holding.result()


def test_memory_of_a_buffer_just_dropped_can_be_had(rig):
    device = rig(memory=2**20)
    for _ in range(10):
        device.buffer(700_000)  # and dropped at once
        done = device.semaphore()
        taken = device.device.queue_alloca(700_000, signal=[done @ 1])
        done.wait(1, 5)
        del taken


def test_a_failure_is_heard_of_while_there_is_no_room(rig):
    device = rig(max_in_flight=1, queues=2)
    made, done = device.semaphores(2)
    latch = device.hold(0, [made @ 1])
    device.submit(wait=[made @ 1], signal=[done @ 1])
    made.fail(HalError(StatusCode.DATA_LOSS, "torn"))
    assert device.failure(done).message == "torn"
    latch.open()


def test_bytes_are_counted_whatever_is_written(rig):
    device = rig()
    buffer = device.buffer(16)
    with pytest.raises(HalError, match="OUT_OF_RANGE"):
        buffer.write(array.array("i", [7] * 16))
    buffer.write(array.array("i", [7] * 4))
    assert buffer.read() == bytes([7, 0, 0, 0]) * 4


@pytest.mark.parametrize(
    "call",
    [
        lambda device, buffer: device.queue_alloca(16.5),
        lambda device, buffer: device.allocate_buffer(True),
        lambda device, buffer: device.queue_fill(buffer, 1, offset=1.0),
        lambda device, buffer: device.queue_fill(buffer, 1, length=4.0),
        lambda device, buffer: buffer.read(0.0),
        lambda device, buffer: buffer.write(3),
        lambda device, buffer: device.queue_update(buffer, 3),
        lambda device, buffer: device.queue_execute(None),
        lambda device, buffer: device.wait_semaphores([], mode="all"),
        lambda device, buffer: device.inject_device_loss("lost"),
    ],
)
def test_a_wrong_type_is_refused_and_changes_nothing(rig, call):
    device = rig()
    buffer = device.buffer(16)
    before = device.device.statistics()
    with pytest.raises(TypeError):
        call(device.device, buffer)
    assert device.device.statistics() == before
    done = device.semaphore()
    device.submit(Hold(latch := device.latch()), signal=[done @ 1])
    latch.open()
    done.wait(1, 5)


class FourKilobytes:
    """An integer of another kind, as numpy's are."""

    def __index__(self) -> int:
        return 4096


def test_a_size_counts_as_an_int_of_whatever_kind_it_was(rig):
    device = rig()
    made = device.semaphore()
    buffers = [device.device.allocate_buffer(FourKilobytes())]
    buffers.append(device.device.queue_alloca(FourKilobytes(), signal=[made @ 1]))
    made.wait(1, 5)
    in_use = device.device.statistics().memory_in_use
    assert (type(in_use), in_use) == (int, 8192)
    assert [type(buffer.size) for buffer in buffers] == [int, int]
