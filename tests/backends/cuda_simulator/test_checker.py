"""What the checker refuses: legal for the driver, wrong for this project."""

from __future__ import annotations

import ctypes

import pytest

from pytest_cuda2hal.backends.cuda.simulator import CUresult


def release(cuda):
    """Drop the last reference on the context."""
    cuda.cuDevicePrimaryCtxRelease(cuda.device)


def only_violation(cuda):
    """Return the one violation that there is."""
    (violation,) = cuda.driver.violations
    return violation


def test_good_manners_are_not_blamed(simulate):
    cuda = simulate()
    stream, other = cuda.cuStreamCreate(1), cuda.cuStreamCreate(1)
    event = cuda.cuEventCreate(2)
    pinned, memory, pool = cuda.cuMemHostAlloc(64, 0), int(cuda.cuMemAlloc(64)), cuda.pool()
    executable = cuda.graph(stream, lambda: cuda.cuMemcpyDtoHAsync(pinned, memory, 64, stream))
    cuda.fill(memory, 1, other)
    cuda.cuEventRecord(event, other)
    cuda.cuStreamWaitEvent(stream, event, 0)
    cuda.cuGraphLaunch(executable, stream)
    cuda.cuMemFreeAsync(cuda.cuMemAllocFromPoolAsync(64, pool, stream), stream)
    cuda.cuStreamSynchronize(stream)
    cuda.cuEventDestroy(event)
    cuda.cuGraphExecDestroy(executable)
    for one in (stream, other):
        cuda.cuStreamDestroy(one)
    cuda.cuMemPoolDestroy(pool)
    cuda.cuMemFree(memory)
    cuda.cuMemFreeHost(pinned)
    assert not cuda.driver.live()
    release(cuda)
    assert cuda.driver.violations == []


def test_a_wait_for_what_was_never_recorded(simulate):
    cuda = simulate()
    cuda.cuStreamWaitEvent(cuda.stream(), cuda.event(), 0)
    assert "never recorded" in only_violation(cuda)


@pytest.mark.parametrize("name", ["cuEventQuery", "cuEventRecord", "cuGetErrorName", "cuInit"])
def test_a_call_in_a_host_function(simulate, name):
    cuda = simulate()
    stream, event, answers = cuda.stream(), cuda.event(), []
    arguments = {
        "cuEventQuery": (event,),
        "cuEventRecord": (event, stream),
        "cuGetErrorName": (CUresult.CUDA_SUCCESS,),
        "cuInit": (0,),
    }

    def function(_):
        answers.append(getattr(cuda.driver, name)(*arguments[name])[0])

    cuda.cuLaunchHostFunc(stream, cuda.host_function(function), 0)
    cuda.synchronize(stream)
    let_through = name in ("cuEventQuery", "cuEventRecord")  # it does no harm there, and is wrong for us all the same
    assert answers == [CUresult.CUDA_SUCCESS if let_through else CUresult.CUDA_ERROR_NOT_PERMITTED]
    assert only_violation(cuda) == f"{name}: called in a host function"


def test_a_call_without_a_context(simulate):
    cuda = simulate()
    cuda.cuCtxSetCurrent(None)
    cuda.driver.cuEventCreate(0)
    assert only_violation(cuda) == "cuEventCreate: called without a current context"


def test_a_call_after_the_context_was_released(simulate):
    cuda = simulate()
    release(cuda)
    cuda.driver.cuEventCreate(0)
    assert only_violation(cuda) == "cuEventCreate: called after the context was released"


def test_releasing_more_often_than_retaining(simulate):
    cuda = simulate()
    release(cuda)
    assert cuda.driver.cuDevicePrimaryCtxRelease(cuda.device)[0] != CUresult.CUDA_SUCCESS
    assert "more often" in only_violation(cuda)


MADE = {
    "cuEventDestroy": (lambda cuda: cuda.cuEventCreate(0), "CUevent"),
    "cuStreamDestroy": (lambda cuda: cuda.cuStreamCreate(1), "CUstream"),
    "cuMemPoolDestroy": (lambda cuda: cuda.pool(), "CUmemoryPool"),
    "cuGraphExecDestroy": (lambda cuda: cuda.graph(cuda.stream(), lambda: None), "CUgraphExec"),
}


