"""Signals that meet the beginning or the end of a wait.

Each round waits without a timeout on a thread that the case supervises: a wake-up that is lost once is lost for good.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Semaphore, StatusCode

from ..support import Effort, ObservedDevice, Semaphores, Tasks, clause, requires, status_of
from .watching import END, expect_success, expect_timeout, followed, rounds, spin

pytestmark = pytest.mark.usefixtures("restless")


@clause("W-9", "W-7")
def test_ping_pong(semaphores: Semaphores, threads: Tasks) -> None:
    """Two threads, two semaphores, one round.

    main ◀──b2a@1── thread; main ──a2b@4──▶ thread
    """
    a2b, b2a = semaphores(2)

    def other() -> None:
        a2b.wait(0)
        b2a.signal(1)
        a2b.wait(4)

    task = threads.start(other)
    b2a.wait(1)
    a2b.signal(4)
    task.result()
    assert (a2b.query(), b2a.query()) == (4, 1)


@clause("W-9")
def test_ping_pong_many_times(semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float) -> None:
    """Two threads signal each other in turn, ten thousand times at full length."""
    ping, pong = semaphores(2)

    def serve() -> None:
        for value in rounds(effort.loops(500, 3000, 10_000), deadline):
            ping.signal(value)
            pong.wait(value, timeout=None)
        ping.signal(END)

    def answer() -> None:
        for value in followed(ping):
            pong.signal(value)

    threads.run([serve, answer])


@clause("W-9")
def test_one_timeline_shared_by_two_threads(semaphores: Semaphores, threads: Tasks) -> None:
    """A thread answers on the timeline on which it was spoken to.

    main ──1──▶ thread ──2──▶ main
    """
    [semaphore] = semaphores(1)

    def answer() -> None:
        semaphore.wait(1)
        semaphore.signal(2)

    task = threads.start(answer)
    semaphore.signal(1)
    semaphore.wait(2)
    task.result()
    assert semaphore.query() == 2


@clause("W-9")
def test_signal_at_the_beginning_of_a_wait(
    semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """Waits that begin just when their value is signaled, from shortly before to shortly after, all end."""
    semaphore, begun = semaphores(2)

    def wait(choice: random.Random) -> None:
        for value in rounds(effort.loops(1000, 3000), deadline):
            begun.signal(value)
            spin(choice, 150e-6)  # the other one has to wake up first
            semaphore.wait(value, timeout=None)
        begun.signal(END)

    def signal(choice: random.Random) -> None:
        for value in followed(begun):
            spin(choice, 20e-6)
            semaphore.signal(value)

    threads.run([partial(wait, random.Random("wait")), partial(signal, random.Random("signal"))])


@clause("W-9", "W-3")
def test_signal_at_the_deadline_of_a_wait(
    semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """A value that comes at the deadline of one wait may or may not satisfy it, and always satisfies the others.

    impatient  wait(v, up to 100 µs) ──▶ reached, or DEADLINE_EXCEEDED
    patient    wait(v) ───────────────────▶ reached
    signaler   signal(v), about then
    """
    semaphore, begun = semaphores(2)

    def impatient(choice: random.Random) -> None:
        for value in rounds(effort.loops(1000, 3000), deadline):
            begun.signal(value)
            code = status_of(partial(semaphore.wait, value, choice.random() * 100e-6))
            assert code in (StatusCode.OK, StatusCode.DEADLINE_EXCEEDED), f"expected success or a timeout; seen {code}"
            if code is StatusCode.OK:
                expect_success(
                    partial(semaphore.wait, value, timeout=0), f"wait({value}, timeout=0) after wait({value})"
                )
            semaphore.wait(value, timeout=None)
        begun.signal(END)

    def patient() -> None:
        for value in followed(semaphore):
            expect_success(partial(semaphore.wait, value, timeout=0), f"wait({value}, timeout=0) after wait({value})")

    def signaler(choice: random.Random) -> None:
        for value in followed(begun):
            spin(choice, 100e-6)
            semaphore.signal(value)
            expect_success(partial(semaphore.wait, value, timeout=0), f"wait({value}, timeout=0) after signal({value})")
        semaphore.signal(END)

    calls: list[Callable[[], None]] = [
        partial(impatient, random.Random("deadline")),
        patient,
        partial(signaler, random.Random("signal")),
    ]
    threads.run(calls)


@clause("W-9")
def test_device_signal_at_the_beginning_of_a_wait(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """Waits that begin while a queue makes the signal, by several threads on semaphores of their own, all end."""

    def work(semaphore: Semaphore, queue: int) -> None:
        choice = random.Random(queue)
        for value in rounds(effort.loops(300, 1000), deadline):
            device.queue_execute([], signal=[semaphore @ value], queue=queue)
            spin(choice, 50e-6)
            semaphore.wait(value, timeout=None)

    threads.run(partial(work, semaphore, n % device.queue_count) for n, semaphore in enumerate(semaphores(4)))


@clause("W-9", "W-12")
@requires(Capability.WAIT_ALL)
@pytest.mark.parametrize("count", [1, 3])
def test_signals_at_the_beginning_of_a_wait_for_all(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float, count: int
) -> None:
    """Two threads wait for the next value of every semaphore while it is being signaled, round after round."""
    made = semaphores(count)
    followers = semaphores(2)

    def follow(follower: Semaphore) -> None:
        for value in itertools.count(1):
            device.wait_semaphores([semaphore @ value for semaphore in made], timeout=None)
            if made[0].query() >= END:
                return
            follower.signal(value)

    def lead() -> None:
        choice = random.Random(count)
        for value in rounds(effort.loops(300, 1000), deadline):
            for semaphore in choice.sample(made, count):
                spin(choice, 20e-6)
                semaphore.signal(value)
            for follower in followers:
                follower.wait(value, timeout=None)
        for semaphore in made:
            semaphore.signal(END)

    following: list[Callable[[], None]] = [partial(follow, follower) for follower in followers]
    threads.run([lead, *following])


@clause("W-11", "W-5", "W-9")
def test_new_wait_does_not_inherit_a_wake_up(
    semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """A wait that begins right after one that ended at the very moment of its signal is not ended by that signal.

    one thread  wait(a, v, up to 50 µs), then wait(b, 1, 300 µs): must time out, and not early
    another     signal(a, v), about when the first wait ends
    """
    a, b, begun = semaphores(3)

    def wait(choice: random.Random) -> None:
        for value in rounds(effort.loops(100, 400), deadline):
            begun.signal(value)
            status_of(partial(a.wait, value, choice.random() * 50e-6))
            expect_timeout(partial(b.wait, 1, 300e-6), 300e-6, f"the wait for b@1 after the one for a@{value}")
            a.wait(value, timeout=None)
        begun.signal(END)

    def signal(choice: random.Random) -> None:
        for value in followed(begun):
            spin(choice, 60e-6)
            a.signal(value)

    threads.run([partial(wait, random.Random("wait")), partial(signal, random.Random("signal"))])
    assert b.query() == 0
