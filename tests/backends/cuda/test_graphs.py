"""Command buffers become graphs when their addresses are known, one per lane; single commands stay plain calls."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.hal import Copy, Fill, Hold, Update

GRAPH_CALLS = ("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch")


def run(device, commands, queue=0):
    """Execute and wait."""
    done = device.semaphore()
    device.device.queue_execute(commands, signal=[done @ 1], queue=queue)
    done.wait(1, 5)


def two_fills(device, target):
    """Record two commands."""
    return device.device.create_command_buffer([Fill(target, 1), Fill(target, 2, 0, 1)])


def test_recording_makes_no_driver_call(rig):
    device = rig()
    target = device.buffer()
    calls = device.driver.calls.copy()
    two_fills(device, target)
    assert device.driver.calls == calls


def test_a_command_buffer_is_instantiated_once_for_all_its_runs(rig, completion):
    device = rig(completion=completion)
    target = device.buffer(4)
    commands = two_fills(device, target)
    for _ in range(5):
        target.write(bytes(4))
        run(device, commands)
        assert target.read() == b"\2\1\1\1"
    assert device.driver.calls["cuGraphInstantiate"] == 1
    assert device.driver.calls["cuGraphLaunch"] == 5
    assert device.driver.calls["cuMemsetD8Async"] == 2


def test_each_lane_has_an_executable_of_its_own(rig, completion):
    device = rig(completion=completion, record_calls=True)
    commands = two_fills(device, device.buffer(4))
    for queue in (0, 1, 0, 1):
        run(device, commands, queue)
    assert device.driver.calls["cuGraphInstantiate"] == 2
    launched = {(executable, stream) for executable, stream in device.calls("cuGraphLaunch")}
    assert len(launched) == len({executable for executable, _ in launched}) == 2


def test_a_held_run_on_one_queue_does_not_hold_the_same_commands_on_another(rig, completion):
    device = rig(completion=completion)
    commands = two_fills(device, device.buffer(4))
    device.hold()
    device.submit(commands)
    run(device, commands, 1)


@pytest.mark.parametrize("command", ["fill", "copy", "update", "hold"])
def test_a_single_command_is_a_plain_call(rig, completion, command):
    device = rig(completion=completion)
    target, other, latch = device.buffer(), device.buffer(), device.latch()
    latch.open()
    commands = {"fill": Fill(target, 1), "copy": Copy(other, target), "update": Update(target, b"x")}
    run(device, device.device.create_command_buffer([commands.get(command, Hold(latch))]))
    assert not any(device.driver.calls[name] for name in GRAPH_CALLS)


def test_a_list_that_is_executed_once_is_plain_calls(rig, completion):
    device = rig(completion=completion)
    target = device.buffer()
    run(device, [Fill(target, 1), Update(target, b"x"), Fill(target, 2)])
    assert not any(device.driver.calls[name] for name in GRAPH_CALLS)


def test_a_command_buffer_that_is_gone_destroys_its_graphs(rig, completion):
    device = rig(completion=completion)
    commands = two_fills(device, device.buffer())
    for queue in (0, 1):
        run(device, commands, queue)
    device.settles()
    del commands
    device.until(lambda: device.engine.turn() or device.driver.calls["cuGraphExecDestroy"] == 2)
    assert device.driver.calls["cuGraphDestroy"] == 2


def test_the_bytes_of_an_update_stay_in_pinned_memory_until_it_is_done(rig, completion):
    device = rig(completion=completion, record_calls=True)
    first, second, done = device.buffer(600), device.buffer(600), device.semaphore()
    latch = device.hold()
    device.submit(Update(first, b"1" * 600))
    device.submit(Update(second, b"2" * 600), signal=[done @ 1])
    latch.open()
    done.wait(1, 5)
    assert (first.read(), second.read()) == (b"1" * 600, b"2" * 600)
    sources = [source for _, source, size, stream in device.calls("cuMemcpyHtoDAsync") if size == 600]
    assert len(set(sources)) == 2
    device.settles()
    run(device, [Update(first, b"3" * 600)])
    assert device.calls("cuMemcpyHtoDAsync")[-1][1] in sources


def test_updates_take_no_more_pinned_memory_than_is_in_flight(rig, completion):
    device = rig(completion=completion)
    target = device.buffer(2000)
    run(device, [Update(target, bytes(2000))])
    slabs = device.driver.calls["cuMemHostAlloc"]
    for value in range(1200):
        run(device, [Update(target, bytes([value % 251] * 2000))])
    assert device.driver.calls["cuMemHostAlloc"] <= slabs + 1


def test_graphs_of_a_command_buffer_that_outlives_close_are_destroyed(rig):
    device = rig()
    commands = two_fills(device, device.buffer())
    run(device, commands)
    device.close()  # looks for what is left
    assert commands.commands


def test_graphs_that_go_with_their_device_are_destroyed(rig):
    device = rig()
    commands = two_fills(device, device.buffer())
    run(device, commands)
    driver, until = device.driver, device.until
    device.settles()
    device.engine.closed = True  # for the fixture: it is not to close it
    device.device = device.context = device.engine = type("Closed", (), {"closed": True})
    del commands
    until(lambda: not driver.contexts)
    assert driver.violations == []
