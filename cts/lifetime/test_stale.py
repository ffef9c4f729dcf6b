"""Events are used again; what they once told is told to nobody else."""

from __future__ import annotations

from functools import partial

from pytest_cuda2hal.hal import Capability, StatusCode, WaitMode

from ..support import Buffers, Effort, ObservedDevice, Semaphores, clause, requires, status_of


@clause("L-4", "W-5")
def test_signal_of_a_given_up_wait_ends_no_other_wait(
    device: ObservedDevice, semaphores: Semaphores, effort: Effort
) -> None:
    """A wait for a is given up. While the next wait, for b, is under way, a is reached: that is nothing to it.

    wait(a@1) expires        wait(b@1) ……………………………… expires
                       device ──a@1──▶
    """
    for _ in range(effort.loops(50, 250)):
        a, b = semaphores(2)
        assert status_of(partial(a.wait, 1, timeout=0.0002)) is StatusCode.DEADLINE_EXCEEDED
        device.queue_execute([], signal=[a @ 1])
        code = status_of(partial(b.wait, 1, timeout=0.001))
        assert code is StatusCode.DEADLINE_EXCEEDED, f"expected the wait for b to expire, b = 0; seen {code.name}"
        a.wait(1)


@clause("L-4", "W-8")
def test_signal_of_a_given_up_value_ends_no_wait_for_a_larger_one(
    device: ObservedDevice, semaphores: Semaphores, effort: Effort
) -> None:
    """The same on one timeline: the wait for n was given up, the wait for n + 1 is under way when n is reached."""
    s = semaphores.at(0)
    for value in range(1, effort.loops(50, 250) + 1):
        assert status_of(partial(s.wait, value, timeout=0.0002)) is StatusCode.DEADLINE_EXCEEDED
        device.queue_execute([], wait=[s @ (value - 1)], signal=[s @ value])
        code = status_of(partial(s.wait, value + 1, timeout=0.001))
        assert code is StatusCode.DEADLINE_EXCEEDED, f"expected the wait for {value + 1} to expire; seen {code.name}"
        s.wait(value)


@clause("L-4", "W-12")
@requires(Capability.WAIT_ANY)
def test_second_member_of_a_wait_any_ends_no_other_wait(
    device: ObservedDevice, semaphores: Semaphores, effort: Effort
) -> None:
    """Both members of a wait-any are reached at nearly the same time; the late one ends no wait that follows.

    wait-any(a@n, b@n) returns        wait(c@1) ……… expires
              ▲                ▲
    device ──a@n──   device ──b@n──
    """
    a, b, c = semaphores(3)
    for value in range(1, effort.loops(100, 400) + 1):
        last = device.queue_count - 1
        device.queue_execute([], wait=[a @ (value - 1)], signal=[a @ value])
        device.queue_execute([], wait=[b @ (value - 1)], signal=[b @ value], queue=last)
        device.wait_semaphores([a @ value, b @ value], mode=WaitMode.ANY)
        code = status_of(partial(c.wait, 1, timeout=0.0005))
        assert code is StatusCode.DEADLINE_EXCEEDED, f"expected the wait for c to expire, c = 0; seen {code.name}"
        a.wait(value)
        b.wait(value)


@clause("L-4", "TL-1")
def test_new_semaphore_knows_nothing_of_a_dropped_one(
    device: ObservedDevice, semaphores: Semaphores, effort: Effort
) -> None:
    """Semaphores are made, signaled and dropped in great number; each new one is at its own beginning."""
    for number in range(effort.loops(200, 1_000)):
        s = semaphores.at(number % 3)
        assert s.query() == number % 3
        code = status_of(partial(s.wait, number % 3 + 1, timeout=0))
        assert code is StatusCode.DEADLINE_EXCEEDED, f"expected nothing to have been signaled; seen {code.name}"
        if number % 2:
            device.queue_execute([], signal=[s @ 10])
            s.wait(10)
        else:
            s.signal(10)


@clause("L-4", "Q-1")
@requires(Capability.ASYNC_SUBMIT)
def test_consumers_of_new_producers_do_not_see_old_signals(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """First many short-lived producers and consumers, so that their events are free again; then such that must wait.

    A consumer that an old signal lets go copies before its producer has filled, and its copy shows it.

    host ──gate@1──▶ fill(b[i], n) ──made[i]@1──▶ copy(b[i] → c[i]) ──done[i]@1──▶ host      32 of them, on two queues
    """
    b, c = buffers.filled(0, count=32, size=64), buffers.filled(0, count=32, size=64)
    last = device.queue_count - 1
    for number in range(1, effort.loops(5, 25) + 1):
        for _ in range(32):
            s, t = semaphores(2)
            device.queue_execute([], signal=[s @ 1])
            device.queue_execute([], wait=[s @ 1], signal=[t @ 1], queue=last)
            t.wait(1)
        gate, made, done = semaphores.at(0), semaphores(32), semaphores(32)
        for index in range(32):
            device.queue_fill(b[index], number, wait=[gate @ 1], signal=[made[index] @ 1])
            device.queue_copy(b[index], c[index], wait=[made[index] @ 1], signal=[done[index] @ 1], queue=last)
        gate.signal(1)
        for index in range(32):
            done[index].wait(1)
            assert c[index].holds(number), f"consumer {index} of round {number}"
