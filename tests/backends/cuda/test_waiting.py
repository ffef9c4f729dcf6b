"""Races between those who submit, signal, wait and fail; and messages that are left while somebody has the role."""

from __future__ import annotations

import gc
import random
import threading
import weakref

import pytest

from pytest_cuda2hal.backends.cuda.engine import Engine
from pytest_cuda2hal.hal import Fill, HalError, Hold, StatusCode, WaitMode


def test_ping_pong_between_two_threads_misses_nothing(rig):
    device = rig()
    ping, pong = device.semaphores(2)

    def answer():
        for value in range(1, 501):
            ping.wait(value, 10)
            pong.signal(value)

    answering = device.task(answer)
    for value in range(1, 501):
        ping.signal(value)
        pong.wait(value, 10)
    answering.result()


@pytest.mark.parametrize("what", ["submission", "signal", "failure", "host call", "dropped buffer"])
def test_a_message_that_finds_the_role_taken_is_not_lost(rig, completion, what):
    device = rig(completion=completion)
    gate, done = device.semaphores(2)
    buffers = [device.buffer()]
    if what in ("signal", "failure"):
        device.submit(wait=[gate @ 1], signal=[done @ 1])
    with device.role_held():
        if what == "submission":
            device.submit(Fill(buffers[0], 1), signal=[done @ 1])
        elif what == "signal":
            gate.signal(1)
        elif what == "failure":
            gate.fail(HalError(StatusCode.ABORTED, "no"))
        elif what == "host call":
            device.device.queue_host_call(lambda: None, signal=[done @ 1])
        else:
            buffers.clear()
            done.signal(1)
        assert device.value(done) == (1 if what == "dropped buffer" else 0)
    if what == "failure":
        assert device.failure(done).message == "no"
    else:
        done.wait(1, 5)
    device.settles()
    device.until(lambda: device.device.statistics().buffers == len(buffers))


class LateMessage:
    """A lock at whose first release something happens just before."""

    def __init__(self, lock, late):
        self._lock, self._late = lock, late
        self.acquire = lock.acquire
        self._is_owned = lock._is_owned

    def release(self):
        late, self._late = self._late, None
        if late is not None:
            late()
        self._lock.release()


def test_a_message_that_comes_when_the_role_is_nearly_let_go_is_not_lost(rig, monkeypatch):
    device = rig()
    gate, second = device.semaphores(2)

    def submit():
        device.task(lambda: device.submit(signal=[second @ 1])).result()

    monkeypatch.setattr(device.engine, "_role", LateMessage(device.engine._role, submit))
    device.submit(wait=[gate @ 1])  # nothing is in flight, so that no completer comes by
    monkeypatch.undo()
    device.until(lambda: device.value(second) == 1)


def test_what_a_thread_has_no_patience_for_is_done_by_a_completer(rig, completion):
    device = rig(completion=completion, check_locks=False)
    gate, last = device.semaphores(2)
    for _ in range(2500):
        device.submit(wait=[gate @ 1])
    device.submit(wait=[gate @ 1], signal=[last @ 1])
    gate.fail(HalError(StatusCode.ABORTED, "all of them"))
    device.until(lambda: device.value(last) is None)


def test_a_thread_that_finds_the_role_taken_does_not_wait_for_it(rig):
    device = rig()
    gate, done = device.semaphores(2)
    with device.role_held():
        device.task(lambda: device.submit(wait=[gate @ 1], signal=[done @ 1])).result(1)
        device.task(lambda: gate.signal(1)).result(1)
    done.wait(1, 5)


def test_the_cost_of_a_signal_does_not_grow_with_what_is_pending(rig):
    device = rig(check_locks=False)
    gate, never = device.semaphores(2)
    done = device.semaphore()
    for _ in range(3000):
        device.submit(wait=[never @ 1])
    device.submit(wait=[gate @ 1], signal=[done @ 1])
    looked = []
    look = type(gate).look

    def counted(semaphore, value):
        looked.append(semaphore)
        return look(semaphore, value)

    type(gate).look = counted
    try:
        gate.signal(1)
    finally:
        type(gate).look = look
    assert never not in looked
    assert len(looked) < 10
    done.wait(1, 5)


