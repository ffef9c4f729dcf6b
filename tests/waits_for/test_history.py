"""What a journal tells: calls in progress, names, and a graph that claims no more than was seen."""

from __future__ import annotations

import re
import subprocess
import sys
import threading

import pytest

from pytest_cuda2hal.hal import Fill, HalError, Hold, StatusCode, WaitMode
from pytest_cuda2hal.observation.history import History, SeenPoint
from pytest_cuda2hal.observation.journal import Journal, read_journal, set_journal
from pytest_cuda2hal.observation.makers import Buffers, Semaphores
from pytest_cuda2hal.waitgraph import Relation, State, graph_of_journal


def during(method, look):
    """Return ``method``'s replacement, which looks while the call is in progress."""

    def call(*arguments, **keywords):
        look()
        return method(*arguments, **keywords)

    return call


@pytest.fixture
def watched(journal, journal_path):
    """Watch an object's method; return the words that the journal gives while it is called."""

    def watched(inner, method, act):
        seen = []
        original = getattr(inner, method)
        setattr(
            inner,
            method,
            during(original, lambda: seen.append(graph_of_journal(read_journal(journal_path)))),
        )
        act()
        return seen[0]

    return watched


def words(graph):
    return [re.sub(r", for \d+\.\d s", "", line) for line in graph.in_words()]


def test_the_submission_in_progress_and_what_it_waits_for(open_device, watched):
    device = open_device()
    gate, made = Semaphores(device)(2)
    graph = watched(
        device.inner, "queue_alloca", lambda: device.queue_alloca(64, wait=[gate @ 1], signal=[made @ 1], queue=2)
    )
    gate.signal(1)
    made.wait(1)
    assert words(graph) == [
        "MainThread is in queue_alloca(64) wait [gate@1]",
        "  gate@1 (last seen at 0) is signaled by no submission",
    ]
    assert [edge.relation for edge in graph.edges] == [Relation.SUBMITS, Relation.WAITS_FOR]


def test_every_call_is_seen_while_it_is_in_progress(open_device, watched):
    device = open_device()
    [gate] = Semaphores(device)(1)
    target = Buffers(device).filled(0)
    latch = device.create_latch()
    for inner, method, act, text in (
        (device.inner, "allocate_buffer", lambda: device.allocate_buffer(13), "allocate_buffer(13)"),
        (device.inner, "create_semaphore", lambda: device.create_semaphore(4), "create_semaphore(4)"),
        (device.inner, "create_latch", device.create_latch, "create_latch()"),
        (device.inner, "create_command_buffer", lambda: device.create_command_buffer([]), "create_command_buffer()"),
        (device.inner, "queue_flush", lambda: device.queue_flush(1), "queue_flush(1)"),
        (device.inner, "queue_host_call", lambda: device.queue_host_call(lambda: None), "queue_host_call"),
        (device.inner, "queue_fill", lambda: device.queue_fill(target, 1), "queue_fill(target)"),
        (device.inner, "queue_execute", lambda: device.queue_execute([Fill(target, 1)]), "queue_execute(fill(target))"),
        (target.inner, "read", target.read, "read(target)"),
        (target.inner, "write", lambda: target.write(b"1"), "write(target)"),
        (latch.inner, "open", latch.open, "open(latch)"),
        (gate.inner, "query", gate.query, "query(gate)"),
        (gate.inner, "signal", lambda: gate.signal(1), "signal(gate@1)"),
        (gate.inner, "wait", lambda: gate.wait(1), "wait(gate@1)"),
        (device.inner, "wait_semaphores", lambda: device.wait_semaphores([gate @ 1]), "wait(gate@1)"),
        (gate.inner, "fail", lambda: gate.fail(HalError(StatusCode.ABORTED)), "fail(gate)"),
    ):
        graph = watched(inner, method, act)
        assert words(graph)[0] == f"MainThread is in {text}"
        del inner.__dict__[method]
    graph = watched(device.inner, "close", device.close)
    assert words(graph) == ["MainThread is in close()"]


