"""What the driver does: launches behind a hold, which a stream takes only so many of."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

#: Of how many launches a stream is known to take more, and of how many fewer.
AT_LEAST, AT_MOST = 900, 1100
#: Flags of an event on which a thread sleeps: DISABLE_TIMING | BLOCKING_SYNC.
BLOCKING = 3


class Launcher:
    """Launches on and on, on a thread of its own, and counts."""

    def __init__(self, cuda, launch, total):
        self.count = 0
        self.progress = threading.Event()

        def run():
            for _ in range(total):
                launch()
                self.count += 1

        self.task = cuda.task(run)

    def blocks(self) -> bool:
        """Wait until the count stands still for a while, or the end is reached; tell which."""
        deadline, seen, since = time.monotonic() + 5, -1, time.monotonic()
        while not self.task.done and time.monotonic() < deadline:
            if self.count != seen:
                seen, since = self.count, time.monotonic()
            elif time.monotonic() - since > 0.15:
                return True
            time.sleep(0.005)
        return False


def test_a_stream_takes_about_a_thousand_launches_that_cannot_start(cuda):
    stream, memory = cuda.stream(), cuda.memory()
    hold = cuda.hold(stream)
    launcher = Launcher(cuda, lambda: cuda.fill(memory, 1, stream), 1500)
    try:
        assert launcher.blocks()
        count = launcher.count
    finally:
        hold.open()
    launcher.task.result()
    assert AT_LEAST <= count <= AT_MOST
    assert launcher.count == 1500


def test_graphs_with_work_count_as_launches(cuda):
    stream, memory = cuda.stream(), cuda.memory()
    executable = cuda.graph(stream, lambda: cuda.fill(memory, 1, stream))
    hold = cuda.hold(stream)
    launcher = Launcher(cuda, lambda: cuda.cuGraphLaunch(executable, stream), 1500)
    try:
        assert launcher.blocks()
        count = launcher.count
    finally:
        hold.open()
    launcher.task.result()
    assert AT_LEAST <= count <= AT_MOST


def test_each_node_of_a_graph_counts(cuda):
    stream, memory = cuda.stream(), cuda.memory()

    def ten_fills():
        for _ in range(10):
            cuda.fill(memory, 1, stream)

    executable = cuda.graph(stream, ten_fills)
    hold = cuda.hold(stream)
    launcher = Launcher(cuda, lambda: cuda.cuGraphLaunch(executable, stream), 150)
    try:
        assert launcher.blocks()
        count = launcher.count
    finally:
        hold.open()
    launcher.task.result()
    assert AT_LEAST / 10 <= count <= AT_MOST / 10


def test_a_stream_takes_few_records_of_blocking_events(cuda):
    stream = cuda.stream()
    events = [cuda.event(BLOCKING) for _ in range(150)]
    remaining = iter(events)
    hold = cuda.hold(stream)
    launcher = Launcher(cuda, lambda: cuda.cuEventRecord(next(remaining), stream), 150)
    try:
        assert launcher.blocks()
        count = launcher.count
    finally:
        hold.open()
    launcher.task.result()
    cuda.synchronize(stream)
    assert 40 <= count <= 80


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [
        ("fill, host function", 56),
        ("record, host function", None),
        ("record, wait elsewhere, host function there", 56),
        ("wait elsewhere for one record, host function there", 56),
        ("wait elsewhere for one record, two host functions there", 56),
        ("wait on four others for one record, host function there", 56),
        ("waits for records of two held streams by turns, host function", 112),
        ("blocking record, wait elsewhere for one record, host function there", 28),
        ("wait elsewhere for what is done, host function there", None),
    ],
)
def test_a_stream_tells_few_host_functions_that_it_is_done(cuda, kind, rounds):
    stream, second, memory = cuda.stream(), cuda.stream(), cuda.memory()
    others = [cuda.stream() for _ in range(4)]
    done = cuda.recorded(others[0])
    assert cuda.gets_done(done)
    events = iter([cuda.event() for _ in range(300)])
    blocking = iter([cuda.event(BLOCKING) for _ in range(300)])
    called: list[Any] = []
    function = cuda.host_function(called.append)
    hold = cuda.hold(stream, second)
    of_stream, of_second = cuda.recorded(stream), cuda.recorded(second)
    turn = iter(range(300))

    def wait_and_call(on: Any, event: Any, calls: int = 1) -> None:
        cuda.cuStreamWaitEvent(on, event, 0)
        for _ in range(calls):
            cuda.cuLaunchHostFunc(on, function, 1)

    def one_round() -> None:
        number = next(turn)
        match kind:
            case "fill, host function":
                cuda.fill(memory, 1, stream)
                cuda.cuLaunchHostFunc(stream, function, 1)
            case "record, host function":
                cuda.cuEventRecord(next(events), stream)
                cuda.cuLaunchHostFunc(stream, function, 1)
            case "record, wait elsewhere, host function there":
                event = next(events)
                cuda.cuEventRecord(event, stream)
                wait_and_call(others[0], event)
            case "wait elsewhere for one record, host function there":
                wait_and_call(others[0], of_stream)
            case "wait elsewhere for one record, two host functions there":
                wait_and_call(others[0], of_stream, 2)
            case "wait on four others for one record, host function there":
                wait_and_call(others[number % 4], of_stream)
            case "waits for records of two held streams by turns, host function":
                wait_and_call(others[0], (of_stream, of_second)[number % 2])
            case "blocking record, wait elsewhere for one record, host function there":
                cuda.cuEventRecord(next(blocking), stream)
                wait_and_call(others[0], of_stream)
            case _:
                wait_and_call(others[0], done)

    launcher = Launcher(cuda, one_round, 300)
    try:
        blocks = launcher.blocks()
        count = launcher.count
    finally:
        hold.open()
    launcher.task.result()
    for one in (stream, second, *others):
        cuda.synchronize(one)
    assert blocks == (rounds is not None)
    assert count == 300 if rounds is None else 0.7 * rounds <= count <= 1.4 * rounds
    assert len(called) == (600 if "two host functions" in kind else 300)


# Each kind by itself: what a stream has to tell host functions of is scarcer.
@pytest.mark.parametrize("kind", ["record", "wait", "empty graph", "host function"])
def test_what_does_not_count_as_a_launch(cuda, kind):
    stream, other = cuda.stream(), cuda.stream()
    executable = cuda.graph(stream, lambda: None)
    called: list[Any] = []
    function = cuda.host_function(called.append)
    hold = cuda.hold(stream, other)
    event, pending = cuda.event(), cuda.recorded(other)
    launch = {
        "record": lambda: cuda.cuEventRecord(event, stream),
        "wait": lambda: cuda.cuStreamWaitEvent(stream, pending, 0),
        "empty graph": lambda: cuda.cuGraphLaunch(executable, stream),
        "host function": lambda: cuda.cuLaunchHostFunc(stream, function, 1),
    }[kind]
    launcher = Launcher(cuda, launch, 3000)
    try:
        assert not launcher.blocks()
    finally:
        hold.open()
    launcher.task.result()
    cuda.synchronize(stream)
    assert len(called) == (3000 if kind == "host function" else 0)


def test_a_blocked_launch_blocks_other_threads_that_create(cuda):
    stream, free, memory, pinned = cuda.stream(), cuda.stream(), cuda.memory(), cuda.pinned()
    event = cuda.recorded(free)
    assert cuda.gets_done(event)
    hold = cuda.hold(stream)
    launcher = Launcher(cuda, lambda: cuda.fill(memory, 1, stream), 1200)
    try:
        assert launcher.blocks()
        creating = cuda.task(lambda: cuda.cuEventCreate(2))
        copying = cuda.task(lambda: cuda.cuMemcpyDtoHAsync(pinned, memory, 64, free))
        blocked = creating.stays_blocked()
        copied = not copying.stays_blocked()
        query = cuda.task(lambda: cuda.is_done(event))
        answered = not query.stays_blocked()
    finally:
        hold.open()
    launcher.task.result()
    cuda.later("cuEventDestroy", creating.result())
    copying.result()
    cuda.synchronize(free)
    assert blocked
    assert copied
    assert answered
