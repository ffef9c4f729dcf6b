"""Empty lists: of commands, of waits, of signals, in every combination."""

from __future__ import annotations

import gc
import itertools
import random
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Command, Copy, Fill, Timepoint

from ..support import (
    Buffers,
    ObservedBuffer,
    ObservedDevice,
    ObservedSemaphore,
    Poll,
    Semaphores,
    Settle,
    clause,
    requires,
)

#: An initial value that is not 0, so that a signal of 1 out of nowhere would not do.
INITIAL = 5


@clause("Q-4", "Q-1")
@pytest.mark.parametrize("commands", ["no-commands", "commands"])
def test_no_one_or_two_waits_and_signals(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle, poll: Poll, commands: str
) -> None:
    """0, 1 or 2 waits, 0, 1 or 2 signals, with and without work: what waits does nothing until the host signals."""
    if commands == "commands":
        device.need(Capability.SIDE_ACCESS, "the case polls what work without signals writes")
    gates = [semaphores.at(INITIAL) for _ in range(2)]
    waiting: list[tuple[ObservedBuffer, list[ObservedSemaphore]]] = []
    free: list[tuple[ObservedBuffer, list[ObservedSemaphore]]] = []
    for waits, signals in itertools.product(range(3), range(3)):
        b = buffers.filled(0)
        done = [semaphores.at(INITIAL) for _ in range(signals)]
        device.queue_execute(
            [Fill(b, 7)] if commands == "commands" else [],
            wait=[gate @ (INITIAL + 1) for gate in gates[:waits]],
            signal=[s @ (INITIAL + 1) for s in done],
        )
        (waiting if waits else free).append((b, done))

    settle(
        *(lambda b=b: b.untouched for b, _ in waiting),
        *(partial(s.reads, INITIAL) for _, done in waiting for s in done),
    )

    gates[0].signal(INITIAL + 1)
    gates[1].signal(INITIAL + 1)
    for b, done in free + waiting:
        for s in done:
            s.wait(INITIAL + 1)
            assert s.query() == INITIAL + 1
        if commands == "commands":
            poll(partial(b.holds, 7))


@clause("Q-4")
@requires(Capability.SIDE_ACCESS)
def test_every_order_of_what_a_submission_may_lack(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll
) -> None:
    """Four submissions with {waits}, {waits, work}, {waits, signals}, {waits, work, signals}, in each of 24 orders.

    They wait for two to ten values of timelines that counterparts signal, in submissions of their own, and signal two
    to ten, which counterparts wait for. At the end everybody has run.
    """
    choice = random.Random(24)
    kinds = list(itertools.product([False, True], repeat=2))
    for turn, order in enumerate(itertools.permutations(kinds), start=1):
        targets: list[ObservedBuffer] = []
        counterparts: list[tuple[list[Timepoint], list[Timepoint]]] = []
        ends: list[ObservedSemaphore] = []
        for has_work, has_signals in order:
            waits, signals = points(semaphores, choice), points(semaphores, choice) if has_signals else []
            commands: list[Command] = []
            if has_work:
                targets.append(buffers.filled(0))
                commands = [Fill(targets[-1], turn)] * choice.randint(2, 10)
            device.queue_execute(commands, wait=waits, signal=signals)
            counterparts.append(([], waits))
            if signals:
                ends += semaphores(1)
                counterparts.append((signals, [ends[-1] @ 1]))
        choice.shuffle(counterparts)
        for waits, signals in counterparts:
            device.queue_execute([], wait=waits, signal=signals, queue=device.queue_count - 1)
        for end in ends:
            end.wait(1)
        for target in targets:
            poll(partial(target.holds, turn))


def points(semaphores: Semaphores, choice: random.Random) -> list[Timepoint]:
    """Return two to ten timepoints of new timelines."""
    return [s @ choice.randint(1, 1000) for s in semaphores(choice.randint(2, 10))]


@clause("Q-4")
def test_many_submissions_with_nothing_at_all(device: ObservedDevice, semaphores: Semaphores) -> None:
    """Submissions without work, waits and signals leave no trace, and what comes after them runs."""
    [done] = semaphores(1)
    for k in range(300):
        device.queue_execute([], queue=k % device.queue_count)
    device.queue_execute([], signal=[done @ 1])
    done.wait(1)


@clause("Q-4")
@requires(Capability.SIDE_ACCESS)
def test_work_without_signals_completes(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll
) -> None:
    """Work that tells nobody when it is done is done all the same, at once or behind a wait."""
    at_once, later = buffers.filled(0, count=2)
    [gate] = semaphores(1)
    device.queue_fill(later, 8, wait=[gate @ 1])
    device.queue_fill(at_once, 7)
    poll(lambda: at_once.holds(7))
    gate.signal(1)
    poll(lambda: later.holds(8))


@clause("Q-4", "L-1")
@requires(Capability.STATISTICS)
def test_work_without_signals_lets_go(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll
) -> None:
    """When nobody is told, what a submission holds is given back without anybody asking: buffers, events, itself."""
    before = device.statistics()
    [gate] = semaphores(1)
    for k in range(100):
        b, c = buffers.filled(0, count=2)
        device.queue_copy(b, c, queue=k % device.queue_count)
        device.queue_copy(b, c, wait=[gate @ 1], queue=k % device.queue_count)
    gate.signal(1)
    del b, c, gate
    gc.collect()

    def alive() -> list[str]:
        now = device.statistics()
        counted = ("pending", "in_flight", "buffers", "timepoints", "semaphores")
        return [f"{name}: {getattr(now, name)}" for name in counted if getattr(now, name) > getattr(before, name)]

    poll(lambda: Emptied(alive()))


class Emptied:
    """True when nothing is left; its text says what is."""

    def __init__(self, left: list[str]) -> None:
        self._left = left

    def __bool__(self) -> bool:
        return not self._left

    def __repr__(self) -> str:
        return f"<expected everything let go; seen {', '.join(self._left)}>"


@clause("Q-4", "Q-15")
@requires(Capability.SIDE_ACCESS)
def test_work_without_signals_keeps_what_it_uses(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll
) -> None:
    """Work that signals nobody is not over because nobody could tell: its buffers live until it is done.

    host ──gate@1──▶ copy(a → b), copy(b → c), both handles of a and b dropped; other buffers take every place left free
    """
    a, b, c = buffers.filled(7), buffers.filled(0), buffers.filled(0)
    [gate] = semaphores(1)
    commands = device.create_command_buffer([Fill(a, 9, length=16), *copies(a, b, 8), *copies(b, c, 8)], one_shot=True)
    device.queue_execute(commands, wait=[gate @ 1])
    del a, b, commands
    gc.collect()
    intruders = buffers.filled(0xEE, count=16)
    gate.signal(1)
    poll(lambda: c.holds(7, offset=16))
    assert c.holds(9, length=16)
    for intruder in intruders:
        assert intruder.untouched


def copies(source: ObservedBuffer, target: ObservedBuffer, pieces: int) -> list[Copy]:
    """Return copies of a whole buffer, piece by piece."""
    size = source.size // pieces
    return [Copy(source, target, k * size, k * size, size) for k in range(pieces)]
