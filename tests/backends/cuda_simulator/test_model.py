"""What only the simulated driver can do: schedules, faults on demand, small limits."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from pytest_cuda2hal.backends.cuda.simulator import CUresult, SimulatedDriver

ILLEGAL_ADDRESS = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS


# --- the schedule


def test_nothing_completes_in_the_call_that_enqueues_it(simulate):
    cuda = simulate(manual=True)
    stream, event, memory = cuda.stream(), cuda.event(), int(cuda.cuMemAlloc(64))
    cuda.fill(memory, 1, stream)
    cuda.cuEventRecord(event, stream)
    assert not cuda.is_done(event)
    assert cuda.driver.step()
    assert not cuda.is_done(event)
    assert cuda.driver.step()
    assert cuda.is_done(event)
    assert not cuda.driver.step()


def test_a_step_can_be_a_certain_streams(simulate):
    cuda = simulate(manual=True)
    streams = [cuda.stream() for _ in range(3)]
    events = [cuda.recorded(stream) for stream in streams]
    assert cuda.driver.step(streams[1])
    assert [cuda.is_done(event) for event in events] == [False, True, False]
    assert not cuda.driver.step(streams[1])


def test_running_until_idle_stops_at_what_is_held(simulate):
    cuda = simulate(manual=True)
    stream = cuda.stream()
    seen: list[Any] = []
    cuda.cuLaunchHostFunc(stream, cuda.host_function(seen.append), 1)
    hold = cuda.hold(stream)
    event = cuda.recorded(stream)
    assert cuda.driver.run_until_idle() == 1
    assert seen == [1]
    assert not cuda.is_done(event)
    hold.open()
    assert cuda.driver.run_until_idle() == 2
    assert cuda.is_done(event)


def test_a_driver_that_runs_by_itself_takes_no_steps(simulate):
    with pytest.raises(RuntimeError, match="manual"):
        simulate().driver.step()


def order(simulate, seed):
    """Return in which order two streams run four host functions each, where b2 comes after a1."""
    cuda = simulate(seed=seed, manual=True)
    first, second = cuda.stream(), cuda.stream()
    seen: list[Any] = []
    function = cuda.host_function(seen.append)
    for index in range(4):
        cuda.cuLaunchHostFunc(first, function, 10 + index)
        if index == 1:
            event = cuda.recorded(first)
    for index in range(4):
        if index == 2:
            cuda.cuStreamWaitEvent(second, event, 0)
        cuda.cuLaunchHostFunc(second, function, 20 + index)
    cuda.driver.run_until_idle()
    return tuple(seen)


def test_seeds_reach_many_orders_and_all_are_legal(simulate):
    orders = {order(simulate, seed) for seed in range(25)}
    assert len(orders) > 8
    for seen in orders:
        assert [one for one in seen if one < 20] == [10, 11, 12, 13]
        assert [one for one in seen if one >= 20] == [20, 21, 22, 23]
        assert seen.index(11) < seen.index(22)


def test_a_seed_is_an_order(simulate):
    assert len({order(simulate, 5) for _ in range(4)}) == 1


def test_without_a_seed_streams_take_turns(simulate):
    cuda = simulate(manual=True)
    streams = [cuda.stream() for _ in range(3)]
    seen: list[Any] = []
    function = cuda.host_function(seen.append)
    for index, stream in enumerate(streams):
        for _ in range(2):
            cuda.cuLaunchHostFunc(stream, function, 1 + index)
    cuda.driver.run_until_idle()
    assert seen == [1, 2, 3, 1, 2, 3]


def test_much_work_of_many_threads_all_gets_done(simulate):
    cuda = simulate(seed=3)
    memory = cuda.memory(4096)

    def work(index):
        stream, event = cuda.cuStreamCreate(1), cuda.cuEventCreate(2)
        for count in range(1, 101):
            cuda.fill(memory + 64 * index, count, stream)
            cuda.cuEventRecord(event, stream)
            if count % 10 == 0:
                cuda.cuEventSynchronize(event)
        cuda.cuStreamSynchronize(stream)

    for task in [cuda.task(lambda index=index: work(index)) for index in range(8)]:
        task.result(10)
    assert cuda.read(memory, 512) == b"\x64" * 512


# --- limits


def test_the_limit_of_launches_is_exact(simulate):
    cuda = simulate(launch_limit=4)
    stream, memory = cuda.stream(), int(cuda.cuMemAlloc(64))
    hold = cuda.hold(stream)  # the first
    for _ in range(3):
        cuda.fill(memory, 1, stream)
    cuda.recorded(stream)
    fifth = cuda.task(lambda: cuda.fill(memory, 2, stream))
    assert fifth.stays_blocked()
    hold.open()
    fifth.result()


def test_a_launch_that_is_blocked_returns_when_the_context_is_lost(simulate):
    cuda = simulate(launch_limit=1)
    stream, memory = cuda.stream(), int(cuda.cuMemAlloc(64))
    cuda.hold(stream)
    blocked = cuda.task(lambda: cuda.driver.cuMemsetD8Async(memory, 0, 1, stream))
    assert blocked.stays_blocked()
    behind = cuda.task(lambda: cuda.driver.cuEventCreate(0))
    assert behind.stays_blocked()
    cuda.driver.lose(CUresult.CUDA_ERROR_LAUNCH_FAILED)
    assert cuda.error(blocked.result()) == cuda.error(behind.result()) == "LAUNCH_FAILED"


def test_a_hold_costs_little(simulate):
    cuda = simulate()
    cuda.hold(cuda.stream())
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.15


# --- faults and failures on demand


def test_a_lost_context_answers_every_blocked_call_at_once(simulate):
    cuda = simulate()
    stream = cuda.stream()
    cuda.hold(stream)
    event = cuda.recorded(stream)
    blocked = [
        cuda.task(lambda: cuda.driver.cuEventSynchronize(event)),
        cuda.task(lambda: cuda.driver.cuStreamSynchronize(stream)),
        cuda.task(cuda.driver.cuCtxSynchronize),
    ]
    assert all(task.stays_blocked() for task in blocked)
    cuda.driver.inject_fault(ILLEGAL_ADDRESS)
    assert [cuda.error(task.result(1)) for task in blocked] == ["ILLEGAL_ADDRESS"] * 3
    cuda.cuDevicePrimaryCtxRelease(cuda.device)


def test_a_fault_can_wait_for_its_stream(simulate):
    cuda = simulate(manual=True)
    stream = cuda.stream()
    seen: list[Any] = []
    function = cuda.host_function(seen.append)
    cuda.cuLaunchHostFunc(stream, function, 1)
    cuda.driver.inject_fault(CUresult.CUDA_ERROR_ECC_UNCORRECTABLE, stream)
    cuda.cuLaunchHostFunc(stream, function, 2)
    cuda.driver.run_until_idle()
    assert seen == [1]
    assert cuda.error(cuda.driver.cuStreamQuery(stream)) == "ECC_UNCORRECTABLE"


def test_a_host_function_that_has_its_turn_is_not_called_any_more(simulate):
    cuda = simulate()
    first, second = cuda.stream(), cuda.stream()
    entered, leave = threading.Event(), threading.Event()
    called: list[Any] = []

    def function(_):
        entered.set()
        leave.wait(5)

    cuda.cuLaunchHostFunc(first, cuda.host_function(function), 1)
    cuda.cuLaunchHostFunc(second, cuda.host_function(called.append), 2)
    free = cuda.stream()
    assert cuda.gets_done(cuda.recorded(free))
    assert entered.wait(5)
    cuda.driver.lose(ILLEGAL_ADDRESS)
    leave.set()
    cuda.cuDevicePrimaryCtxRelease(cuda.device)
    for thread in threading.enumerate():
        if thread.name.startswith("simulated-cuda"):
            thread.join(5)
    assert called == []


def test_a_lost_context_is_a_destroyed_one_once_it_is_released(simulate):
    cuda = simulate()
    stream = cuda.stream()
    cuda.driver.lose(ILLEGAL_ADDRESS)
    assert cuda.error(cuda.driver.cuStreamQuery(stream)) == "ILLEGAL_ADDRESS"
    cuda.cuDevicePrimaryCtxRelease(cuda.device)
    assert cuda.error(cuda.driver.cuStreamQuery(stream)) == "CONTEXT_IS_DESTROYED"


def test_a_call_fails_as_often_as_ordered_and_does_nothing(simulate):
    cuda = simulate()
    cuda.driver.fail("cuEventCreate", n=2, error=CUresult.CUDA_ERROR_OUT_OF_MEMORY, times=2)
    names = [cuda.error(cuda.driver.cuEventCreate(0)) for _ in range(4)]
    assert names == ["CUDA_SUCCESS", "OUT_OF_MEMORY", "OUT_OF_MEMORY", "CUDA_SUCCESS"]
    assert cuda.driver.live()["CUevent"] == 2
    cuda.driver.fail("cuEventCreate", times=None)
    assert {cuda.driver.cuEventCreate(0) for _ in range(5)} == {(CUresult.CUDA_ERROR_UNKNOWN, None)}


def test_only_what_there_is_can_be_made_to_fail(simulate):
    with pytest.raises(AttributeError, match="cuNothing"):
        simulate().driver.fail("cuNothing")


# --- devices and contexts


def test_without_a_device():
    driver: Any = SimulatedDriver(devices=0)
    assert driver.cuInit(0) == (CUresult.CUDA_ERROR_NO_DEVICE,)
    assert driver.cuDeviceGetCount() == (CUresult.CUDA_ERROR_NOT_INITIALIZED, None)


def test_before_it_is_initialized():
    driver: Any = SimulatedDriver(version=12080)
    assert driver.cuDeviceGet(0) == (CUresult.CUDA_ERROR_NOT_INITIALIZED, None)
    assert driver.cuDriverGetVersion() == (CUresult.CUDA_SUCCESS, 12080)


def test_devices_have_contexts_and_faults_of_their_own(simulate):
    cuda = simulate(devices=2)
    first = cuda.stream()
    context = cuda.cuDevicePrimaryCtxRetain(1)
    cuda.cuCtxSetCurrent(context)
    second = cuda.cuStreamCreate(1)
    cuda.driver.inject_fault(ILLEGAL_ADDRESS, first)
    cuda.cuStreamSynchronize(second)
    cuda.cuCtxSetCurrent(cuda.context)
    assert cuda.error(cuda.driver.cuStreamSynchronize(first)) == "ILLEGAL_ADDRESS"


def test_after_the_last_release_handles_are_dead_and_the_threads_end(simulate):
    before = threading.active_count()
    cuda = simulate(check=False)
    stream = cuda.stream()
    cuda.hold(stream)
    waiter = cuda.task(lambda: cuda.driver.cuStreamSynchronize(stream))
    assert waiter.stays_blocked()
    cuda.cuDevicePrimaryCtxRelease(cuda.device)
    assert cuda.error(waiter.result()) == "CONTEXT_IS_DESTROYED"
    assert cuda.error(cuda.driver.cuStreamQuery(stream)) == "CONTEXT_IS_DESTROYED"
    cuda.forget()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.005)
    assert threading.active_count() <= before
    again = cuda.cuDevicePrimaryCtxRetain(cuda.device)
    cuda.cuCtxSetCurrent(again)
    cuda.cuStreamSynchronize(cuda.cuStreamCreate(1))


def test_what_is_no_handle_is_refused(simulate):
    cuda = simulate()
    stream = cuda.stream()
    for garbage in (None, 0, object(), cuda.event()):
        assert cuda.driver.cuStreamSynchronize(garbage) == (CUresult.CUDA_ERROR_INVALID_HANDLE,)
    assert cuda.driver.cuGraphLaunch(stream, stream) == (CUresult.CUDA_ERROR_INVALID_HANDLE,)


def test_calls_are_counted_and_logged(simulate):
    cuda = simulate(record_calls=True)
    stream = cuda.stream()
    cuda.cuStreamSynchronize(stream)
    assert cuda.driver.calls["cuStreamSynchronize"] == 1
    assert cuda.driver.log[-1] == ("cuStreamSynchronize", (stream,))
    assert not simulate().driver.log


# --- the suite itself


def test_the_real_driver_has_every_function_and_number():
    real = pytest.importorskip("cuda.bindings.driver", reason="cuda.bindings.driver is not installed")
    model = SimulatedDriver
    for name in dir(model):
        if name.startswith("cu"):
            assert hasattr(real, name), name
    for name in ("CUresult", "CUdevice_attribute", "CUmemPool_attribute", "CUstreamCaptureMode", "CUevent_flags"):
        theirs = getattr(real, name)
        assert {one.name: int(getattr(theirs, one.name, -1)) for one in getattr(model, name)} == {
            one.name: int(one) for one in getattr(model, name)
        }


def test_the_model_needs_nothing_but_the_standard_library():
    code = (
        "import pytest_cuda2hal.backends.cuda.simulator, sys; sys.exit('cuda' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=60).returncode == 0


def test_host_functions_take_plain_addresses(simulate):
    cuda = simulate()
    stream = cuda.stream()
    seen: list[Any] = []
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(seen.append)
    cuda.cuLaunchHostFunc(stream, ctypes.cast(callback, ctypes.c_void_p).value, None)
    cuda.synchronize(stream)
    assert seen == [None]
