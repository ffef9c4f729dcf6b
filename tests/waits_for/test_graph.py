"""The wait-for graph: as data, in words, and the same from a log and from a journal as far as both know."""

from __future__ import annotations

import json
import threading
import time

import pytest

from pytest_cuda2hal.hal import HalError, Hold, StatusCode
from pytest_cuda2hal.observation import DeadlineExpired, Tasks
from pytest_cuda2hal.observation.following import NODES
from pytest_cuda2hal.observation.journal import read_journal
from pytest_cuda2hal.observation.makers import Semaphores
from pytest_cuda2hal.waitgraph import Kind, Relation, State, WaitGraph, graph_of_journal, graph_of_log


def name(device, **objects):
    device.log.names.update({thing.serial: label for label, thing in objects.items()})


def ring(device):
    a, b, c = Semaphores(device)(3)
    name(device, a=a, b=b, c=c)
    device.queue_execute([], wait=[b @ 1], signal=[a @ 1], queue=0)
    device.queue_execute([], wait=[c @ 1], signal=[b @ 1], queue=1)
    device.queue_execute([], wait=[a @ 1], signal=[c @ 1], queue=2)
    return a


def test_it_is_plain_data(open_device, hang):
    graph = hang(ring(open_device())).graph
    data = json.loads(json.dumps(graph.to_json()))
    assert WaitGraph.from_json(data) == graph
    assert WaitGraph.from_json(data).in_words() == graph.in_words()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"nodes": [], "edges": [["a", "b", "waits for"]], "complete": True},
        {"nodes": [{"key": "a", "kind": "car", "label": "a", "state": "reached"}], "edges": [], "complete": True},
        {"nodes": [{"key": "a"}], "edges": [], "complete": True},
        {"nodes": 7, "edges": [], "complete": True},
    ],
)
def test_other_data_is_refused(data):
    with pytest.raises(ValueError):
        WaitGraph.from_json(data)


def test_an_empty_graph():
    graph = WaitGraph()
    assert graph.in_words() == []
    assert graph.rings() == []
    assert WaitGraph.from_json(graph.to_json()) == graph


def test_a_ring_is_found_and_named(open_device, hang):
    error = hang(ring(open_device()))
    labels = {node.key: node.label for node in error.graph.nodes}
    (found,) = error.graph.rings()
    assert [labels[key] for key in found] == ["a@1", "submission #1", "b@1", "submission #2", "c@1", "submission #3"]
    assert str(error).splitlines()[-1].strip() == (
        "a@1: see above, the waits form a ring (a@1 → submission #1 → b@1 → submission #2 → c@1 → submission #3 → a@1)"
    )


def test_what_two_wait_for_is_no_ring(open_device):
    device = open_device()
    gate, one, two = Semaphores(device)(3)
    name(device, gate=gate, one=one, two=two)
    device.queue_execute([], wait=[gate @ 1], signal=[one @ 1])
    device.queue_execute([], wait=[gate @ 1], signal=[two @ 1])
    with pytest.raises(DeadlineExpired) as caught:
        device.wait_semaphores([one @ 1, two @ 1])
    lines = str(caught.value).splitlines()
    assert lines[-1] == "    gate@1: see above"
    graph = caught.value.graph
    assert graph is not None
    assert graph.rings() == []
    gate.signal(1)


def test_names_learnt_later_are_in_the_graph(open_device, hang):
    device = open_device()
    gate = device.create_semaphore()
    error = hang(gate, 3)
    assert f"semaphore#{gate.serial}@3" in str(error)
    name(device, gate=gate)
    assert error.graph.in_words()[1] == "  gate@3 (gate = 0) is signaled by no submission"


def test_a_long_chain_is_cut_in_words_and_bounded_as_data(open_device, hang):
    device = open_device()
    line = device.create_semaphore()
    for value in range(1, 20_000):
        device.log.add("barrier", 0, (line.point(value),), (line.point(value + 1),))
    begin = time.monotonic()
    error = hang(line, 20_000)
    assert time.monotonic() - begin < 2
    assert len(str(error).splitlines()) == 9
    assert len(error.graph.nodes) == NODES
    assert sum(node.more for node in error.graph.nodes) == 1
    device.log.records.clear()


def test_a_wide_fan_in_does_not_crowd_out_the_chain_that_words_tell(open_device, hang):
    device = open_device()
    gate, first, done = Semaphores(device)(3)
    name(device, gate=gate, first=first)
    others = Semaphores(device)(300)
    device.queue_execute([], wait=[gate @ 1], signal=[first @ 1])
    device.queue_execute([], wait=[first @ 1, *(other @ 1 for other in others)], signal=[done @ 1])
    error = hang(done)
    lines = str(error).splitlines()
    assert " and 295 more" in lines[1]
    assert lines[-1].strip() == "gate@1 (gate = 0) is signaled by no submission"
    assert len(error.graph.nodes) == NODES
    for semaphore in (gate, *others):
        semaphore.signal(1)


