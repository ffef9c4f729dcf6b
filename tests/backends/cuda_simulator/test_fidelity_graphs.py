"""What the driver does: captures and graphs."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_capture_runs_nothing(cuda):
    stream, memory = cuda.stream(), cuda.memory()
    cuda.graph(stream, lambda: cuda.fill(memory, 1, stream))
    cuda.synchronize(stream)
    assert cuda.read(memory) == bytes(64)


def test_a_graph_runs_in_order_as_often_as_it_is_launched(cuda):
    stream, memory, copy = cuda.stream(), cuda.memory(), cuda.memory()

    def capture():
        cuda.cuMemcpyDtoDAsync(copy, memory, 64, stream)
        cuda.fill(memory, 2, stream)
        cuda.cuMemcpyDtoDAsync(copy + 64, memory, 64, stream)

    executable = cuda.graph(stream, capture)
    cuda.fill(memory, 1, stream)
    cuda.cuGraphLaunch(executable, stream)
    cuda.synchronize(stream)
    assert cuda.read(copy, 128) == b"\x01" * 64 + b"\x02" * 64
    cuda.cuGraphLaunch(executable, stream)
    cuda.synchronize(stream)
    assert cuda.read(copy, 128) == b"\x02" * 128


def test_launches_of_one_graph_run_one_after_the_other_whatever_their_streams(cuda):
    stream, first, second = cuda.stream(), cuda.stream(), cuda.stream()
    memory, hold = cuda.memory(), cuda.hold()

    def capture():
        hold.on(stream)
        cuda.fill(memory, 3, stream)

    executable = cuda.graph(stream, capture)
    cuda.cuGraphLaunch(executable, first)
    cuda.cuGraphLaunch(executable, second)
    ends = cuda.recorded(first), cuda.recorded(second)
    assert all(cuda.stays_pending(event) for event in ends)
    hold.open()
    assert all(cuda.gets_done(event) for event in ends)
    assert cuda.read(memory) == b"\x03" * 64


def test_a_second_launch_waits_for_the_first_though_its_own_stream_is_free(cuda):
    stream, held, free = cuda.stream(), cuda.stream(), cuda.stream()
    memory = cuda.memory()
    executable = cuda.graph(stream, lambda: cuda.fill(memory, 3, stream))
    hold = cuda.hold(held)
    cuda.cuGraphLaunch(executable, held)
    cuda.cuGraphLaunch(executable, free)
    last = cuda.recorded(free)
    assert cuda.stays_pending(last)
    hold.open()
    assert cuda.gets_done(last)


def test_an_empty_graph_is_instantiated_and_launched(cuda):
    stream = cuda.stream()
    executable = cuda.graph(stream, lambda: None)
    for _ in range(3):
        cuda.cuGraphLaunch(executable, stream)
    assert cuda.gets_done(cuda.recorded(stream))


def test_an_empty_graph_keeps_its_place_in_the_stream(cuda):
    stream = cuda.stream()
    executable = cuda.graph(stream, lambda: None)
    hold = cuda.hold(stream)
    cuda.cuGraphLaunch(executable, stream)
    event = cuda.recorded(stream)
    assert cuda.stays_pending(event)
    hold.open()
    assert cuda.gets_done(event)


def test_a_graph_calls_host_functions(cuda):
    stream = cuda.stream()
    seen: list[Any] = []
    function = cuda.host_function(seen.append)
    executable = cuda.graph(stream, lambda: cuda.cuLaunchHostFunc(stream, function, 42))
    # Once only: the bindings (13.3) free what they pass to the host function after its first call.
    cuda.cuGraphLaunch(executable, stream)
    cuda.synchronize(stream)
    assert seen == [42]


def test_destroying_a_graph_in_flight_lets_it_finish(cuda):
    stream, memory = cuda.stream(), cuda.memory()
    cuda.cuStreamBeginCapture(stream, cuda.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
    cuda.fill(memory, 6, stream)
    graph = cuda.cuStreamEndCapture(stream)
    executable = cuda.cuGraphInstantiate(graph, 0)
    hold = cuda.hold(stream)
    cuda.cuGraphLaunch(executable, stream)
    event = cuda.recorded(stream)
    cuda.cuGraphDestroy(graph)
    cuda.cuGraphExecDestroy(executable)
    hold.open()
    assert cuda.gets_done(event)
    assert cuda.read(memory) == b"\x06" * 64


@pytest.mark.parametrize("name", ["cuStreamQuery", "cuStreamSynchronize"])
def test_a_capturing_stream_cannot_be_asked_and_the_capture_is_lost(cuda, name):
    stream = cuda.stream()
    cuda.cuStreamBeginCapture(stream, cuda.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
    assert cuda.error(getattr(cuda.driver, name)(stream)) == "STREAM_CAPTURE_UNSUPPORTED"
    assert cuda.error(cuda.driver.cuStreamEndCapture(stream)) == "STREAM_CAPTURE_INVALIDATED"
    assert cuda.gets_done(cuda.recorded(stream))


def test_a_global_capture_forbids_other_threads_to_ask_for_events(cuda):
    stream, event = cuda.stream(), cuda.event()
    cuda.cuStreamBeginCapture(stream, cuda.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
    answer = cuda.task(lambda: cuda.driver.cuEventQuery(event)).result()
    end = cuda.error(cuda.driver.cuStreamEndCapture(stream))
    assert cuda.error(answer) == "STREAM_CAPTURE_UNSUPPORTED"
    assert end == "STREAM_CAPTURE_INVALIDATED"


def test_a_capture_of_one_thread_leaves_other_threads_alone(cuda):
    stream, event = cuda.stream(), cuda.event()
    cuda.cuStreamBeginCapture(stream, cuda.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
    assert cuda.task(lambda: cuda.is_done(event)).result()
    cuda.cuGraphDestroy(cuda.cuStreamEndCapture(stream))


def test_an_event_recorded_in_a_capture_cannot_be_asked(cuda):
    stream, event = cuda.stream(), cuda.event()
    cuda.cuStreamBeginCapture(stream, cuda.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
    cuda.cuEventRecord(event, stream)
    answer = cuda.driver.cuEventQuery(event)
    cuda.driver.cuStreamEndCapture(stream)
    assert cuda.error(answer) == "CAPTURED_EVENT"


def test_a_capture_ends_once(cuda):
    stream = cuda.stream()
    assert cuda.error(cuda.driver.cuStreamEndCapture(stream)) == "ILLEGAL_STATE"
