"""What a semaphore that lives on must forget: whoever waited for it and does so no longer."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Device, Fill, HalError, Hold, StatusCode, Timepoint

from ..support import AskVariation, OpenDevice, Quality, clause, requires, status_of
from .memory import expect_no_growth

#: How often it is done before the first look at the memory, and until the next one.
WARM_UP, MANY = 1000, 4000
#: Seconds of a wait that is to end in vain, after it has begun; and how often, as a HAL may take a millisecond for it.
NO_TIME, MANY_WAITS = 1e-6, 1000


@clause("L-1q", "W-5")
def test_waits_that_expire_leave_nothing(open_device: OpenDevice, quality: Quality, deadline: float) -> None:
    """A host asks again and again for what does not come; each time it registers, and forgets about it."""
    device = open_device().inner  # no observer remembers anything
    never = device.create_semaphore(0)

    def wait(times: int) -> None:
        for _ in range(times):
            assert status_of(lambda: never.wait(1, NO_TIME)) is StatusCode.DEADLINE_EXCEEDED

    expect_no_growth("waits that expire", wait, quality, deadline, warm_up=500, many=MANY_WAITS)


@clause("L-1q", "W-5")
def test_waits_that_expire_beside_one_that_is_met_leave_nothing(
    open_device: OpenDevice, quality: Quality, deadline: float
) -> None:
    """A timeline goes on; each of its values, and one that never comes, is waited for in vain before.

    host: waits for s@k, and for s@10^9, which both end in vain, then s ← k
    """
    device = open_device().inner  # no observer remembers anything
    s = device.create_semaphore(0)
    value = 0

    def wait(times: int) -> None:
        nonlocal value
        for _ in range(times):
            value += 1
            for awaited in (value, 10**9):
                assert status_of(partial(s.wait, awaited, NO_TIME)) is StatusCode.DEADLINE_EXCEEDED
            s.signal(value)

    expect_no_growth("waits that expire beside one that is met", wait, quality, deadline, warm_up=500, many=MANY_WAITS)


@clause("L-1q")
@requires(Capability.ASYNC_SUBMIT)
def test_submissions_that_the_host_releases_leave_nothing(
    open_device: OpenDevice, quality: Quality, deadline: float
) -> None:
    """Each submission is there before the host signals the value that it waits for, one value after the other.

    host ──gate@k──▶ submission k ──s@k──▶ submission k + 1
    """
    device = open_device().inner  # no observer remembers anything
    gate, s = device.create_semaphore(0), device.create_semaphore(0)
    value = 0

    def release(times: int) -> None:
        nonlocal value
        for k in range(value + 1, value + times + 1):
            device.queue_execute([], wait=[gate @ k, s @ (k - 1)], signal=[s @ k])
        for k in range(value + 1, value + times + 1):
            gate.signal(k)
        value += times
        s.wait(value, deadline)

    expect_no_growth("submissions that the host releases", release, quality, deadline, warm_up=WARM_UP, many=MANY)


@clause("L-1q", "F-6")
@requires(Capability.HOST_FAIL, Capability.ASYNC_SUBMIT)
def test_submissions_that_fail_leave_nothing(
    open_device: OpenDevice, variation: AskVariation, quality: Quality, deadline: float
) -> None:
    """Of two semaphores that submissions wait for one fails; the other, which never comes, lives on without them.

    host ──╳ failed[k]@1──┐
    nobody ─ ─never@k─ ─ ─┴▶ submission k ──╳ done[k]@1──▶ host
    """
    if variation("failure-promptness").permits("when-resolved"):
        pytest.skip("unsupported: in this profile a failure may wait for the other members of the list")
    device = open_device().inner  # no observer remembers anything
    never = device.create_semaphore(0)
    value = 0

    def fail(times: int) -> None:
        nonlocal value
        for _ in range(times):
            value += 1
            fail_one(device, never @ value, deadline)

    expect_no_growth("submissions that fail", fail, quality, deadline, warm_up=WARM_UP, many=MANY)


def fail_one(device: Device, never: Timepoint, deadline: float) -> None:
    failed, done = device.create_semaphore(0), device.create_semaphore(0)
    device.queue_execute([], wait=[never, failed @ 1], signal=[done @ 1])
    failed.fail(HalError(StatusCode.CANCELLED, "asked for"))
    code = status_of(lambda: done.wait(1, deadline))
    assert code not in (StatusCode.OK, StatusCode.DEADLINE_EXCEEDED), f"expected a failure; seen {code.name}"


@clause("L-1q", "Q-15")
@requires(Capability.UPDATE)
def test_updates_leave_nothing(open_device: OpenDevice, quality: Quality, deadline: float) -> None:
    """What an update has taken from the host to bring to a buffer is let go when it is there."""
    device = open_device().inner  # no observer remembers anything
    b, s = device.allocate_buffer(256), device.create_semaphore(0)
    value = 0

    def update(times: int) -> None:
        nonlocal value
        for _ in range(times):
            data = value.to_bytes(4, "little") * 64
            device.queue_update(b, data, wait=[s @ value], signal=[s @ (value + 1)])
            value += 1
        s.wait(value, deadline)

    expect_no_growth("updates", update, quality, deadline, warm_up=WARM_UP, many=MANY)


@clause("L-1q")
@requires(Capability.HOLD, Capability.ASYNC_SUBMIT)
def test_finished_work_leaves_nothing_while_what_follows_it_is_held(
    open_device: OpenDevice, quality: Quality, deadline: float
) -> None:
    """A timeline on which there is always work: what is over is forgotten also by the work that waited for it.

    hold ──s@1──▶ … ──s@501──▶ hold ──s@502──▶ …      a hold ends when the next one has been submitted
    """
    device = open_device().inner  # no observer remembers anything
    s = device.create_semaphore(0)
    latch = device.create_latch()
    device.queue_execute([Hold(latch)], signal=[s @ 1])
    value = 1

    def go_on(times: int) -> None:
        nonlocal latch, value
        for _ in range(times):
            device.queue_execute([], wait=[s @ value], signal=[s @ (value + 1)])
            value += 1
        following = device.create_latch()
        device.queue_execute([Hold(following)], wait=[s @ value], signal=[s @ (value + 1)])
        latch.open()
        latch = following
        s.wait(value, deadline)
        value += 1

    try:
        expect_no_growth("finished work", go_on, quality, deadline, warm_up=WARM_UP, many=MANY)
    finally:  # also where it is skipped or fails, no work is left behind
        latch.open()
        s.wait(value, deadline)


@clause("L-1q")
@requires(Capability.REUSABLE_COMMANDS)
def test_command_buffers_leave_nothing(open_device: OpenDevice, quality: Quality, deadline: float) -> None:
    """Each is recorded, executed twice and dropped."""
    device = open_device().inner  # no observer remembers anything
    b, s = device.allocate_buffer(256), device.create_semaphore(0)
    value = 0

    def record(times: int) -> None:
        nonlocal value
        for _ in range(times):
            commands = device.create_command_buffer([Fill(b, 1), Fill(b, 2, 0, 128)])
            for _ in range(2):
                device.queue_execute(commands, wait=[s @ value], signal=[s @ (value + 1)])
                value += 1
        s.wait(value, deadline)

    expect_no_growth("command buffers", record, quality, deadline, warm_up=WARM_UP, many=MANY)
