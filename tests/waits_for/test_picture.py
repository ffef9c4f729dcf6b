"""The picture: well-formed, the same each time, nothing outside and nothing over something else."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from pytest_cuda2hal.picture import ROWS, WIDTH, svg
from pytest_cuda2hal.waitgraph import Edge, Kind, Node, Relation, State, WaitGraph

SVG = "{http://www.w3.org/2000/svg}"


def thread(label="MainThread"):
    return Node(f"thread {label}", Kind.THREAD, label, State.EXPIRED, seconds=1.0)


def point(label, state=State.UNREACHED):
    return Node(label, Kind.TIMEPOINT, label, state, f"{label[0]} = 0")


def submission(number, what="barrier"):
    return Node(f"submission {number}", Kind.SUBMISSION, f"submission #{number}", State.WAITING, what, "0", 1.0)


def waits(source, target):
    return Edge(source.key, target.key, Relation.WAITS_FOR)


def signaled(source, target):
    return Edge(source.key, target.key, Relation.SIGNALED_BY)


def chain(length, what="barrier", closed=False):
    nodes, edges = [thread()], []
    points = [point(f"s@{number}") for number in range(length + 1)]
    nodes.append(points[0])
    edges.append(waits(nodes[0], points[0]))
    for number in range(length):
        made = submission(number, what)
        nodes += [made, points[number + 1]]
        edges += [signaled(points[number], made), waits(made, points[number + 1])]
    if closed:
        edges[-1] = waits(nodes[-2], points[0])
        nodes.pop()
    return WaitGraph(tuple(nodes), tuple(edges))


def fan(width):
    first, done, made = thread(), point("done@1"), submission(1)
    inputs = [point(f"i{number}@1") for number in range(width)]
    edges = [waits(first, done), signaled(done, made), *(waits(made, one) for one in inputs)]
    return WaitGraph((first, done, made, *inputs), tuple(edges))


GRAPHS = {
    "nothing": WaitGraph(),
    "gate": chain(0),
    "chain": chain(3),
    "ring": chain(3, closed=True),
    "long ring": chain(9, closed=True),
    "long": chain(80),
    "wide": chain(30, "copy(a buffer with a very long name → another buffer)"),
    "fan": fan(40),
    "exactly full": fan(ROWS),
}


def boxes(text):
    root = ElementTree.fromstring(text)
    found = []
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if rect is not None and rect.get("rx"):
            x, y, width, height = (float(rect.get(key, "nan")) for key in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height, ["".join(t.itertext()) for t in group.iter(f"{SVG}text")]))
    return root, found


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_nothing_overlaps_and_nothing_is_cut_off(graph):
    text = svg(graph)
    root, found = boxes(text)
    width, height = float(root.get("width", "nan")), float(root.get("height", "nan"))
    assert width <= WIDTH
    for number, (left, top, right, bottom, _) in enumerate(found):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
        for other in found[:number]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    for path in root.iter(f"{SVG}path"):
        if path.get("marker-end"):
            assert all(float(number) <= max(width, height) for number in re.findall(r"[\d.]+", path.get("d", "")))
    for one in root.iter(f"{SVG}text"):
        assert float(one.get("y", "nan")) < height


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_it_is_the_same_each_time_and_needs_nothing_else(graph):
    assert svg(graph) == svg(WaitGraph.from_json(graph.to_json()))
    assert "href" not in svg(graph)
    assert "http" not in svg(graph).replace("http://www.w3.org/2000/svg", "")


def labels(graph):
    return [label for box in boxes(svg(graph))[1] for label in box[4]]


def test_every_node_of_a_small_graph_is_there():
    shown = labels(GRAPHS["chain"])
    for node in GRAPHS["chain"].nodes:
        assert node.label in shown


def test_what_is_left_out_is_counted():
    graph = GRAPHS["long"]
    shown = labels(graph)
    (more,) = [label for label in shown if label.startswith("…")]
    drawn = sum(label.startswith(("s@", "submission", "Main")) for label in shown)
    assert more == f"… {len(graph.nodes) - drawn} more"
    assert f"… {40 - (ROWS - 1)} more" in labels(GRAPHS["fan"])
    assert not any(label.startswith("…") for label in labels(GRAPHS["exactly full"]))


def test_a_graph_that_is_itself_cut_says_at_least():
    cut = WaitGraph((thread(), Node("s@1", Kind.TIMEPOINT, "s@1", State.UNREACHED, more=1)), GRAPHS["gate"].edges[:0])
    cut = WaitGraph(cut.nodes, (waits(*cut.nodes),))
    assert "… at least 1 more" in labels(cut)


def test_a_ring_is_red():
    assert "#c62828" in svg(GRAPHS["ring"]).split("</defs>")[1]
    assert "red: ring" in svg(GRAPHS["ring"])
    assert "#c62828" not in svg(GRAPHS["chain"]).split("</defs>")[1]
    assert "red: ring" not in svg(GRAPHS["chain"])


def test_the_legend_names_the_colours_that_are_used():
    assert "not reached" in svg(GRAPHS["gate"])
    assert "failed" not in svg(GRAPHS["gate"])
    bad = WaitGraph((thread(), point("b@1", State.FAILED)), (waits(thread(), point("b@1")),))
    assert "failed" in svg(bad)


def test_any_text_can_be_drawn():
    odd = Node("x", Kind.TIMEPOINT, "<&\"'>\x00\x1b\ud800", State.FAILED, "]]> & <script>")
    text = svg(WaitGraph((thread("<b>"), odd), (waits(thread("<b>"), odd),)))
    assert ElementTree.fromstring(text.encode()) is not None
    assert "<script>" not in text


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", Kind)
def test_every_kind_and_state_has_a_colour(kind, state):
    possible = {
        Kind.THREAD: set(State),
        Kind.TIMEPOINT: {State.REACHED, State.UNREACHED, State.FAILED, State.UNKNOWN},
        Kind.SUBMISSION: {State.WAITING, State.READY, State.IN_PROGRESS, State.UNKNOWN},
        Kind.LATCH: {State.CLOSED},
    }
    if state in possible[kind]:
        assert "one" in svg(WaitGraph((Node("one", kind, "one", state),)))