@pytest.mark.parametrize("name", MADE)
def test_destroying_twice(simulate, name):
    cuda = simulate()
    make, kind = MADE[name]
    handle = make(cuda)
    getattr(cuda, name)(handle)
    assert cuda.driver.violations == []
    assert getattr(cuda.driver, name)(handle) == (CUresult.CUDA_ERROR_INVALID_HANDLE,)
    assert only_violation(cuda).startswith(f"{name}: double destroy of <{kind}")


USED = {
    "cuEventQuery": ("cuEventDestroy", lambda cuda, event: cuda.driver.cuEventQuery(event)),
    "cuEventRecord": ("cuEventDestroy", lambda cuda, event: cuda.driver.cuEventRecord(event, cuda.stream())),
    "cuStreamWaitEvent": ("cuEventDestroy", lambda cuda, event: cuda.driver.cuStreamWaitEvent(cuda.stream(), event, 0)),
    "cuStreamQuery": ("cuStreamDestroy", lambda cuda, stream: cuda.driver.cuStreamQuery(stream)),
    "cuMemAllocFromPoolAsync": (
        "cuMemPoolDestroy",
        lambda cuda, pool: cuda.driver.cuMemAllocFromPoolAsync(64, pool, cuda.stream()),
    ),
    "cuGraphLaunch": (
        "cuGraphExecDestroy",
        lambda cuda, executable: cuda.driver.cuGraphLaunch(executable, cuda.stream()),
    ),
}


@pytest.mark.parametrize("name", USED)
def test_using_what_was_destroyed(simulate, name):
    cuda = simulate()
    destroy, use = USED[name]
    handle = MADE[destroy][0](cuda)
    getattr(cuda, destroy)(handle)
    assert cuda.driver.violations == []
    assert use(cuda, handle)[0] == CUresult.CUDA_ERROR_INVALID_HANDLE
    assert only_violation(cuda).startswith(f"{name}: use after destroy")


@pytest.mark.parametrize("free", ["cuMemFree", "cuMemFreeHost", "cuMemFreeAsync"])
def test_freeing_twice(simulate, free):
    cuda = simulate()
    stream = cuda.stream()
    address = cuda.cuMemHostAlloc(64, 0) if free == "cuMemFreeHost" else int(cuda.cuMemAlloc(64))
    arguments = (address, stream) if free == "cuMemFreeAsync" else (address,)
    if free == "cuMemFreeAsync":
        cuda.hold(stream)
    getattr(cuda, free)(*arguments)
    assert cuda.driver.violations == []
    assert getattr(cuda.driver, free)(*arguments) == (CUresult.CUDA_ERROR_INVALID_VALUE,)
    assert "freed before" in only_violation(cuda)


def test_destroying_a_stream_with_work_left(simulate):
    cuda = simulate()
    stream = cuda.cuStreamCreate(1)
    hold = cuda.hold(stream)
    cuda.cuStreamDestroy(stream)
    hold.open()
    assert "1 unfinished operation" in only_violation(cuda)


def test_destroying_an_event_that_a_thread_waits_for(simulate):
    cuda = simulate()
    stream, event = cuda.stream(), cuda.cuEventCreate(2)
    hold = cuda.hold(stream)
    cuda.cuEventRecord(event, stream)
    waiter = cuda.task(lambda: cuda.cuEventSynchronize(event))
    assert waiter.stays_blocked()
    cuda.cuEventDestroy(event)
    hold.open()
    waiter.result()
    assert "threads synchronize on" in only_violation(cuda)


def test_destroying_an_event_that_is_only_pending_is_fine(simulate):
    cuda = simulate()
    stream, event = cuda.stream(), cuda.cuEventCreate(2)
    cuda.hold(stream)
    cuda.cuEventRecord(event, stream)
    cuda.cuEventDestroy(event)
    assert cuda.driver.violations == []