def test_a_semaphore_that_was_waited_for_dies_with_its_last_handle(rig):
    device = rig()
    done = device.semaphore()
    with pytest.raises(HalError):
        done.wait(1, 0.001)
    reference = weakref.ref(done)
    gc.disable()
    try:
        del done
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("seed", [1, 2])
def test_threads_that_submit_signal_wait_and_fail_all_come_through(rig, completion, seed):
    device = rig(completion=completion, seed=seed, queues=3, event_pool_capacity=2, max_in_flight=16)
    shared = device.semaphores(4)
    count = 200

    def work(number):
        choose = random.Random(100 * seed + number)
        mine, target, gate = device.semaphore(), device.buffer(), device.semaphore()
        expected = 0
        for step in range(1, count + 1):
            other = choose.choice(shared)
            waits = [mine @ expected, gate @ step] if choose.random() < 0.5 else [mine @ expected]
            device.submit(Fill(target, step % 251), wait=waits, signal=[mine @ step], queue=choose.randrange(3))
            expected = step
            gate.signal(step)
            if choose.random() < 0.3:
                device.submit(wait=[mine @ step], signal=[other @ (number * count + step)], queue=choose.randrange(3))
            if choose.random() < 0.2:
                mine.wait(step, 10)
            if choose.random() < 0.2:
                bad, hit = device.semaphore(), device.semaphore()
                device.submit(wait=[bad @ 1, mine @ step], signal=[hit @ 1], queue=choose.randrange(3))
                bad.fail(HalError(StatusCode.ABORTED, f"{number}.{step}"))
                with pytest.raises(HalError, match=f"ABORTED: {number}.{step}$"):
                    hit.wait(1, 10)
            if choose.random() < 0.2:
                points = [mine @ step, other @ (10 * count)]
                device.device.wait_semaphores(points, mode=WaitMode.ANY, timeout=10)
        mine.wait(count, 10)
        assert target.read(0, 1) == bytes([count % 251])

    workers = [device.task(lambda number=number: work(number)) for number in range(4)]
    for worker in workers:
        worker.result(20)
    device.settles()


# --- who asks a completer for the role, and what is left while a thread spins


def test_who_asks_a_completer_in_vain_leaves_the_message_to_the_service(rig):
    """The completer may have left just when the time was over; then nobody would come back to the message."""
    device = rig()
    engine, done = device.engine, device.semaphore()
    holds, let_go = threading.Event(), threading.Event()
    device.until(lambda: all(lane.asleep for lane in engine.lanes))

    def be_a_completer():
        engine._role.acquire()
        engine._is_completers = True
        holds.set()
        let_go.wait(5)
        engine._is_completers = False
        engine._role.release()  # without a look at what was left

    completer = device.task(be_a_completer)
    assert holds.wait(5)
    device.task(lambda: device.submit(signal=[done @ 1])).result()
    let_go.set()
    completer.result()
    done.wait(1, 5)


def test_what_comes_while_a_thread_spins_is_done_by_it(rig, monkeypatch):
    """The completers may be in the driver, behind the very work that it waits for."""
    device = rig()
    held, done, latch = device.semaphore(), device.semaphore(), device.latch()
    device.submit(Hold(latch), signal=[held @ 1])
    lane = device.lane_of(0)
    device.until(lambda: device.driver.calls["cuEventSynchronize"])
    poll, spinner, left = Engine.poll, threading.current_thread(), [1]

    def poll_and_be_called(self, lane):
        count = poll(self, lane)
        if left and threading.current_thread() is spinner:
            left.clear()
            device.task(lambda: device.submit(signal=[done @ 1], queue=1)).result()
        return count

    monkeypatch.setattr(Engine, "poll", poll_and_be_called)
    assert not device.engine.spin(lane, held, 1, 0.2, None)
    assert not left
    assert not device.engine.inbox
    done.wait(1, 5)
    latch.open()


def test_semaphores_that_have_gone_are_counted_before_they_are_many(rig):
    """Each leaves a note, which nobody reads while nobody asks for statistics."""
    device = rig()
    for _ in range(3000):
        done = device.semaphore()
        device.submit(signal=[done @ 1])
    done.wait(1, 5)
    del done
    device.until(lambda: not device.engine.actions)
    device.submit()  # whoever has the role counts them
    device.until(lambda: len(device.engine.semaphores_gone) < 1500)  # a thousand, and those of what has just ended
    assert device.engine.live_semaphores() == 0
    assert device.engine.live_semaphores() == 0
