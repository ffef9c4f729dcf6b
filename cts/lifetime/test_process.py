"""What is alive in the process, for HALs that count nothing themselves."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pytest_cuda2hal.hal import StatusCode

from ..support import AskVariation, Poll, Quality, clause, status_of
from .conftest import OpenBare
from .memory import PROCESS, expect_no_growth, resident

#: Rounds of opening and closing, from the contract. A HAL whose devices open so slowly that this takes longer than the
#: deadline of the run is judged by fewer; the figure says by how many.
ROUNDS = 100
#: Rounds before counting begins: caches fill, lazy parts are made.
WARM_UP = 5
#: MiB by which the memory of the process may differ and still count as being where it was: allocators keep some.
TOLERANCE = 16.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Threads, descriptors and memory of this process; what the system does not tell is 0."""

    threads: int
    descriptors: int
    mib: float

    @classmethod
    def now(cls) -> Counts:
        gc.collect()
        if not PROCESS.is_dir():
            return cls(threading.active_count(), 0, 0.0)
        threads = sum(1 for _ in (PROCESS / "task").iterdir())
        return cls(threads, sum(1 for _ in (PROCESS / "fd").iterdir()), resident())

    def is_back(self, before: Counts) -> bool:
        """Whether nothing is above what it was."""
        return (
            self.threads <= before.threads
            and self.descriptors <= before.descriptors
            and self.mib <= before.mib + TOLERANCE
        )


def figure(before: Counts, after: Counts, rounds: int) -> str:
    return (
        f"after {rounds} rounds threads {before.threads} → {after.threads}, descriptors {before.descriptors} → "
        f"{after.descriptors}, memory {before.mib:.0f} → {after.mib:.0f} MiB"
    )


def judge(before: Counts, rounds: int, poll: Poll, quality: Quality) -> None:
    """Count until everything is back or the deadline is over, since threads may take a moment to end; then judge."""
    with contextlib.suppress(pytest.fail.Exception):  # of the poll; the figure says more
        poll(lambda: Counts.now().is_back(before))
    after = Counts.now()
    quality("L-1q", after.is_back(before), figure(before, after, rounds))


def run_rounds(do: Callable[[], None], deadline: float) -> tuple[Counts, int]:
    """Do it :data:`ROUNDS` times after warming up; return what was alive before and how often it was done."""
    for _ in range(WARM_UP):
        do()
    before = Counts.now()
    end = time.monotonic() + deadline
    done = 0
    while done < ROUNDS and (done < 3 or time.monotonic() < end):
        do()
        done += 1
    return before, done


def need_any_drop_order(variation: AskVariation) -> None:
    """End the case, as unsupported, where a device must be closed."""
    if not variation("drop-order").permits("any"):
        pytest.skip("unsupported: in this profile the device is closed and dropped when everything else has gone")


@clause("L-1q")
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_opening_and_closing_leaves_the_process_as_it_was(
    open_bare: OpenBare, poll: Poll, quality: Quality, deadline: float, used: bool
) -> None:
    """A hundred devices are opened and closed, without being used at all, and after work on every queue."""

    def round_of_it() -> None:
        device = open_bare()
        if used:
            b = device.allocate_buffer(4096 * device.queue_count)
            done = [device.create_semaphore(0) for _ in range(device.queue_count)]
            for queue, finished in enumerate(done):
                device.queue_fill(b, queue, offset=4096 * queue, length=4096, signal=[finished @ 1], queue=queue)
            for finished in done:
                finished.wait(1, deadline)
        device.close()

    before, rounds = run_rounds(round_of_it, deadline)
    judge(before, rounds, poll, quality)


@clause("L-1q")
def test_dropping_devices_unclosed_leaves_the_process_as_it_was(
    open_bare: OpenBare, variation: AskVariation, poll: Poll, quality: Quality, deadline: float
) -> None:
    """A hundred devices do some work and are dropped; nobody closes them, so what they held must not hold them."""
    need_any_drop_order(variation)

    def round_of_it() -> None:
        device = open_bare()
        b, done = device.allocate_buffer(4096), device.create_semaphore(0)
        device.queue_fill(b, 7, signal=[done @ 1])
        done.wait(1, deadline)
        del device, b, done
        gc.collect()

    before, rounds = run_rounds(round_of_it, deadline)
    judge(before, rounds, poll, quality)


@clause("L-1q", "Q-4")
def test_dropping_devices_amid_empty_work_leaves_the_process_as_it_was(
    open_bare: OpenBare, variation: AskVariation, poll: Poll, quality: Quality, deadline: float
) -> None:
    """The same while submissions are on their way that have no work, signal nobody and so keep nothing."""
    need_any_drop_order(variation)

    def round_of_it() -> None:
        device = open_bare()
        for k in range(100):
            device.queue_execute([], queue=k % device.queue_count)
        del device
        gc.collect()

    before, rounds = run_rounds(round_of_it, deadline)
    judge(before, rounds, poll, quality)


@clause("L-1q")
def test_work_on_one_device_leaves_the_process_as_it_was(
    open_bare: OpenBare, poll: Poll, quality: Quality, deadline: float
) -> None:
    """A hundred rounds of new semaphores and buffers, chained work, and waits that time out, on one device."""
    device = open_bare()

    def round_of_it() -> None:
        a, b = device.allocate_buffer(65536), device.allocate_buffer(65536)
        gate, s, never = (device.create_semaphore(0) for _ in range(3))
        device.queue_fill(a, 7, signal=[s @ 1])
        device.queue_copy(a, b, wait=[s @ 1], signal=[s @ 2])
        for _ in range(10):
            assert status_of(lambda: never.wait(1, 0)) is StatusCode.DEADLINE_EXCEEDED
        gate.signal(1)
        s.wait(2, deadline)

    before, rounds = run_rounds(round_of_it, deadline)
    device.close()
    judge(before, rounds, poll, quality)


@clause("L-1q", "Q-4")
def test_submissions_on_one_timeline_leave_nothing(open_bare: OpenBare, quality: Quality, deadline: float) -> None:
    """A timeline forgets the submissions that have advanced it, however many there were.

    host ◀──s@1── ◀──s@2── ◀── … ◀──s@24000──, five hundred at a time
    """
    device = open_bare()
    s = device.create_semaphore(0)
    value = 0

    def submit(links: int) -> None:
        nonlocal value
        for _ in range(links):
            device.queue_execute([], wait=[s @ value], signal=[s @ (value + 1)])
            value += 1
        s.wait(value, deadline)

    expect_no_growth("submissions on one timeline", submit, quality, deadline, warm_up=4000, many=20_000)
    device.close()