def test_a_call_that_raised_is_over(open_device, journal_path, journal):
    device = open_device()
    gate = device.create_semaphore(5)
    with pytest.raises(HalError):
        gate.signal(3)
    with pytest.raises(HalError):
        device.queue_execute([], queue=99)
    gate.query()
    content = read_journal(journal_path)
    assert content.threads == ()
    assert graph_of_journal(content).nodes == ()
    last = History(content).last_operations(2)
    assert re.fullmatch(r"MainThread: signal\(gate@3\)  raised [A-Z_]+: .*", last[0])
    assert re.fullmatch(r"MainThread: queue_execute\(barrier\) signal \[\] queue 99  raised [A-Z_]+: .*", last[1])


def test_last_operations(open_device, journal_path, journal):
    device = open_device()
    gate, done = Semaphores(device)(2)
    device.queue_execute([], wait=[gate @ 1], signal=[done @ 1], queue=1)
    gate.signal(1)
    done.wait(1)
    device.wait_semaphores([gate @ 1, done @ 1])
    history = History(read_journal(journal_path))
    assert history.last_operations(3) == [
        "MainThread: queue_execute(barrier) wait [gate@1] signal [done@1] queue 1  (submission #1)",
        "MainThread: signal(gate@1)",
        "MainThread: wait(gate@1, done@1)",
    ]
    assert history.last_operations(0) == []
    assert len(history.last_operations(1000)) == 5


def test_values_are_claimed_as_seen(open_device, watched):
    device = open_device(5)
    gate, made, done, other = Semaphores(device)(4)
    device.queue_execute([], wait=[gate @ 1], signal=[made @ 1])
    device.queue_execute([], wait=[made @ 1, other @ 2], signal=[done @ 1])
    gate.signal(1)
    other.signal(1)
    released = threading.Timer(0.05, lambda: other.inner.signal(2))
    released.start()
    graph = watched(done.inner, "wait", lambda: done.wait(1))
    released.join()
    states = {node.label: node.state for node in graph.nodes}
    assert states == {
        "MainThread": State.IN_PROGRESS,
        "done@1": State.UNKNOWN,
        "submission #2": State.WAITING,
        "made@1": State.UNKNOWN,
        "other@2": State.UNREACHED,
        "submission #1": State.READY,
    }
    assert words(graph) == [
        "MainThread is in wait(done@1)",
        "  done@1 (last seen at 0) is to be signaled by submission #2 on queue 0, barrier, which waits for other@2",
        "    other@2 (last seen at 1) is signaled by no submission",
    ]


def test_what_may_have_come_is_not_called_missing(open_device, watched):
    device = open_device(5)
    made, done = Semaphores(device)(2)
    device.queue_execute([], signal=[made @ 1])
    device.queue_execute([], wait=[made @ 1], signal=[done @ 1])
    graph = watched(done.inner, "wait", lambda: done.wait(1))
    text = "\n".join(words(graph))
    assert "which may wait for made@1" in text
    assert "is signaled by no submission" not in text
    assert "submitted 0.0 s ago; all its waits are reached or have failed" in text


def test_failed_and_held(open_device, watched, journal_path):
    device = open_device(5)
    bad, done, held = Semaphores(device)(3)
    latch = device.create_latch()
    bad.fail(HalError(StatusCode.DATA_LOSS, "gone"))
    device.queue_execute([Hold(latch)], signal=[held @ 1])
    threading.Timer(0.05, latch.inner.open).start()
    graph = watched(
        device.inner, "wait_semaphores", lambda: device.wait_semaphores([held @ 1, done @ 0], mode=WaitMode.ALL)
    )
    assert words(graph)[:2] == [
        "MainThread is in wait(held@1, done@0)",
        (
            "  held@1 (last seen at 0) is to be signaled by submission #1 on queue 0, hold, submitted 0.0 s ago; "
            "all its waits are reached or have failed; it is held by a latch that nobody has opened"
        ),
    ]
    device.queue_execute([], wait=[bad @ 1])
    with pytest.raises(HalError):
        graph = watched(bad.inner, "wait", lambda: bad.wait(1))
    content = read_journal(journal_path)
    point = History(content).timepoint(SeenPoint(1, bad.serial, 1))
    assert point[2:] == (State.FAILED, "bad failed with DATA_LOSS: gone")


