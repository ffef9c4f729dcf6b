"""What the driver does: host functions."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest

SOON = 5.0


def test_a_host_function_gets_its_argument_on_a_thread_of_the_drivers(cuda):
    stream = cuda.stream()
    seen: list[Any] = []
    function = cuda.host_function(lambda argument: seen.append((argument, threading.get_ident())))
    for argument in (1, 2, 3):
        cuda.cuLaunchHostFunc(stream, function, argument)
    cuda.synchronize(stream)
    assert [argument for argument, _ in seen] == [1, 2, 3]
    assert threading.get_ident() not in {thread for _, thread in seen}


def test_a_host_function_comes_after_what_was_before_and_before_what_is_after(cuda):
    stream, memory, pinned = cuda.stream(), cuda.memory(), cuda.pinned()
    entered, leave = threading.Event(), threading.Event()
    seen: list[Any] = []

    def function(_):
        seen.append(ctypes.string_at(pinned, 1))
        entered.set()
        leave.wait(SOON)

    hold = cuda.hold(stream)
    cuda.fill(memory, 3, stream)
    cuda.cuMemcpyDtoHAsync(pinned, memory, 64, stream)
    cuda.cuLaunchHostFunc(stream, cuda.host_function(function), 0)
    event = cuda.recorded(stream)
    assert not entered.wait(0.05)
    hold.open()
    assert entered.wait(SOON)
    try:
        assert seen == [b"\x03"]
        assert cuda.stays_pending(event)
    finally:
        leave.set()
    assert cuda.gets_done(event)


def test_a_host_function_does_not_hold_up_other_streams(cuda):
    busy, free = cuda.stream(), cuda.stream()
    memory = cuda.memory()
    entered, leave = threading.Event(), threading.Event()

    def function(_):
        entered.set()
        leave.wait(SOON)

    cuda.cuLaunchHostFunc(busy, cuda.host_function(function), 0)
    assert entered.wait(SOON)
    try:
        cuda.fill(memory, 1, free)
        assert cuda.gets_done(cuda.recorded(free))
    finally:
        leave.set()


FORBIDDEN = {
    "cuEventCreate": lambda driver, stream, event, memory: driver.cuEventCreate(2),
    "cuEventRecord": lambda driver, stream, event, memory: driver.cuEventRecord(event, stream),
    "cuEventQuery": lambda driver, stream, event, memory: driver.cuEventQuery(event),
    "cuEventSynchronize": lambda driver, stream, event, memory: driver.cuEventSynchronize(event),
    "cuMemsetD8Async": lambda driver, stream, event, memory: driver.cuMemsetD8Async(memory, 0, 1, stream),
    "cuMemAlloc": lambda driver, stream, event, memory: driver.cuMemAlloc(64),
    "cuStreamCreate": lambda driver, stream, event, memory: driver.cuStreamCreate(1),
}


#: What an H100 with driver 580 let through all the same.
LET_THROUGH = {"cuEventRecord", "cuEventQuery", "cuEventSynchronize", "cuMemsetD8Async"}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_a_host_function_hears_when_it_calls_the_driver(cuda, name):
    stream, other, event, memory = cuda.stream(), cuda.stream(), cuda.event(), cuda.memory()
    answers = []

    def function(_):
        answers.append(cuda.error(FORBIDDEN[name](cuda.driver, other, event, memory)))

    cuda.cuLaunchHostFunc(stream, cuda.host_function(function), 0)
    cuda.synchronize(stream)
    assert answers == ["CUDA_SUCCESS" if name in LET_THROUGH else "NOT_PERMITTED"]