@pytest.mark.parametrize("use", ["a hold", "a copy", "a graph"])
def test_freeing_pinned_memory_in_use(simulate, use):
    cuda = simulate()
    stream, memory = cuda.stream(), int(cuda.cuMemAlloc(64))
    pinned = cuda.cuMemHostAlloc(64, 0)
    ctypes.memset(pinned, 0, 64)
    executable = cuda.graph(stream, lambda: cuda.cuMemcpyDtoHAsync(pinned, memory, 64, stream))
    hold = cuda.hold(stream)
    if use == "a hold":
        cuda.cuStreamWaitValue32(stream, pinned, 0, 0)
    elif use == "a copy":
        cuda.cuMemcpyHtoDAsync(memory, pinned, 64, stream)
    else:
        cuda.cuGraphLaunch(executable, stream)
    freeing = cuda.task(lambda: cuda.cuMemFreeHost(pinned))
    assert freeing.stays_blocked()
    hold.open()
    freeing.result()
    assert only_violation(cuda).startswith("cuMemFreeHost: 1 unfinished operation")


def test_freeing_pinned_memory_that_was_in_use_is_fine(simulate):
    cuda = simulate()
    stream, memory, pinned = cuda.stream(), int(cuda.cuMemAlloc(64)), cuda.cuMemHostAlloc(64, 0)
    cuda.cuMemcpyHtoDAsync(memory, pinned, 64, stream)
    cuda.cuStreamSynchronize(stream)
    cuda.cuMemFreeHost(pinned)
    assert cuda.driver.violations == []


def test_a_pool_that_makes_a_stream_wait(simulate):
    cuda = simulate(memory=2**20)
    stream, other, pool = cuda.stream(), cuda.stream(), cuda.pool(plain=True)
    memory = int(cuda.cuMemAllocFromPoolAsync(2**20, pool, stream))
    cuda.hold(stream)
    cuda.cuMemFreeAsync(memory, stream)
    cuda.cuMemAllocFromPoolAsync(2**20, pool, other)
    assert "INTERNAL_DEPENDENCIES" in only_violation(cuda)


LEAKS = {
    "CUstream": lambda cuda: cuda.cuStreamCreate(1),
    "CUevent": lambda cuda: cuda.cuEventCreate(2),
    "CUmemoryPool": lambda cuda: cuda.pool(),
    "pinned": lambda cuda: cuda.cuMemHostAlloc(64, 0),
    "device memory": lambda cuda: int(cuda.cuMemAlloc(64)),
    "CUgraph": lambda cuda: graph(cuda)[0],
    "CUgraphExec": lambda cuda: graph(cuda)[1],
}


def graph(cuda):
    """Return a graph and an executable, of which the other is destroyed when the test is over."""
    stream = cuda.cuStreamCreate(1)
    cuda.cuStreamBeginCapture(stream, 2)
    made = cuda.cuStreamEndCapture(stream)
    cuda.cuStreamDestroy(stream)
    return made, cuda.cuGraphInstantiate(made, 0)


@pytest.mark.parametrize("kind", LEAKS)
def test_what_is_left_at_the_end(simulate, kind):
    cuda = simulate()
    for _ in range(2):
        LEAKS[kind](cuda)
    if kind == "CUgraph":
        for handle in [one for one in cuda.context.handles if type(one).__name__ == "CUgraphExec"]:
            cuda.cuGraphExecDestroy(handle)
    if kind == "CUgraphExec":
        for handle in [one for one in cuda.context.handles if type(one).__name__ == "CUgraph"]:
            cuda.cuGraphDestroy(handle)
    assert cuda.driver.live() == {kind: 2}
    release(cuda)
    assert only_violation(cuda) == f"cuDevicePrimaryCtxRelease: 2 x {kind} left"


def test_a_lost_context_may_be_left_as_it_is(simulate):
    cuda = simulate()
    cuda.stream()
    cuda.driver.lose(CUresult.CUDA_ERROR_LAUNCH_FAILED)
    release(cuda)
    assert cuda.driver.violations == []


def test_a_driver_without_a_checker_says_nothing(simulate):
    cuda = simulate(check=False)
    cuda.cuStreamWaitEvent(cuda.stream(), cuda.event(), 0)
    release(cuda)
    assert cuda.driver.violations == []
