"""Turns with the engine's role: what a thread does in its own, what it leaves to others, and what it must not do."""

from __future__ import annotations

import threading

import pytest

from pytest_cuda2hal.backends.cuda.actions import HostCallAction
from pytest_cuda2hal.backends.cuda.completion import EventCompleter
from pytest_cuda2hal.backends.cuda.engine import Engine
from pytest_cuda2hal.hal import Fill, HalError, Hold, StatusCode

MIB = 2**20
SPIN_SECONDS = "pytest_cuda2hal.backends.cuda.hostwait.SPIN_SECONDS"
PATIENCE = "pytest_cuda2hal.backends.cuda.engine.PATIENCE"


class InterruptionError(Exception):
    """What a signal handler raises."""


def nothing(*arguments):
    """Do nothing."""


class Role:
    """An engine's role; something else happens where a thread does not get it at once, or is about to let it go."""

    def __init__(self, engine, *, refused=nothing, leaving=nothing):
        self._role, self._refused, self._leaving = engine._role, refused, leaving
        self._is_owned = engine._role._is_owned
        engine._role = self

    def acquire(self, blocking=True, timeout=-1):
        if self._role.acquire(False):
            return True
        self._refused(timeout)
        return blocking and self._role.acquire(True, timeout)

    def release(self):
        self._leaving()
        self._role.release()


def is_service():
    """Whether the calling thread is a device's service thread."""
    return threading.current_thread().name == "hal-service"


def rests(device):
    """Wait until every completer sleeps."""
    device.until(lambda: all(lane.asleep for lane in device.engine.lanes))


def test_an_alloca_that_a_waiting_thread_made_room_for_is_issued_though_nobody_else_takes_a_turn(rig, monkeypatch):
    device = rig(memory=4 * MIB)
    made, freed, done = device.semaphores(3)
    buffer = device.device.queue_alloca(3 * MIB, signal=[made @ 1], queue=1)
    made.wait(1, 5)
    rests(device)
    lane, retire_or_wait = device.lane_of(0), EventCompleter._retire_or_wait

    def leave_to_others(self, engine):
        if self._lane is lane:
            lane.alarm.wait(0.001)
        else:
            retire_or_wait(self, engine)

    monkeypatch.setattr(EventCompleter, "_retire_or_wait", leave_to_others)
    monkeypatch.setattr(SPIN_SECONDS, 5.0)
    latch = device.hold(0)
    device.device.queue_dealloca(buffer, signal=[freed @ 1])
    again = device.device.queue_alloca(3 * MIB, signal=[done @ 1], queue=1)
    device.until(lambda: device.engine.starved)
    latch.open()
    freed.wait(1, 5)
    device.until(lambda: device.value(done) == 1)
    again.write(b"x")


def test_a_message_left_just_before_the_service_thread_lets_go_is_dealt_with(rig):
    """Who leaves it finds the role taken, and by nobody who could be asked for it."""
    device = rig()
    gate, done = device.semaphores(2)
    device.submit(wait=[gate @ 1], signal=[done @ 1])
    rests(device)
    leaves, go = threading.Event(), threading.Event()

    def stop_once():
        if is_service() and not device.engine._is_completers and not leaves.is_set():
            leaves.set()
            assert go.wait(5)

    Role(device.engine, leaving=stop_once)
    device.engine.discard(nothing)
    assert leaves.wait(5)
    gate.signal(1)
    go.set()
    device.until(lambda: device.value(done) == 1)


def test_a_buffer_dropped_while_a_waiting_thread_looks_makes_room_for_an_alloca_that_comes_later(rig, monkeypatch):
    """The alloca waits for room on its stream; the memory is there before it is launched."""
    device = rig(memory=4 * MIB)
    target, buffer = device.buffer(), device.buffer(3 * MIB)
    held, done = device.semaphores(2)
    latch, lane = device.hold(0, [held @ 1]), device.lane_of(0)
    for _ in range(255):
        device.submit(Fill(target, 1))
    alloca = device.device.queue_alloca(3 * MIB, signal=[done @ 1])
    device.until(lambda: lane.backlog)
    device.until(lambda: device.driver.calls["cuEventSynchronize"] == 1)
    poll, looks, go, is_refused = Engine.poll, threading.Event(), threading.Event(), threading.Event()

    def poll_and_stop(self, lane):
        count = poll(self, lane)
        if threading.current_thread().name == "looking":
            looks.set()
            assert go.wait(5)
        return count

    def look():
        threading.current_thread().name = "looking"
        while not looks.is_set():  # somebody else may have the role at first
            device.engine.spin(lane, held, 1, 0.0, None)

    def note_refusal(timeout):
        if is_service():
            is_refused.set()

    monkeypatch.setattr(Engine, "poll", poll_and_stop)
    Role(device.engine, refused=note_refusal)
    looking = device.task(look)
    assert looks.wait(5)
    del buffer
    try:
        assert is_refused.wait(5)
    finally:
        go.set()
    looking.result()
    device.until(lambda: device.engine.memory.in_use < MIB)
    latch.open()
    done.wait(1, 5)
    alloca.write(b"x")