def test_a_latch_that_nobody_opens(open_device, hang):
    device = open_device()
    done = device.create_semaphore()
    latch = device.create_latch()
    device.queue_execute([Hold(latch)], signal=[done @ 1])
    error = hang(done)
    assert str(error).endswith("; it is held by a latch that nobody has opened")
    assert [node.state for node in error.graph.nodes if node.kind is Kind.LATCH] == [State.CLOSED]
    latch.open()
    done.wait(1)
    assert graph_of_log(device.log, [done.point(1)], "x").in_words()[1].endswith("have failed")


def test_failed_and_forgotten_semaphores(open_device):
    device = open_device()
    bad, forgotten = Semaphores(device)(2)
    bad.fail(HalError(StatusCode.DATA_LOSS, "gone"))
    points = [bad.point(1), forgotten.point(1)]
    del forgotten
    graph = graph_of_log(device.log, points, "x", 1.0)
    assert [node.state for node in graph.nodes[1:]] == [State.FAILED, State.UNKNOWN]
    assert "failed with DATA_LOSS: gone" in graph.in_words()[1]
    assert "no handle left" in graph.in_words()[2]


def test_other_waiting_threads_are_in_it(open_device, hang):
    device = open_device()
    here, there = Semaphores(device)(2)
    name(device, here=here, there=there)
    waiting = threading.Event()

    def wait():
        waiting.set()
        there.wait(1, timeout=5)

    thread = threading.Thread(target=wait, name="consumer")
    thread.start()
    waiting.wait(5)
    error = hang(here)
    there.signal(1)
    thread.join()
    assert [node.label for node in error.graph.nodes if node.kind is Kind.THREAD] == ["MainThread", "consumer"]
    assert any(line.startswith("consumer waits for there@1, for 0.") for line in str(error).splitlines())
    assert "consumer" not in str(hang(here))


def test_a_thread_that_does_not_end_says_what_it_waits_for(open_device):
    device = open_device()
    gate = device.create_semaphore()
    name(device, gate=gate)
    task = Tasks(0.05).start(lambda: gate.wait(1, timeout=5), "waiter")
    with pytest.raises(DeadlineExpired, match=r"thread 'waiter' did not end within 0\.1 s") as caught:
        task.result()
    gate.signal(1)
    task.result()
    assert "gate@1 (gate = 0) is signaled by no submission" in str(caught.value)
    assert caught.value.graph is not None


def test_a_thread_that_waits_for_nothing_we_know(open_device):
    go = threading.Event()
    task = Tasks(0.01).start(lambda: go.wait(5), "waiter")
    with pytest.raises(DeadlineExpired) as caught:
        task.result()
    go.set()
    assert str(caught.value) == "thread 'waiter' did not end within 0.0 s"
    assert caught.value.graph is None


def structure(graph):
    """Return what a log and a journal both know: submissions, timepoints, relations, and the certain states."""
    labels = {node.key: node.label for node in graph.nodes}
    edges = {(labels[edge.source], edge.relation, labels[edge.target]) for edge in graph.edges}
    return edges, {(node.label, node.detail, node.queue) for node in graph.nodes if node.kind is Kind.SUBMISSION}


@pytest.mark.parametrize("program", ["chain", "ring", "fan"])
def test_journal_and_log_tell_the_same(open_device, journal, journal_path, program):
    device = open_device()
    if program == "ring":
        last = ring(device)
    else:
        gate, made, last = Semaphores(device)(3)
        name(device, gate=gate, made=made, last=last)
        inputs = Semaphores(device)(5 if program == "fan" else 0)
        name(device, **{f"inputs[{index}]": one for index, one in enumerate(inputs)})
        device.queue_execute([], wait=[gate @ 1], signal=[made @ 1], queue=2)
        device.queue_execute([], wait=[made @ 1, *(one @ 1 for one in inputs)], signal=[last @ 1], queue=3)
    seen = []
    original = last.inner.wait

    def wait(*arguments):
        seen.append(graph_of_journal(read_journal(journal_path)))
        original(*arguments)

    last.inner.wait = wait
    with pytest.raises(DeadlineExpired) as caught:
        last.wait(1)
    live = caught.value.graph
    assert live is not None
    assert structure(seen[0]) == structure(live)
    certain = {node.label: node.state for node in live.nodes if node.kind is Kind.TIMEPOINT}
    for node in seen[0].nodes:
        if node.kind is Kind.TIMEPOINT:
            assert node.state in (certain[node.label], State.UNKNOWN)
    assert WaitGraph.from_json(seen[0].to_json()) == seen[0]
    assert {edge.relation for edge in live.edges} == {Relation.WAITS_FOR, Relation.SIGNALED_BY}
