"""The measures on a backend, through the interface of :mod:`pytest_cuda2hal.hal` alone."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import idle, median_of, percentiles, seconds

from pytest_cuda2hal.hal import CommandBuffer, Device, Fill
from pytest_cuda2hal.registry import Registry, parse_spec

#: Bytes that each submission fills, where it does anything.
FILL_BYTES = 4096
#: Seconds that nothing here should take; a wait that takes longer is a defect.
DEADLINE = 120.0
#: Seconds above which a measure is not repeated, and larger sizes of it are left out.
PATIENCE = 15.0


def measure(spec: str, scale: float, report: Callable[[str, Any], None]) -> None:
    """Report the figures of a backend, each when it is known; rates per second, latencies in microseconds."""
    resolved = Registry().resolve(parse_spec(spec))
    device = resolved.open_device()
    subject = Subject(device, scale)
    gc.collect()
    gc.freeze()
    report("device", device.info.name)
    report("versions", dict(device.info.versions))
    for kind, commands in subject.kinds.items():
        report(f"chain {kind}", subject.chain(commands))
        report(f"submit and wait, {kind}", subject.submit_and_wait(commands, rested=False))
        report(f"submit and wait after 2 ms of rest, {kind}", subject.submit_and_wait(commands, rested=True))
        report(f"host signal, device, host wait, {kind}", subject.through_the_device(commands))
    report("pending", subject.pending())
    device.close()


class Subject:
    """A device and what is run on it."""

    def __init__(self, device: Device, scale: float) -> None:
        self.device = device
        self._scale = scale
        self._buffer = device.allocate_buffer(FILL_BYTES)
        fill = device.create_command_buffer([Fill(self._buffer, 7)])
        self.kinds: dict[str, CommandBuffer | list[Any]] = {"empty": [], "4 KiB fill": fill}

    def _count(self, full: int) -> int:
        return max(10, int(full * self._scale))

    def chain(self, commands: CommandBuffer | list[Any]) -> dict[str, float]:
        """Submit a chain on one semaphore, each link waiting for the one before it, and wait for the last."""
        count = self._count(20_000)

        def once() -> float:
            s = self.device.create_semaphore(0)

            def run() -> None:
                for number in range(count):
                    self.device.queue_execute(commands, wait=[s @ number], signal=[s @ (number + 1)])
                s.wait(count, DEADLINE)

            taken: float = seconds(run)
            return taken

        first = once()  # warms up, and says whether there is time for more
        took = first if first > PATIENCE else median_of(5, once)
        return {"per_second": count / took, "links": count, "repetitions": 1 if first > PATIENCE else 5}

    def submit_and_wait(self, commands: CommandBuffer | list[Any], *, rested: bool) -> dict[str, float]:
        """Submit one thing and wait for it on the host, again and again."""
        s = self.device.create_semaphore(0)
        count = self._count(300 if rested else 3000)
        samples = []
        for number in range(1, count + 1):
            if rested:
                idle()
            begin = time.perf_counter()
            self.device.queue_execute(commands, signal=[s @ number])
            s.wait(number, DEADLINE)
            samples.append(time.perf_counter() - begin)
        figures: dict[str, float] = percentiles(samples[count // 10 :])
        return figures

    def through_the_device(self, commands: CommandBuffer | list[Any]) -> dict[str, float]:
        """From a host signal, through a submission that waits for it, to the end of a host wait for that."""
        gate, done = self.device.create_semaphore(0), self.device.create_semaphore(0)
        count = self._count(3000)
        samples = []
        for number in range(1, count + 1):
            self.device.queue_execute(commands, wait=[gate @ number], signal=[done @ number])
            begin = time.perf_counter()
            gate.signal(number)
            done.wait(number, DEADLINE)
            samples.append(time.perf_counter() - begin)
        figures: dict[str, float] = percentiles(samples[count // 10 :])
        return figures

    def pending(self) -> list[dict[str, float]]:
        """What a submission and a signal cost while so many submissions wait for larger values of the semaphore."""
        figures = []
        for full in (1_000, 10_000, 100_000):
            count, released = self._count(full), self._count(500)
            gate, done = self.device.create_semaphore(0), self.device.create_semaphore(0)
            gc.collect()
            before = _resident()
            begin = time.perf_counter()
            for number in range(1, count + 1):
                self.device.queue_execute([], wait=[gate @ number], signal=[done @ number])
            submitted = time.perf_counter() - begin
            memory = _resident() - before
            for number in range(1, released + 1):  # the first few are not counted
                gate.signal(number)
                done.wait(number, DEADLINE)
            begin = time.perf_counter()
            for number in range(released + 1, min(2 * released, count) + 1):
                gate.signal(number)
                done.wait(number, DEADLINE)
            signaled = time.perf_counter() - begin
            figures.append(
                {
                    "pending": count,
                    "submit_us": submitted / count * 1e6,
                    "signal_and_wait_us": signaled / max(1, min(2 * released, count) - released) * 1e6,
                    "bytes_each": memory / count,
                }
            )
            for number in range(min(2 * released, count) + 1, count + 1):  # one by one: no other order
                gate.signal(number)
                done.wait(number, DEADLINE)
            if submitted > PATIENCE / 5:
                break
        return figures


def _resident() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
