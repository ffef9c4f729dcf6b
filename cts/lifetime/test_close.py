"""Closing a device, whatever it is doing."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Fill, HalError, Hold, StatusCode, WaitMode

from ..support import (
    AskVariation,
    Effort,
    ObservedDevice,
    ObservedSemaphore,
    OpenDevice,
    Poll,
    Tasks,
    clause,
    requires,
    status_of,
)
from ..waits.watching import rounds
from .conftest import Close
from .unfinished import ENDED, RESTING, STATES, Scene, add_pending, code_of


def open_scene(open_device: OpenDevice, state: str) -> Scene:
    scene = Scene(open_device())
    for add in STATES[state]:
        add(scene)
    return scene


def need_legal(variation: AskVariation, state: str) -> None:
    """End the case where closing in this state is not defined."""
    if state not in RESTING:
        variation("close-with-pending").need_defined()


@clause("L-2")
@pytest.mark.parametrize("state", STATES)
def test_close(open_device: OpenDevice, variation: AskVariation, close: Close, state: str) -> None:
    """Closing returns; what had not finished fails, what had finished or failed stays as it was, latches open."""
    need_legal(variation, state)
    scene = open_scene(open_device, state)
    close(scene.device)
    if state not in RESTING:
        scene.expect_ended()
        variation("close-with-pending").check("cancelled")


@clause("L-2", "L-3")
@pytest.mark.parametrize("dropped", ["before", "after"])
@pytest.mark.parametrize("state", STATES)
def test_close_and_drop_handles(
    open_device: OpenDevice, variation: AskVariation, close: Close, threads: Tasks, state: str, dropped: str
) -> None:
    """Semaphores, buffers, latches and command buffers go before the close, or after it: neither hangs."""
    need_legal(variation, state)
    if dropped == "after" and not variation("drop-order").permits("any"):
        pytest.skip("unsupported: in this profile the device is dropped last")
    scene = open_scene(open_device, state)

    def drop() -> None:
        scene.drop_handles()
        gc.collect()

    if dropped == "before":
        threads.start(drop, "drops").result()
    close(scene.device)
    threads.start(drop, "drops").result()


@clause("L-2")
def test_close_while_every_queue_works_again_and_again(
    open_device: OpenDevice, variation: AskVariation, close: Close, effort: Effort, deadline: float
) -> None:
    """Each thread of each device hears of the end, also when it hears it at work: no close of a hundred hangs."""
    need_legal(variation, "held")
    for _ in rounds(effort.loops(5, 100), deadline):
        scene = open_scene(open_device, "held")
        close(scene.device)
        scene.expect_ended()


# No clause promises that a device may be closed twice, or by two threads. The backends that come with the suite, known
# by their statistics, are held to it all the same; others are not asked.
@clause("L-2")
@requires(Capability.STATISTICS)
@pytest.mark.parametrize("state", STATES)
def test_closing_again_does_nothing(
    open_device: OpenDevice, variation: AskVariation, close: Close, threads: Tasks, state: str
) -> None:
    """Two threads close at once, and then once more."""
    need_legal(variation, state)
    scene = open_scene(open_device, state)
    threads.run([scene.device.close, scene.device.close])
    close(scene.device)


@clause("L-2")
@requires(Capability.ASYNC_SUBMIT, Capability.WAIT_ALL, Capability.WAIT_ANY)
def test_close_ends_host_waits(
    open_device: OpenDevice, variation: AskVariation, close: Close, threads: Tasks, effort: Effort
) -> None:
    """Host threads that wait for unfinished work, one, all or any of it, are told that it has ended."""
    variation("close-with-pending").need_defined()
    for _ in range(effort.loops(3, 20)):
        scene = Scene(open_device())
        add_pending(scene)
        points = [semaphore @ 1 for semaphore in scene.unfinished]
        begin = threading.Barrier(4, timeout=scene.device.deadline)

        def wait_for(wait: Callable[[], None], begin: threading.Barrier = begin) -> StatusCode:
            begin.wait()
            return status_of(wait)

        one = threads.start(partial(wait_for, partial(scene.unfinished[0].wait, 1)))
        all_or_any = [
            threads.start(partial(wait_for, partial(scene.device.wait_semaphores, points, mode=mode)))
            for mode in WaitMode
        ]
        begin.wait()
        close(scene.device)
        code = one.result()
        assert code in ENDED, f"expected the wait to end with CANCELLED or ABORTED; seen {code.name}"
        for task in all_or_any:  # one that came too late may be refused by the closed device
            code = task.result()
            assert code in (*ENDED, StatusCode.FAILED_PRECONDITION), f"expected the wait to end; seen {code.name}"


@clause("L-2")
def test_close_while_a_wait_runs_out(
    open_device: OpenDevice, variation: AskVariation, close: Close, threads: Tasks, effort: Effort
) -> None:
    """A host thread waits for what nothing on the device is to signal: its wait ends, by its deadline or the close."""
    variation("close-with-pending").need_defined()
    for number in range(effort.loops(5, 40)):
        device = open_device()
        orphan = device.create_semaphore(0)
        timeout = number % 5 * 0.001
        task = threads.start(partial(status_of, partial(orphan.wait, 1, timeout)))
        close(device)
        code = task.result()
        assert code in (*ENDED, StatusCode.DEADLINE_EXCEEDED), f"expected the wait to end; seen {code.name}"


@clause("L-2")
def test_close_after_a_burst_that_was_waited_for(open_device: OpenDevice, close: Close, effort: Effort) -> None:
    """Nothing is pending, but the HAL may still be putting away what it has just finished."""
    for _ in range(effort.loops(3, 10)):
        device = open_device()
        done = burst(device)
        for semaphore in done:
            semaphore.wait(1)
        close(device)
        done.clear()


@clause("L-2")
def test_close_right_after_a_burst(
    open_device: OpenDevice, variation: AskVariation, close: Close, effort: Effort
) -> None:
    """Work is being issued, running, finishing and waiting its turn: each signal is made, or fails as it should."""
    variation("close-with-pending").need_defined()
    for _ in range(effort.loops(5, 25)):
        device = open_device()
        done = burst(device, unsignaled=True)
        close(device)
        for semaphore in done:
            code = code_of(semaphore)
            assert code in (StatusCode.OK, *ENDED), f"expected it to finish or to be cancelled; seen {code.name}"


def burst(device: ObservedDevice, *, unsignaled: bool = False) -> list[ObservedSemaphore]:
    """Submit 100 pairs of small work on every queue, the second of each waiting for the first; do not wait.

    With ``unsignaled`` there is work behind each pair that signals nothing, so that nobody can know when it is done.
    """
    b = device.allocate_buffer(4096)
    done: list[ObservedSemaphore] = []
    for number in range(100):
        first, second = device.create_semaphore(0), device.create_semaphore(0)
        queue = number % device.queue_count
        device.queue_execute([Fill(b, 1, 8 * number, 8)], signal=[first @ 1], queue=queue)
        device.queue_execute([], wait=[first @ 1], signal=[second @ 1], queue=(queue + 1) % device.queue_count)
        if unsignaled:
            device.queue_execute([], wait=[second @ 1], queue=queue)
        done += [first, second]
    return done


@clause("L-2")
def test_close_while_others_submit(
    open_device: OpenDevice, variation: AskVariation, close: Close, threads: Tasks, effort: Effort
) -> None:
    """What is submitted while the device closes is refused, or accepted and then finishes or is cancelled."""
    variation("close-with-pending").need_defined()
    for _ in range(effort.loops(3, 15)):
        device = open_device()
        begun = device.create_semaphore(0)

        def submit(device: ObservedDevice = device, begun: ObservedSemaphore = begun) -> tuple[ObservedSemaphore, int]:
            s = device.create_semaphore(0)
            accepted = 0
            with contextlib.suppress(HalError):  # the refusal
                while accepted < 100_000:  # a close that hangs must not leave a thread that never ends
                    device.queue_execute([], wait=[s @ accepted], signal=[s @ (accepted + 1)])
                    accepted += 1
                    if accepted == 10:
                        begun.signal(1)
            return s, accepted

        task = threads.start(submit)
        begun.wait(1)
        close(device)
        s, accepted = task.result()
        code = status_of(partial(s.wait, accepted))
        assert code in (StatusCode.OK, *ENDED), f"expected what was accepted to end; seen {code.name}"


@clause("L-2")
@requires(Capability.HOLD)
def test_close_opens_latches(open_device: OpenDevice, variation: AskVariation, close: Close, threads: Tasks) -> None:
    """A thread opens the latch while the device closes, another has let go of it: closing waits for neither."""
    variation("close-with-pending").need_defined()
    device = open_device()
    kept = device.create_latch()
    held = [device.create_semaphore(0) for _ in range(device.queue_count)]
    for queue, finished in enumerate(held):
        latch = kept if queue else device.create_latch()
        device.queue_execute([Hold(latch)], signal=[finished @ 1], queue=queue)
    del latch
    task = threads.start(kept.open)
    close(device)
    task.result()
    for finished in held:
        assert code_of(finished) in (StatusCode.OK, *ENDED)


@clause("L-2", "A-5")
@requires(Capability.BOUNDED_MEMORY, Capability.STATISTICS, Capability.HOLD)
def test_close_while_room_is_being_made(open_device: OpenDevice, variation: AskVariation, close: Close) -> None:
    """An alloca waits for memory that running work keeps from being freed.

    queue 0:    hold ──gate@1──▶ dealloca(60%) ──freed@1──▶ CANCELLED
    last queue: alloca(60%) ──second@1──▶ CANCELLED, or RESOURCE_EXHAUSTED
    """
    variation("close-with-pending").need_defined()
    device = open_device()
    size = int(device.statistics().memory_total * 0.6)
    first, gate, freed, second = (device.create_semaphore(0) for _ in range(4))
    a = device.queue_alloca(size, signal=[first @ 1])
    first.wait(1)
    latch = device.create_latch()
    device.queue_execute([Hold(latch)], signal=[gate @ 1], queue=0)
    device.queue_dealloca(a, wait=[gate @ 1], signal=[freed @ 1], queue=0)
    allocated = [a, device.queue_alloca(size, signal=[second @ 1], queue=device.queue_count - 1)]
    close(device)
    variation("close-with-pending").check("cancelled")
    assert code_of(gate) in ENDED
    assert code_of(freed) in ENDED
    assert code_of(second) in (*ENDED, StatusCode.RESOURCE_EXHAUSTED)
    allocated.clear()


@clause("L-2", "H-3")
@requires(Capability.HOST_CALL)
def test_close_from_a_host_call(open_device: OpenDevice, variation: AskVariation, poll: Poll) -> None:
    """The device is closed by work of its own: the call returns, and what it was to signal has been cancelled."""
    variation("close-with-pending").need_defined()
    device = open_device()
    closed: list[str] = []
    called, pending, gate = (device.create_semaphore(0) for _ in range(3))

    def call() -> None:
        device.close()
        closed.append("closed")

    device.queue_execute([], wait=[gate @ 1], signal=[pending @ 1])
    device.queue_host_call(call, signal=[called @ 1])
    poll(lambda: closed)
    assert code_of(pending) in ENDED
    assert code_of(called) in ENDED


@clause("L-2")
@requires(Capability.HOST_CALL)
def test_close_while_a_host_call_runs(
    open_device: OpenDevice, variation: AskVariation, close: Close, deadline: float
) -> None:
    """A call that does not return does not keep the device from closing; its signal is cancelled."""
    variation("close-with-pending").need_defined()
    device = open_device()
    called = device.create_semaphore(0)
    runs, may_return = threading.Event(), threading.Event()

    def call() -> None:
        runs.set()
        may_return.wait(3 * deadline)

    device.queue_host_call(call, signal=[called @ 1])
    assert runs.wait(deadline), f"expected the host call to be made within {deadline:.1f} s"
    try:
        close(device)
        assert code_of(called) in ENDED
    finally:
        may_return.set()