def test_with_lost_entries_nothing_is_denied(open_device, journal_path):
    journal = Journal.create(journal_path, 2**17)
    journal.begin_case("long")
    set_journal(journal)
    try:
        device = open_device(5)
        line = device.create_semaphore()
        for value in range(1000):
            device.queue_execute([], wait=[line @ value], signal=[line @ (value + 1)])
        seen = []
        line.inner.wait = during(line.inner.wait, lambda: seen.append(graph_of_journal(read_journal(journal_path))))
        line.wait(1000)
    finally:
        set_journal(None)
    (graph,) = seen
    assert not graph.complete
    assert "submission #1000" in graph.in_words()[1]
    assert "no submission\n" not in "\n".join([*graph.in_words(), ""])


def test_a_host_function_is_seen_on_its_thread(open_device, journal_path, journal):
    device = open_device(5)
    [done] = Semaphores(device)(1)
    seen = []
    device.queue_host_call(lambda: seen.append(graph_of_journal(read_journal(journal_path))), signal=[done @ 1])
    done.wait(1)
    assert any(" is in a host function" in line for line in seen[0].in_words())


def test_devices_are_told_apart(open_device, watched):
    one, other = open_device(), open_device()
    [here] = Semaphores(one)(1)
    [there] = Semaphores(other)(1)
    assert here.serial == there.serial
    there.signal(7)
    graph = watched(one.inner, "queue_execute", lambda: one.queue_execute([], wait=[here @ 1]))
    here.signal(1)
    assert "here@1 (last seen at 0)" in "\n".join(words(graph))


def test_objects_have_the_names_that_the_case_gives_them(open_device, journal_path, journal):
    device = open_device()
    semaphores, buffers = Semaphores(device), Buffers(device)
    single = device.create_semaphore()
    first, second = semaphores(2)
    many = semaphores(3)
    at = semaphores.at(4)
    source, target = buffers.filled(1, count=2)
    kept = [device.create_semaphore() for _ in range(2)]
    one = buffers.filled(0)
    held = buffers.holding(b"123")

    def helper():
        return semaphores(2)

    left, right = helper()
    names = History(read_journal(journal_path))._names
    expected = {
        single: "single",
        first: "first",
        second: "second",
        many[0]: "many[0]",
        many[2]: "many[2]",
        at: "at",
        source: "source",
        target: "target",
        one: "one",
        held: "held",
        left: "left",
        right: "right",
    }
    assert {names.get((1, thing.serial)) for thing in kept} == {None}
    assert {thing: names.get((1, thing.serial)) for thing in expected} == expected


def test_without_a_journal_nothing_is_recorded(open_device):
    device = open_device()
    assert device.calls is None
    assert device.create_semaphore()._calls is None


def test_a_hung_process_explains_itself(journal_path):
    program = f"""
import ctypes, pathlib
from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.hal import PROFILES
from pytest_cuda2hal.observation import ObservedDevice
from pytest_cuda2hal.observation.journal import Journal, set_journal
from pytest_cuda2hal.observation.makers import Semaphores

journal = Journal.create(pathlib.Path({str(journal_path)!r}))
journal.begin_case("hung")
set_journal(journal)

class Holder(ReferenceDevice):
    def queue_alloca(self, size, **_):
        print("in", flush=True)
        ctypes.PyDLL(None).sleep(60)

def case():
    device = ObservedDevice(Holder(PROFILES["strict"]), own=True, deadline=1)
    gate, made = Semaphores(device)(2)
    device.queue_execute([], wait=[gate @ 1], signal=[made @ 1], queue=1)
    device.queue_alloca(64, wait=[made @ 1])

case()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"in\n"
            graph = graph_of_journal(read_journal(journal_path))
        finally:
            child.kill()
    assert words(graph) == [
        "MainThread is in queue_alloca(64) wait [made@1]",
        "  made@1 (last seen at 0) is to be signaled by submission #1 on queue 1, barrier, which waits for gate@1",
        "    gate@1 (last seen at 0) is signaled by no submission",
    ]
