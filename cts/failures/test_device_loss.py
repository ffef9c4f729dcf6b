"""The device is lost: everything on it fails, and nobody waits for ever.

Each case loses a device of its own, which it opens in this process beside that of the other cases. That is enough where
a loss is made in software; a process of its own, which goes down with its device, is for native backends.
"""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fill, HalError, Hold, StatusCode, WaitMode

from ..support import (
    ObservedDevice,
    ObservedSemaphore,
    OpenDevice,
    Settle,
    Tasks,
    blocked,
    clause,
    expect_failed,
    requires,
    status_of,
)
from .support import failure_so_far

LOSS = HalError(StatusCode.UNAVAILABLE, "the device has fallen off the bus")


@pytest.fixture
def doomed(open_device: OpenDevice) -> ObservedDevice:
    """A device of the case's own, to lose."""
    return open_device()


def some_semaphores(device: ObservedDevice, count: int) -> list[ObservedSemaphore]:
    return [device.create_semaphore(0) for _ in range(count)]


@clause("F-10")
def test_loss_fails_what_is_pending(doomed: ObservedDevice) -> None:
    """On every queue a chain of three waits for a gate that nobody opens; all of it fails, with the loss.

    host ──gate──▶ barrier ──x@1──▶ barrier ──y@1──▶ barrier ──z@1──▶ host
    """
    [gate] = some_semaphores(doomed, 1)
    chains = [some_semaphores(doomed, 3) for _ in range(doomed.queue_count)]
    for queue, (x, y, z) in enumerate(chains):
        doomed.queue_execute([], wait=[gate @ 1], signal=[x @ 1], queue=queue)
        doomed.queue_execute([], wait=[x @ 1], signal=[y @ 1], queue=queue)
        doomed.queue_execute([], wait=[y @ 1], signal=[z @ 1], queue=queue)
    doomed.inject_device_loss(LOSS)
    for chain in chains:
        for semaphore in chain:
            expect_failed(semaphore, 1, LOSS)


@clause("F-10")
@requires(Capability.HOLD)
def test_loss_fails_what_is_in_flight(doomed: ObservedDevice) -> None:
    """Work is held on every queue, ready work queues up behind it, and more waits for it; the latch stays closed.

    hold ──x@1──▶ barrier ──z@1──▶ host
    fill(b) ──y@1──▶ host
    """
    buffer = doomed.allocate_buffer(256)
    latch = doomed.create_latch()
    signals = [some_semaphores(doomed, 3) for _ in range(doomed.queue_count)]
    for queue, (x, y, z) in enumerate(signals):
        doomed.queue_execute([Hold(latch)], signal=[x @ 1], queue=queue)
        doomed.queue_execute([Hold(latch), Fill(buffer, 7)], signal=[y @ 1], queue=queue)
        doomed.queue_execute([], wait=[x @ 1], signal=[z @ 1], queue=queue)
    doomed.inject_device_loss(LOSS)
    for triple in signals:
        for semaphore in triple:
            expect_failed(semaphore, 1, LOSS)
    latch.open()


@clause("F-10")
def test_loss_fails_what_is_submitted_later(doomed: ObservedDevice) -> None:
    """Later work is refused, or accepted and failed; ready or waiting, on any queue, with any operation."""
    a, b = doomed.allocate_buffer(256), doomed.allocate_buffer(256)
    a.write(b"\0" * 256)
    [gate] = some_semaphores(doomed, 1)
    doomed.inject_device_loss(LOSS)
    for queue in range(doomed.queue_count):
        for wait in ([], [gate @ 1]):
            submits = [
                partial(doomed.queue_execute, []),
                partial(doomed.queue_execute, [Copy(a, b)]),
                partial(doomed.queue_fill, b, 7),
                partial(doomed.queue_copy, a, b),
            ]
            for submit in submits:
                [done] = some_semaphores(doomed, 1)
                if status_of(partial(submit, wait=wait, signal=[done @ 1], queue=queue)) is StatusCode.OK:
                    expect_failed(done, 1, LOSS)


@clause("F-10")
@requires(Capability.HOLD, Capability.WAIT_ALL, Capability.WAIT_ANY)
def test_loss_ends_blocked_host_waits(doomed: ObservedDevice, threads: Tasks, settle: Settle) -> None:
    """Threads wait for one signal and for several, of pending and of held work: each comes back with a failure."""
    gate, pending, running = some_semaphores(doomed, 3)
    latch = doomed.create_latch()
    doomed.queue_execute([Hold(latch)], signal=[running @ 1])
    doomed.queue_execute([], wait=[gate @ 1], signal=[pending @ 1])
    both = [pending @ 1, running @ 1]
    waits = [
        partial(pending.wait, 1),
        partial(running.wait, 1),
        partial(doomed.wait_semaphores, both, mode=WaitMode.ALL),
        partial(doomed.wait_semaphores, both, mode=WaitMode.ANY),
    ]
    waiters = [threads.start(partial(status_of, wait)) for wait in waits]
    settle(blocked(*waiters))
    doomed.inject_device_loss(LOSS)
    codes = [waiter.result() for waiter in waiters]
    assert StatusCode.OK not in codes, (
        f"expected every wait to end with a failure; seen {[code.name for code in codes]}"
    )
    latch.open()


@clause("F-10")
def test_loss_amid_many_submissions(doomed: ObservedDevice, threads: Tasks) -> None:
    """Four threads submit without a pause when the device is lost: each signal is reached or fails, and none hangs."""

    def submit_until_lost(queue: int) -> list[ObservedSemaphore]:
        signals: list[ObservedSemaphore] = []
        for _ in range(1_000):
            done = doomed.create_semaphore(0)
            if status_of(partial(doomed.queue_execute, [], signal=[done @ 1], queue=queue)) is not StatusCode.OK:
                break
            signals.append(done)
            if len(signals) % 8 == 0 and status_of(partial(done.wait, 1)) is not StatusCode.OK:
                break
        return signals

    submitters = [threads.start(partial(submit_until_lost, number % doomed.queue_count)) for number in range(4)]
    first = doomed.create_semaphore(0)
    doomed.queue_execute([], signal=[first @ 1])
    first.wait(1)
    doomed.inject_device_loss(LOSS)
    for submitter in submitters:
        for done in submitter.result():
            code = status_of(partial(done.wait, 1))
            assert code in (StatusCode.OK, StatusCode.UNAVAILABLE, StatusCode.ABORTED), (
                f"expected each signal reached or failed by the loss; seen {code.name}"
            )
            if failure_so_far(done):
                expect_failed(done, 1, LOSS)


@clause("F-10")
@requires(Capability.HOLD)
def test_lost_device_closes(doomed: ObservedDevice) -> None:
    """Closing it right after the loss, with work held and pending, returns."""
    gate, x, y = some_semaphores(doomed, 3)
    latch = doomed.create_latch()
    doomed.queue_execute([Hold(latch)], signal=[x @ 1])
    doomed.queue_execute([], wait=[gate @ 1], signal=[y @ 1])
    doomed.inject_device_loss(LOSS)
    expect_failed(x, 1, LOSS)
    expect_failed(y, 1, LOSS)
    # The fixture closes the device, with the latch still closed, and fails the case if that does not return.
