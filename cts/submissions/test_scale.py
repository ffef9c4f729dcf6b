"""Long lists, long chains, wide fans; and how their cost grows."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import pytest

from pytest_cuda2hal.hal import HalError, StatusCode

from ..support import Buffers, Effort, ObservedDevice, Quality, Semaphores, Settle, clause
from .pace import nudge, wait_in_steps

LENGTHS = [1, 33, 200, 1000]


@clause("Q-17", "Q-1")
@pytest.mark.parametrize("length", LENGTHS)
def test_long_wait_list(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, length: int) -> None:
    """Every timepoint of a long list counts: the last to be reached is once the first, once the middle, once the last.

    host ──gates[0]@1 … gates[length - 1]@1──▶ copy(news → b) ──done@1──▶ host
    """
    news, b = buffers.filled(0, count=2)
    for turn, last in enumerate(dict.fromkeys([length - 1, 0, length // 2]), start=1):
        gates = semaphores(length)
        [done] = semaphores(1)
        device.queue_copy(news, b, wait=[gate @ 1 for gate in gates], signal=[done @ 1])
        for k, gate in enumerate(gates):
            if k != last:
                gate.signal(1)
        nudge(device)
        news.fill_by_host(turn)
        gates[last].signal(1)
        done.wait(1)
        assert b.holds(turn), f"the last to be reached was number {last} of {length}"


@clause("Q-17", "Q-6")
@pytest.mark.parametrize("length", LENGTHS)
def test_long_signal_list_is_a_long_wait_list(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, length: int
) -> None:
    """What one submission signals another waits for, in the opposite order, on another queue if there is one.

    fill(b, 7) ──made[0]@1 … made[length - 1]@1──▶ copy(b → c) ──done@1──▶ host
    """
    b, c = buffers.filled(0, count=2)
    made = semaphores(length)
    [done] = semaphores(1)
    wait = [s @ 1 for s in reversed(made)]
    device.queue_copy(b, c, wait=wait, signal=[done @ 1], queue=device.queue_count - 1)
    device.queue_fill(b, 7, signal=[s @ 1 for s in made])
    done.wait(1)
    assert c.holds(7)
    for s in made:
        s.wait(1)


@clause("Q-17q")
@pytest.mark.parametrize("kind", ["wait", "signal"])
def test_limit_on_lists_is_clean(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle, quality: Quality, kind: str
) -> None:
    """A list that is too long for a HAL is refused with RESOURCE_EXHAUSTED, and nothing comes of it."""
    for length in (33, 200, 1000, 5000):
        b = buffers.filled(0)
        gate, done, after = semaphores(3)
        many = semaphores(length)
        points = [s @ 1 for s in many]
        wait, signal = ([gate @ 1, *points], [done @ 1]) if kind == "wait" else ([gate @ 1], [done @ 1, *points])
        refusal: HalError | None = None
        try:
            device.queue_fill(b, 7, wait=wait, signal=signal)
        except HalError as error:
            refusal = error
        gate.signal(1)
        if kind == "wait":
            for s in many:
                s.signal(1)
        if refusal:
            device.queue_execute([], wait=[gate @ 1], signal=[after @ 1])
            after.wait(1)
            settle()  # an effect may come late; it is judged below, as a quality
            effect = [done.query() == 1, not b.untouched, kind == "signal" and any(s.query() for s in many)]
            clean = refusal.code is StatusCode.RESOURCE_EXHAUSTED and not any(effect)
            quality(
                "Q-17q", clean, f"{kind} list of {length + 1}: {refusal}" + (", with an effect" if any(effect) else "")
            )
            return
        done.wait(1)
        for s in many:
            s.wait(1)
    quality("Q-17q", True, f"{kind} list: no limit up to 5,000")


@clause("Q-18", "Q-5")
@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_chain_of_twenty_thousand(device: ObservedDevice, semaphores: Semaphores, order: str) -> None:
    """Each submission waits for the one before it, on every queue in turn; submitted first to last, or last to first.

    host ──s@1──▶ ──s@2──▶ ──s@3──▶ … ──s@20001──▶ host
    """
    length = 20_000
    [s] = semaphores(1)
    numbers = range(1, length + 1)
    for k in numbers if order == "forward" else reversed(numbers):
        device.queue_execute([], wait=[s @ k], signal=[s @ (k + 1)], queue=k % device.queue_count)
    s.signal(1)
    wait_in_steps(s, length + 1)


@clause("Q-18", "Q-5")
def test_long_chain_that_runs_while_it_is_submitted(
    device: ObservedDevice, semaphores: Semaphores, effort: Effort
) -> None:
    """The same without a gate: the device has done some part of it by the time the next is submitted."""
    length = effort.loops(2000, 5000)
    [s] = semaphores(1)
    for k in range(length):
        device.queue_execute([], wait=[s @ k], signal=[s @ (k + 1)])
    wait_in_steps(s, length)


@clause("Q-18", "Q-6")
def test_fan_out_and_fan_in_of_a_thousand(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """A thousand consumers of one signal, and one that waits for all of them.

                                 ┌▶ copy(source → cells[0])   ──made[0]@1────┐
    host ──gate@1──▶ ──start@1──▶┼▶ …                                        ┼▶ copy(cells → result) ──done@1──▶ host
                                 └▶ copy(source → cells[999]) ──made[999]@1──┘
    """
    width = 1000
    source = buffers.filled(7, size=4)
    cells, result = buffers.filled(0, count=2, size=4 * width)
    gate, start, done = semaphores(3)
    made = semaphores(width)
    device.queue_copy(cells, result, wait=[s @ 1 for s in made], signal=[done @ 1])
    for k, s in enumerate(made):
        queue = k % device.queue_count
        device.queue_copy(source, cells, target_offset=4 * k, wait=[start @ 1], signal=[s @ 1], queue=queue)
    device.queue_execute([], wait=[gate @ 1], signal=[start @ 1])
    gate.signal(1)
    done.wait(1)
    assert result.holds(7)


@clause("Q-18", "Q-7")
def test_fan_out_over_a_thousand_values(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """A thousand consumers wait for a thousand different values, which one signal passes."""
    width = 1000
    source, cells = buffers.filled(7, size=4), buffers.filled(0, size=4 * width)
    [start] = semaphores(1)
    made = semaphores(width)
    for k, s in enumerate(made):
        value = 1 + (k * 619) % width  # in no order; 619 is prime
        device.queue_copy(source, cells, target_offset=4 * k, wait=[start @ value], signal=[s @ 1])
    device.queue_execute([], signal=[start @ width], queue=device.queue_count - 1)
    for s in made:
        s.wait(1)
    assert cells.holds(7)


@clause("Q-18q")
@pytest.mark.parametrize("shape", ["chain", "reverse-chain", "fan"])
def test_cost_grows_gently(device: ObservedDevice, semaphores: Semaphores, quality: Quality, shape: str) -> None:
    """Eight times the submissions take less than sixteen times the time, in the best of five tries.

    Few are timed eight times, half of them before and half after the many: where others use the machine, too, a short
    run may have a processor to itself, and a long one shares it. Three tries are enough if all take twice that.
    """
    run = {"chain": run_chain, "reverse-chain": run_reverse_chain, "fan": run_fan}[shape]
    small, large = 1000, 8000
    run(device, semaphores, 100)  # what is made once must not count
    ratios: list[float] = []
    while len(ratios) < 3 or (len(ratios) < 5 and min(ratios) < 32):
        few = [seconds(lambda: run(device, semaphores, small)) for _ in range(4)]
        many = seconds(lambda: run(device, semaphores, large))
        few += [seconds(lambda: run(device, semaphores, small)) for _ in range(4)]
        ratios.append(many / statistics.fmean(few))
        if ratios[-1] < 16:
            break
    tries = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    quality("Q-18q", min(ratios) < 16, f"{shape}: time({large})/time({small}) = {tries}; the last {many:.2f} s")


def run_chain(device: ObservedDevice, semaphores: Semaphores, length: int) -> None:
    """Run a chain that is submitted first to last."""
    [s] = semaphores(1)
    for k in range(1, length + 1):
        device.queue_execute([], wait=[s @ k], signal=[s @ (k + 1)])
    s.signal(1)
    wait_in_steps(s, length + 1)


def run_reverse_chain(device: ObservedDevice, semaphores: Semaphores, length: int) -> None:
    """Run a chain that is submitted last to first."""
    [s] = semaphores(1)
    for k in reversed(range(1, length + 1)):
        device.queue_execute([], wait=[s @ k], signal=[s @ (k + 1)])
    s.signal(1)
    wait_in_steps(s, length + 1)


def run_fan(device: ObservedDevice, semaphores: Semaphores, width: int) -> None:
    """Run many consumers of one signal and one submission that waits for all of them."""
    gate, done = semaphores(2)
    made = semaphores(width)
    for s in made:
        device.queue_execute([], wait=[gate @ 1], signal=[s @ 1])
    device.queue_execute([], wait=[s @ 1 for s in made], signal=[done @ 1])
    gate.signal(1)
    done.wait(1)


def seconds(run: Callable[[], None]) -> float:
    """Time one run, without the garbage of the one before."""
    gc.collect()
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
