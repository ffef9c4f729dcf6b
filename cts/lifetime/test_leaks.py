"""What is alive, counted by the HAL itself."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Fill, HalError, Hold, Statistics, StatusCode, WaitMode

from ..support import (
    AskVariation,
    Buffers,
    Cause,
    Latches,
    ObservedDevice,
    Poll,
    Semaphores,
    Settle,
    Tasks,
    blocked,
    clause,
    expect_failed,
    requires,
    status_of,
)
from .conftest import OpenBare
from .rest import Grown, Rest


@clause("L-1")
@requires(Capability.STATISTICS)
def test_statistics_count_what_there_is(
    device: ObservedDevice, semaphores: Semaphores, buffers: Buffers, poll: Poll
) -> None:
    """What counts nothing finds no leak: the counts that all other cases here compare do grow, and come back.

    host ──gate@1──▶ fill(held) ──done@1──▶ host
    """
    before = device.statistics()
    gate, done = semaphores(2)
    held = buffers.filled(0, size=4096)
    device.queue_fill(held, 7, wait=[gate @ 1], signal=[done @ 1])

    poll(partial(Grown, device, before, semaphores=2, buffers=1, unretired=1))

    gate.signal(1)
    done.wait(1)
    poll(partial(Grown, device, before, semaphores=2, buffers=1, unretired=0))

    del gate, done, held
    gc.collect()
    poll(partial(Grown, device, before, semaphores=0, buffers=0, unretired=0))
    again = Grown(device, before, semaphores=0, buffers=0, unretired=0)
    assert again, f"to ask once more changes the answer: {again!r}"


@clause("L-1")
@requires(Capability.STATISTICS)
def test_statistics_count_what_a_queue_allocates(device: ObservedDevice, semaphores: Semaphores, poll: Poll) -> None:
    """The same for a buffer that a queue allocates, and frees.

    alloca(a) ──done@1──▶ host        dealloca(a) ──done@2──▶ host
    """
    (done,) = semaphores(1)
    before = device.statistics()
    a = device.queue_alloca(4096, signal=[done @ 1])
    done.wait(1)
    poll(partial(Grown, device, before, semaphores=0, buffers=1, unretired=0))
    more = device.statistics().memory_in_use - before.memory_in_use
    assert more >= 4096 or not before.memory_total, f"expected 4096 bytes more in use; seen {more}"

    device.queue_dealloca(a, signal=[done @ 2])
    del a
    done.wait(2)
    poll(partial(Grown, device, before, semaphores=0, buffers=0, unretired=0))


@clause("L-1")
@requires(Capability.STATISTICS, Capability.WAIT_ALL, Capability.WAIT_ANY)
def test_waits_leave_no_timepoints(device: ObservedDevice, semaphores: Semaphores, poll: Poll) -> None:
    """Whichever way a host wait ends, nothing of it stays with the semaphores, which live on."""
    a, b = semaphores(2)
    rest = Rest(device, poll)

    def expect_expired(wait: Callable[[], None]) -> None:
        assert status_of(wait) is StatusCode.DEADLINE_EXCEEDED

    for value in range(1, 51):
        both = [a @ value, b @ 1000]
        expect_expired(partial(a.wait, value, timeout=0))
        expect_expired(partial(a.wait, value, timeout=0.0005))
        expect_expired(partial(device.wait_semaphores, both, timeout=0.0005))
        a.signal(value)
        a.wait(value)
        device.wait_semaphores(both, mode=WaitMode.ANY)  # b stays unreached
        expect_expired(partial(device.wait_semaphores, both, timeout=0))
    rest.expect()


@clause("L-1")
@requires(Capability.STATISTICS, Capability.WAIT_ALL, Capability.WAIT_ANY)
def test_blocked_waits_leave_no_timepoints(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, poll: Poll, settle: Settle
) -> None:
    """Eight threads wait for all, for any and for one; when they have been woken nothing of them stays."""
    gate, never = semaphores(2)
    rest = Rest(device, poll)
    for base in range(0, 10, 2):
        first, second = gate @ (base + 1), gate @ (base + 2)
        waiting = [threads.start(partial(gate.wait, value)) for value in (base + 1, base + 2) for _ in range(2)]
        for mode, points in ((WaitMode.ALL, [first, second]), (WaitMode.ANY, [never @ 1, second])):
            waiting += [threads.start(partial(device.wait_semaphores, points, mode=mode)) for _ in range(2)]
        settle(blocked(*waiting))
        gate.signal(base + 2)
        for task in waiting:
            task.result()
    rest.expect()


@clause("L-1", "L-3")
@requires(Capability.STATISTICS, Capability.WAIT_ANY)
def test_semaphores_of_waits_in_vain_are_let_go(device: ObservedDevice, poll: Poll) -> None:
    """Whoever has waited for one of two semaphores keeps neither, though the other one lives on."""
    hal = device.inner  # no observer remembers anything
    lasting = hal.create_semaphore(0)
    rest = Rest(device, poll)

    def wait_in_vain() -> None:
        points = [hal.create_semaphore(0) @ 1, lasting @ 5]
        code = status_of(lambda: hal.wait_semaphores(points, mode=WaitMode.ANY, timeout=0.001))
        assert code is StatusCode.DEADLINE_EXCEEDED

    for _ in range(100):
        wait_in_vain()
    rest.expect()
    lasting.signal(5)


@clause("L-1")
def test_submissions_leave_nothing(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll
) -> None:
    """Chains, fans, and work without any signal: when all is done, nothing of it is pending or in flight."""
    b = buffers.filled(0)
    gate, s, fan = semaphores(3)
    rest = Rest(device, poll)
    for value in range(1, 201):
        queue = value % device.queue_count
        before = s @ (value - 1) if value > 1 else gate @ 1
        device.queue_fill(b, 7, wait=[before], signal=[s @ value], queue=queue)
        device.queue_execute([], wait=[gate @ 1, s @ value], queue=queue)
        device.queue_execute([], wait=[s @ 200], queue=queue)
    device.queue_execute([], wait=[s @ 100, s @ 200], signal=[fan @ 1])
    gate.signal(1)
    fan.wait(1)
    rest.expect()


@clause("L-1", "F-6", "F-11")
@requires(Capability.STATISTICS, Capability.HOLD, Capability.HOST_FAIL)
def test_signals_of_a_failed_semaphore_leave_nothing(
    device: ObservedDevice, semaphores: Semaphores, latches: Latches, cause: Cause, poll: Poll
) -> None:
    """Who was to signal a semaphore that has failed is forgotten by it, with all that it signals besides.

    queue 0: hold ──x@1, ended@1──▶ last queue: barrier ──╳ failed@k, other@1      x fails while the hold lasts
    """
    failed = semaphores.at(0)
    failed.fail(cause("before anybody could signal it"))
    why = cause("what the barrier waits for")
    rest = Rest(device, poll)
    for value in range(1, 21):
        x, ended, other = semaphores(3)
        latch = latches()
        device.queue_execute([Hold(latch)], signal=[x @ 1, ended @ 1], queue=0)
        signals = [failed @ value, other @ 1]
        device.queue_execute([], wait=[x @ 1], signal=signals, queue=device.queue_count - 1)
        x.fail(why)
        latch.open()
        expect_failed(other, 1, why)
        ended.wait(1)
    del x, ended, other, latch, signals
    rest.expect()


@clause("L-1", "F-6")
@requires(Capability.STATISTICS, Capability.HOLD, Capability.HOST_FAIL)
def test_semaphore_that_its_signaler_fails_keeps_nobody(
    device: ObservedDevice, semaphores: Semaphores, latches: Latches, cause: Cause, poll: Poll
) -> None:
    """A semaphore that fails with the work that was to signal it keeps alive nothing of what this signals besides.

    queue 0: hold ──x@1, ended@1──▶ last queue: barrier ──╳ kept@1, other@1      x fails while the hold lasts
    """
    why = cause("what the barrier waits for")
    keeps = semaphores(20)
    rest = Rest(device, poll)
    for kept in keeps:
        x, ended, other = semaphores(3)
        latch = latches()
        device.queue_execute([Hold(latch)], signal=[x @ 1, ended @ 1], queue=0)
        device.queue_execute([], wait=[x @ 1], signal=[kept @ 1, other @ 1], queue=device.queue_count - 1)
        x.fail(why)
        latch.open()
        expect_failed(other, 1, why)
        expect_failed(kept, 1, why)
        ended.wait(1)
    del x, ended, other, latch
    rest.expect()


@clause("L-1", "Q-13")
@requires(Capability.STATISTICS, Capability.HOLD)
def test_signals_that_come_second_leave_nothing(
    device: ObservedDevice, semaphores: Semaphores, latches: Latches, variation: AskVariation, poll: Poll
) -> None:
    """Of two who are to signal one value the later submission ends first: both are forgotten by the timeline.

    queue 0:    hold ──s@k──▶ host
    last queue: barrier ──s@k, other@1──▶ host
    """
    device.need_queues(2)
    overtaken = variation("overtaken-signal")
    overtaken.need_defined()
    if not overtaken.permits("no-op"):
        pytest.skip(f"unsupported: in profile '{device.profile}' the second to signal a value fails the semaphore")
    s = semaphores.at(0)
    rest = Rest(device, poll)
    for value in range(1, 21):
        latch, (held, other) = latches(), semaphores(2)
        device.queue_execute([Hold(latch)], signal=[s @ value, held @ 1], queue=0)
        device.queue_execute([], signal=[s @ value, other @ 1], queue=device.queue_count - 1)
        other.wait(1)
        s.wait(value)
        latch.open()
        held.wait(1)
    del held, other, latch
    rest.expect()


@clause("L-1", "F-6")
def test_failed_submissions_leave_nothing(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, poll: Poll
) -> None:
    """Submissions that never ran let go of everything, the waits that never came included."""
    why = cause("it never ran")
    b = buffers.filled(0)
    never = semaphores.at(0)
    rest = Rest(device, poll)
    for _ in range(50):
        gate, done, behind = semaphores(3)
        device.queue_fill(b, 7, wait=[gate @ 1], signal=[done @ 1])
        device.queue_execute([], wait=[done @ 1, never @ 1], signal=[behind @ 1])
        device.queue_execute([], wait=[never @ 1, gate @ 1])
        gate.fail(why)
        expect_failed(behind, 1, why)
    del gate, done, behind
    rest.expect()
    never.signal(1)


@clause("L-1")
def test_refused_submissions_leave_nothing(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation, poll: Poll
) -> None:
    """What was refused was not kept."""
    outside = variation("out-of-range-transfer")
    if not outside.permits("refused") or outside.permits("fails"):
        pytest.skip(f"unsupported: profile '{device.profile}' knows no submission that is always refused")
    b = buffers.filled(0)
    gate, done = semaphores(2)
    rest = Rest(device, poll)
    for _ in range(100):
        code = status_of(lambda: device.queue_execute([Fill(b, 1, 0, 1000)], wait=[gate @ 1], signal=[done @ 1]))
        assert code is not StatusCode.OK, "expected the fill outside its buffer to be refused"
    rest.expect()


@clause("L-1")
def test_buffers_of_finished_work_are_let_go(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll
) -> None:
    """Buffers that only the queued work still holds live until it is done, and no longer."""
    rest = Rest(device, poll)
    out = buffers.filled(0)
    kept = Rest(device, poll)
    gate, s = semaphores(2)
    for value in range(1, 51):
        source = buffers.filled(value)
        before = s @ (value - 1) if value > 1 else gate @ 1
        device.queue_copy(source, out, wait=[before], signal=[s @ value], queue=value % device.queue_count)
        del source
    gate.signal(1)
    s.wait(50)
    assert out.holds(50)
    del gate, s, before
    kept.expect()
    del out
    rest.expect()


@clause("L-1")
@requires(Capability.STATISTICS, Capability.REUSABLE_COMMANDS)
def test_command_buffers_leave_nothing(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll
) -> None:
    """Recorded, executed many times and dropped; recorded and never executed."""
    b = buffers.filled(0)
    s = semaphores.at(0)
    rest = Rest(device, poll)
    value = 0
    for _ in range(20):
        commands = device.create_command_buffer([Fill(b, 7)])
        device.create_command_buffer([Fill(buffers.filled(1), 7)])
        for _ in range(5):
            value += 1
            device.queue_execute(commands, wait=[s @ (value - 1)], signal=[s @ value])
    s.wait(value)
    del commands
    rest.expect()


@clause("L-1")
def test_devices_open_where_they_began(device: ObservedDevice, open_bare: OpenBare, deadline: float) -> None:
    """A hundred times: open, work, drop, close. Each device begins with what the first began with.

    The one that was there all the while is none the wiser.
    """
    first: Statistics | None = None
    before = device.statistics()
    for number in range(100):
        other = open_bare()
        began = other.statistics()
        first = first or began
        assert began == first, f"device {number} begins with {began}, the first with {first}"
        gate, done, b = other.create_semaphore(0), other.create_semaphore(0), other.allocate_buffer(256)
        other.queue_fill(b, 7, wait=[gate @ 1], signal=[done @ 1])
        gate.signal(1)
        done.wait(1, deadline)
        del gate, done, b
        other.close()
    assert device.statistics() == before


@clause("L-1")
@requires(Capability.STATISTICS, Capability.HOST_CALL)
def test_host_calls_leave_no_threads(device: ObservedDevice, semaphores: Semaphores, poll: Poll) -> None:
    """A hundred calls, of which some raise, leave no thread and nothing in flight."""
    rest = Rest(device, poll)
    done = semaphores.at(0)

    def fails() -> None:
        raise HalError(StatusCode.ABORTED, "on purpose")

    failed = semaphores(100)
    for value, unmade in enumerate(failed, 1):
        device.queue_host_call(fails, signal=[unmade @ 1])
        device.queue_host_call(lambda: None, wait=[done @ (value - 1)], signal=[done @ value])
    done.wait(100)
    for unmade in failed:
        expect_failed(unmade, 1, HalError(StatusCode.ABORTED, "on purpose"))
    del done, failed, unmade
    rest.expect()
