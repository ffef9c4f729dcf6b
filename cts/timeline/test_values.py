"""What a timeline begins with, and what a signal makes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest

from pytest_cuda2hal.hal import Semaphore

from ..support import Buffers, Effort, ObservedDevice, Poll, Semaphores, clause

#: Round powers of two and their neighbours: what is kept in too few bits, or as a floating-point number, shows here.
EDGES = [2**bits + step for bits in (0, 7, 8, 15, 16, 24, 31, 32, 53, 63, 64) for step in (-2, -1, 0, 1)]

Signal = Callable[[ObservedDevice, Semaphore, int], None]


def legal_values(device: ObservedDevice) -> list[int]:
    """Return values worth a look, up to the largest legal one."""
    largest = device.rules.value_max
    return sorted({value for value in [*EDGES, largest - 1, largest] if 0 <= value <= largest})


def longest_jump(device: ObservedDevice) -> int:
    """Return by how much one signal may advance a timeline."""
    limit = device.rules.limit("max-difference")
    return device.rules.value_max if limit is None else min(limit, device.rules.value_max)


def from_host(device: ObservedDevice, semaphore: Semaphore, value: int) -> None:
    """Signal from the host."""
    semaphore.signal(value)


def from_device(device: ObservedDevice, semaphore: Semaphore, value: int) -> None:
    """Signal from a queue, some time."""
    device.queue_execute([], signal=[semaphore @ value])


either_way = pytest.mark.parametrize("signal", [from_host, from_device])


def expect_signaled(semaphore: Semaphore, before: int, value: int, poll: Poll) -> None:
    """Check that what a timeline becomes next is ``value``."""
    poll(lambda: semaphore.query() != before)
    expect_value(semaphore, value)
    semaphore.wait(value)


def expect_value(semaphore: Semaphore, expected: int) -> None:
    """Check what a query gives."""
    seen = semaphore.query()
    assert seen == expected, f"expected value {expected} ({expected:#x}); seen {seen} ({seen:#x})"


@clause("TL-1")
def test_new_semaphore_reads_as_its_initial_value(device: ObservedDevice, semaphores: Semaphores) -> None:
    """From 0 to the largest legal value, a new timeline stands where it was made to begin."""
    for value in legal_values(device):
        semaphore = semaphores.at(value)
        expect_value(semaphore, value)
        semaphore.wait(value)
        expect_value(semaphore, value)


@clause("TL-1")
def test_new_semaphores_are_independent(semaphores: Semaphores) -> None:
    """Of a hundred semaphores each has a timeline of its own, also after another one was signaled."""
    initial = random.Random("initial values").sample(range(1000, 2000), 100)
    made = [semaphores.at(value) for value in initial]
    for semaphore in made[::2]:
        semaphore.signal(5000)
    for semaphore, value in zip(made[1::2], initial[1::2], strict=True):
        expect_value(semaphore, value)


@clause("TL-1", "Q-10")
def test_initial_value_satisfies_a_submission(device: ObservedDevice, semaphores: Semaphores, buffers: Buffers) -> None:
    """A submission that waits for what a semaphore began with, 0 included, or for less, runs."""
    for initial, awaited in [(0, 0), (1, 1), (2**20, 2**20), (2**20, 1)]:
        begun = semaphores.at(initial)
        [done] = semaphores(1)
        target = buffers.filled(0)
        device.queue_fill(target, 7, wait=[begun @ awaited], signal=[done @ 1])
        done.wait(1)
        assert target.holds(7)


@clause("TL-2")
def test_signal_sets_the_value(semaphores: Semaphores) -> None:
    """A timeline at 2 goes to 3 and to 40, and to no other value."""
    semaphore = semaphores.at(2)
    expect_value(semaphore, 2)
    semaphore.signal(3)
    expect_value(semaphore, 3)
    semaphore.signal(40)
    expect_value(semaphore, 40)


@clause("TL-2")
@either_way
def test_jumps_over_every_width(device: ObservedDevice, semaphores: Semaphores, poll: Poll, signal: Signal) -> None:
    """One signal takes a timeline from 0, or from shortly below, to each value worth a look."""
    for value in legal_values(device):
        for step in (1, value // 2, value):
            if 0 < step <= min(value, longest_jump(device)):
                semaphore = semaphores.at(value - step)
                signal(device, semaphore, value)
                expect_signaled(semaphore, value - step, value, poll)


@clause("TL-2")
@either_way
def test_longest_jump_at_both_ends(device: ObservedDevice, semaphores: Semaphores, poll: Poll, signal: Signal) -> None:
    """The longest legal jump succeeds from the beginning of the value range and up to its end.

    0 ──────────▶ max-difference …            … value-max - max-difference ──────────▶ value-max
    """
    jump, largest = longest_jump(device), device.rules.value_max
    for initial in (0, largest - jump):
        semaphore = semaphores.at(initial)
        signal(device, semaphore, initial + jump)
        expect_signaled(semaphore, initial, initial + jump, poll)


@clause("TL-2")
def test_walk_to_the_largest_value(device: ObservedDevice, semaphores: Semaphores, poll: Poll) -> None:
    """Steps of any length, from the host and from a queue in turn, are exact all the way to the largest value."""
    steps = random.Random("steps")
    largest = device.rules.value_max
    room = min(largest, 20 * longest_jump(device))
    semaphore = semaphores.at(largest - room)
    value, signals = largest - room, [from_host, from_device]
    while value < largest:
        before = value
        value += min(largest - value, steps.randint(1, max(1, min(longest_jump(device), room // 20))))
        signals[0](device, semaphore, value)
        signals.reverse()
        expect_signaled(semaphore, before, value, poll)


@clause("TL-2", "TL-4")
@either_way
def test_poll_meets_no_value_beyond_the_signal(
    device: ObservedDevice, semaphores: Semaphores, poll: Poll, effort: Effort, signal: Signal
) -> None:
    """Of a hundred signaled semaphores the last is polled: it comes to its value, and never to another one."""
    values = random.Random("a hundred values")
    for _ in range(effort.loops(1, 3)):
        made = [(semaphore, values.randint(1, 2**20)) for semaphore in semaphores(100)]
        for semaphore, value in made:
            signal(device, semaphore, value)
        last, expected = made[-1]
        poll(partial(has_arrived, last, expected))
        for semaphore, value in made:
            semaphore.wait(value)


def has_arrived(semaphore: Semaphore, expected: int) -> bool:
    """Tell whether a timeline that began at 0 has come to its only signal; fail if it is anywhere else."""
    seen = semaphore.query()
    assert seen in (0, expected), f"expected 0 and then {expected}; seen {seen}"
    return seen == expected
