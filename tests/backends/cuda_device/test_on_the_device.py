"""What the device does by itself, with no host in between; on the simulated driver, and on a GPU where there is one."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_cuda2hal.hal import Copy, Fill, Hold

#: Seconds that something may take which should happen.
SOON = 10.0
COMPLETIONS = ["event", "host-function"]


def until(condition: Callable[[], object]) -> None:
    """Poll until the condition holds; fail at the deadline."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {SOON} s"
        time.sleep(0.0005)


@pytest.mark.parametrize("queue", [0, 1], ids=["same-queue", "other-queue"])
@pytest.mark.parametrize("completion", COMPLETIONS)
def test_a_consumer_follows_its_producer_with_no_host_in_between(open_device, completion, queue):
    """While the test has the engine's role no thread can issue or retire anything; the consumer runs all the same."""
    device = open_device(completion=completion)
    a, b = device.allocate_buffer(64), device.allocate_buffer(64)
    a.write(bytes(64))
    b.write(bytes(64))
    made, done = device.create_semaphore(0), device.create_semaphore(0)
    latch = device.create_latch()
    device.queue_execute([Hold(latch), Fill(a, 7)], signal=[made @ 1])
    device.queue_execute([Copy(a, b)], wait=[made @ 1], signal=[done @ 1], queue=queue)
    until(lambda: device.statistics().in_flight == 2)

    def alone():
        latch.open()
        until(lambda: b.read() == bytes([7]) * 64)
        seen.append(made._value)

    seen: list[int] = []
    device.engine.exclusively(alone)
    assert seen == [0], "the host knew of the producer before the consumer had run"
    done.wait(1, SOON)
    assert made.query() == 1


@pytest.mark.parametrize("completion", COMPLETIONS)
def test_resources_go_when_nobody_waits(open_device, completion):
    """Work without signals, whose submitter does nothing more."""
    device = open_device(completion=completion)
    buffer = device.allocate_buffer(64)
    commands = device.create_command_buffer([Fill(buffer, 1), Fill(buffer, 2)])
    device.queue_execute(commands)
    gone = weakref.ref(buffer), weakref.ref(commands)
    del buffer, commands
    until(lambda: (gc.collect(), all(reference() is None for reference in gone))[1])
    until(lambda: device.engine.memory.in_use == 0)


def test_one_queue_is_held_while_another_completes(open_device):
    """And a wait for the held one ends with its deadline."""
    device = open_device()
    buffer = device.allocate_buffer(64)
    latch = device.create_latch()
    held, done = device.create_semaphore(0), device.create_semaphore(0)
    device.queue_execute([Hold(latch)], signal=[held @ 1], queue=0)
    for number in range(1, 101):
        device.queue_fill(buffer, number, wait=[done @ (number - 1)], signal=[done @ number], queue=1)
    done.wait(100, SOON)
    assert held.query() == 0
    assert buffer.read() == bytes([100]) * 64
    latch.open()
    held.wait(1, SOON)


def test_ten_thousand_allocations_end_where_they_began(open_device):
    """Queued a thousand at a time, so that many are in flight at once."""
    device = open_device()
    before = device.statistics()
    s = device.create_semaphore(0)
    value = 0
    for _ in range(10):
        for _ in range(1000):
            buffer = device.queue_alloca(4096, wait=[s @ value], signal=[s @ (value + 1)])
            device.queue_dealloca(buffer, wait=[s @ (value + 1)], signal=[s @ (value + 2)])
            value += 2
        s.wait(value, 3 * SOON)
    del buffer, s
    gc.collect()
    until(lambda: device.statistics() == before)


def test_most_of_the_memory_three_times_behind_one_wait(open_device):
    """60% of it is taken, freed and taken again, all queued before the first may run."""
    device = open_device()
    statistics = device.statistics()
    size = (statistics.memory_total - statistics.memory_in_use) * 6 // 10 // 4096 * 4096
    for _ in range(3):
        gate, s = device.create_semaphore(0), device.create_semaphore(0)
        first = device.queue_alloca(size, wait=[gate @ 1], signal=[s @ 1])
        device.queue_dealloca(first, wait=[s @ 1], signal=[s @ 2], queue=1)
        second = device.queue_alloca(size, wait=[s @ 2], signal=[s @ 3])
        device.queue_fill(second, 7, length=4096, wait=[s @ 3], signal=[s @ 4])
        device.queue_dealloca(second, wait=[s @ 4], signal=[s @ 5])
        assert s.query() == 0
        gate.signal(1)
        s.wait(5, SOON)
    assert device.statistics().memory_in_use == 0


def in_a_process_of_its_own(name: str, *arguments: str) -> Any:
    """Run a program beside this file; return what it printed last."""
    program = Path(__file__).with_name(name)
    run = subprocess.run(
        [sys.executable, str(program), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("completion", COMPLETIONS)
def test_a_held_queue_holds_no_other_however_many_are_busy(kind, completion):
    """The driver gives streams with work 8 connections unless it is told otherwise, which counts for new processes."""
    assert in_a_process_of_its_own("busy_streams_program.py", kind, completion) == {"stuck": [], "still_held": True}


@pytest.mark.parametrize("completion", COMPLETIONS)
def test_a_fault_fails_everything_within_a_second(kind, completion):
    """In a process of its own, which then ends cleanly."""
    result = in_a_process_of_its_own("fault_program.py", kind, completion)
    assert set(result["failures"]) == {"held", "behind", "across", "pending", "later"}
    for failure in result["failures"].values():
        assert failure["code"] == "DATA_LOSS"
        assert "CUDA_ERROR_ILLEGAL_ADDRESS" in failure["message"]
    assert max(result["failures"][name]["after"] for name in ("held", "behind", "across", "pending")) < 1.0
    assert result["closed_after"] < 2.0
    if kind == "real":
        assert result["opened_again"].startswith("DATA_LOSS: ")
        assert "start a new process" in result["opened_again"]