def test_who_submits_a_call_that_queues_itself_again_and_again_is_let_go(rig, monkeypatch):
    device = rig()
    is_over, start = threading.Event(), threading.Thread.start
    calls: list[int] = []

    def start_and_let_it_queue_the_next(thread):
        before = len(calls)
        start(thread)
        if thread.name == "hal-host-call":
            device.until(lambda: len(calls) > before)

    def call():
        if not is_over.is_set():
            device.device.queue_host_call(call)
        calls.append(1)

    monkeypatch.setattr(threading.Thread, "start", start_and_let_it_queue_the_next)
    monkeypatch.setattr(PATIENCE, 20)
    submitting = device.task(lambda: device.device.queue_host_call(call))
    try:
        submitting.result()
    finally:
        is_over.set()
    device.settles()


def test_what_a_thread_does_in_a_turn_has_an_end_whatever_comes_meanwhile(rig):
    device = rig()
    is_over = threading.Event()

    class Again:
        def advance(self, engine):
            if not is_over.is_set():
                engine.inbox.append(self)

    device.engine.inbox.append(Again())
    turn = device.task(device.engine.turn)
    try:
        turn.result()
    finally:
        is_over.set()


def test_a_wait_in_the_middle_of_a_turn_retires_nothing(rig):
    """As a finalizer or a signal handler makes it; what the turn is at is not to change under its hands."""
    device = rig(check_locks=False)
    held = device.semaphore()
    latch, lane = device.hold(0, [held @ 1]), device.lane_of(0)

    def wait():
        latch.open()
        device.until(lane.finished)
        with pytest.raises(HalError) as caught:
            held.wait(1, 0.02)
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        assert len(lane.in_flight) == 1

    device.engine.exclusively(wait)
    held.wait(1, 5)


def test_what_finalizers_count_does_not_pile_up(rig):
    device = rig()
    done = device.semaphore()
    rests(device)
    for _ in range(1100):
        device.semaphore()
    device.submit(signal=[done @ 1])
    done.wait(1, 5)
    assert len(device.engine.semaphores_gone) <= 1000
    assert device.device.statistics().semaphores == 1


def test_an_interruption_while_one_waits_for_a_completer_to_leave_the_role_comes_out_as_itself(rig):
    device = rig()
    done, interrupted = device.semaphore(), threading.current_thread()
    holds, go = threading.Event(), threading.Event()

    def hold():
        holds.set()
        assert go.wait(5)

    def be_interrupted(timeout):
        if timeout > 0 and threading.current_thread() is interrupted:
            raise InterruptionError

    holding = device.task(lambda: device.engine.exclusively(hold))
    assert holds.wait(5)
    Role(device.engine, refused=be_interrupted)
    try:
        with pytest.raises(InterruptionError):
            device.submit(signal=[done @ 1])
    finally:
        go.set()
    holding.result()
    device.until(lambda: device.value(done) == 1)


@pytest.mark.parametrize("max_in_flight", [400, 1019])
@pytest.mark.parametrize("in_a_buffer", [False, True], ids=["list", "command buffer"])
def test_who_submits_more_than_a_stream_takes_is_not_blocked_by_its_own_hold(rig, max_in_flight, in_a_buffer):
    device = rig(max_in_flight=max_in_flight)
    target, done, latch = device.buffer(), device.semaphore(), device.latch()
    commands = [Hold(latch), *(Fill(target, number % 256) for number in range(2000))]
    work = [device.device.create_command_buffer(commands)] if in_a_buffer else commands
    device.task(lambda: device.submit(*work, signal=[done @ 1])).result()
    assert device.never(lambda: device.value(done))
    latch.open()
    done.wait(1, 5)
    assert target.read(0, 1) == bytes([1999 % 256])


@pytest.mark.parametrize("end", ["close", "loss"])
def test_a_host_call_that_has_not_begun_is_not_made_when_its_signals_have_failed(rig, monkeypatch, end):
    """Its thread runs already, and has not come to the call."""
    device = rig()
    done, calls, call = device.semaphore(), [], HostCallAction._call
    begins, go = threading.Event(), threading.Event()

    def stop_and_call(self, engine):
        begins.set()
        assert go.wait(5)
        call(self, engine)

    monkeypatch.setattr(HostCallAction, "_call", stop_and_call)
    device.device.queue_host_call(lambda: calls.append(1), signal=[done @ 1])
    assert begins.wait(5)
    if end == "close":
        device.device.close()
    else:
        device.device.inject_device_loss(HalError(StatusCode.DATA_LOSS, "lost"))
    assert device.value(done) is None
    go.set()
    device.until(lambda: not device.engine.host_calls)
    assert calls == []
