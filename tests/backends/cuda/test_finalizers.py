"""A finalizer may run on any thread at any moment, with any lock held: it takes no lock and calls no driver."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from pytest_cuda2hal.backends.cuda.locks import OrderedLock
from pytest_cuda2hal.hal import Fill, Hold, Update


def used_handles(device):
    """Make one handle of each kind and use it."""
    target, done, latch = device.buffer(4096), device.semaphore(), device.device.create_latch()
    commands = device.device.create_command_buffer([Fill(target, 1), Update(target, b"abc")])
    latch.open()
    device.submit(commands, signal=[done @ 1], queue=1)
    device.submit(Hold(latch), signal=[done @ 2], queue=1)
    there = device.semaphore()
    from_queue = device.device.queue_alloca(64, signal=[there @ 1], queue=1)
    done.wait(2, 5)
    there.wait(1, 5)
    device.settles()
    gc.collect()  # a wait that slept is a cycle
    return {"buffer": target, "semaphore": done, "latch": latch, "commands": commands, "alloca": from_queue}


def every_lock(device, handles):
    """Return all the locks that a device has."""
    context, engine = device.context, device.engine
    locks = [engine._role, context._side_lock, engine.events._lock, engine._count_lock]
    return [*locks, engine.memory.lock, context.staging._lock, context._users_lock, handles["semaphore"]._lock]


@pytest.mark.parametrize("kind", ["buffer", "semaphore", "latch", "commands", "alloca", "all"])
@pytest.mark.parametrize("in_a_cycle", [False, True], ids=["dropped", "collected"])
def test_dropping_a_handle_takes_no_lock_and_makes_no_call(rig, completion, monkeypatch, kind, in_a_cycle):
    device = rig(completion=completion, watched=True)
    handles = used_handles(device)
    device.hold()
    locks = every_lock(device, handles)
    if kind in ("buffer", "all"):
        del handles["commands"]  # it uses the buffer
        device.engine.turn()
    dropped: list[object] = [handles.pop(name) for name in list(handles) if kind in (name, "all")]
    references = [weakref.ref(handle) for handle in dropped]
    done: list[str] = []

    def noted(name):
        if threading.current_thread().name == "dropping":
            done.append(name)

    def acquire(lock, blocking=True, timeout=-1):
        noted("lock")
        return real(lock, blocking, timeout)

    def drop():
        threading.current_thread().name = "dropping"
        dropped.clear()
        gc.collect()

    real = OrderedLock.acquire
    for lock in locks:
        device.until(lambda lock=lock: lock.acquire(False))
    monkeypatch.setattr(OrderedLock, "acquire", acquire)
    device.watched.watch = lambda name, arguments: noted(name)
    if in_a_cycle:
        dropped.append([*dropped])
        cycle = dropped.pop()
        assert isinstance(cycle, list)
        cycle.append(cycle)
        dropped.clear()
        del cycle
    try:
        dropping = device.task(drop)
        dropping.thread.join(5)
    finally:
        monkeypatch.undo()
        for lock in reversed(locks):
            lock.release()
    assert dropping.done
    assert [reference() for reference in references] == [None] * len(references)
    assert done == []


def test_what_finalizers_left_is_done_by_the_next_call(rig, completion):
    device = rig(completion=completion)
    handles = used_handles(device)
    device.hold()
    before = device.device.statistics()
    assert (before.buffers, before.memory_in_use) == (2, 4096 + 64)
    frees = device.driver.calls["cuMemFreeAsync"]
    handles.clear()
    gc.collect()
    device.device.queue_flush()
    assert device.driver.calls["cuMemFreeAsync"] == frees + 2
    assert device.driver.calls["cuGraphExecDestroy"] == 1
    after = device.device.statistics()
    assert (after.buffers, after.memory_in_use, after.semaphores) == (0, 0, 0)


def test_memory_of_dropped_buffers_is_freed_past_the_held_queues(rig, completion):
    device = rig(completion=completion, record_calls=True, memory=2**20)
    device.hold(0)
    device.hold(1)
    for _ in range(5):
        buffer = device.buffer(2**20)  # there is room for one
        buffer.write(b"x")
        del buffer
    assert {stream for _, stream in device.calls("cuMemFreeAsync")} == {device.context.side_stream}
    assert "cuMemFree" not in device.driver.calls


def test_nothing_that_blocks_behind_a_hold_is_called_while_one_may_be(rig, completion):
    device = rig(completion=completion)
    handles = used_handles(device)
    device.hold()
    handles.clear()
    gc.collect()
    device.device.queue_flush()
    for name in ("cuMemFree", "cuMemFreeHost", "cuMemAlloc", "cuCtxSynchronize", "cuMemcpyHtoD", "cuMemcpyDtoH"):
        assert name not in device.driver.calls


def test_a_buffer_dropped_while_it_is_in_use_is_freed_after_its_use(rig, completion):
    device = rig(completion=completion)
    latch, target = device.hold(), device.buffer()
    device.submit(Fill(target, 1))
    del target
    gc.collect()
    device.device.queue_flush()
    assert device.driver.calls["cuMemFreeAsync"] == 0
    latch.open()
    device.until(lambda: device.device.statistics().buffers == 0)
    assert device.driver.calls["cuMemFreeAsync"] == 1


def test_dropped_memory_is_freed_with_no_call_while_the_completers_are_in_the_driver(rig):
    device = rig()
    kept = device.engine.memory.in_use
    buffer = device.buffer()
    latches = [device.hold(queue) for queue in range(2)]
    device.until(lambda: device.driver.calls["cuEventSynchronize"] == len(latches))
    del buffer
    device.until(lambda: device.engine.memory.in_use == kept)
    for latch in latches:
        latch.open()


@pytest.mark.parametrize("kind", ["work", "command buffer", "update", "alloca", "dealloca"])
def test_what_finished_work_has_used_goes_while_what_follows_is_held(rig, completion, kind):
    """Who waits for it has it as his producer until he is done himself."""
    device = rig(completion=completion)
    made, seen, target = device.semaphore(), device.semaphore(), device.buffer()
    first, second = device.hold(0), device.latch()
    before = device.device.statistics().buffers
    if kind in ("alloca", "dealloca"):
        ready = device.semaphore()
        used = device.device.queue_alloca(64, signal=[ready @ 1], queue=1)
        ready.wait(1, 5)
        if kind == "alloca":
            device.device.queue_alloca(64, signal=[made @ 1])
        else:
            device.device.queue_dealloca(used, signal=[made @ 1])
    else:
        used = device.buffer()
        commands = [Update(used, b"x")] if kind == "update" else [Fill(used, 1), Fill(used, 2)]
        if kind == "command buffer":
            device.submit(device.device.create_command_buffer(commands), signal=[made @ 1])
        else:
            device.submit(*commands, signal=[made @ 1])
        del commands
    device.submit(Hold(second), Fill(target, 1), wait=[made @ 1], signal=[seen @ 1], queue=1)
    del used
    first.open()
    made.wait(1, 5)
    device.until(lambda: gc.collect() is None or device.device.statistics().buffers == before)
    assert device.value(seen) == 0
    second.open()
    seen.wait(1, 5)
