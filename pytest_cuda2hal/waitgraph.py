"""Who waits for what, who was to bring it, and what that one waits for: as data, and in words."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .observation.journal import JournalContent
    from .observation.log import Log, Point

#: How far words follow the chain of who waits for whom.
EXPLAINED_HOPS: Final = 8
#: How many of the timepoints that a thread waits for words explain.
EXPLAINED_POINTS: Final = 4
#: How many timepoints a line of words names.
_NAMED: Final = 6


#: Seconds in a call below which it is not said how many.
_WORTH_SAYING: Final = 0.1


class Kind(enum.StrEnum):
    """What a node stands for."""

    THREAD = "thread"
    SUBMISSION = "submission"
    TIMEPOINT = "timepoint"
    LATCH = "latch"


class State(enum.StrEnum):
    """Where a node stands."""

    #: A timepoint; *unknown* when the process is dead and nobody saw, or no handle is left.
    REACHED = "reached"
    UNREACHED = "unreached"
    FAILED = "failed"
    UNKNOWN = "unknown"
    #: A submission: not all of its waits are reached; all are (or have failed); the call has not returned.
    WAITING = "waiting"
    READY = "ready"
    IN_PROGRESS = "in progress"
    #: A thread whose wait ran into its deadline; the others are waiting, or in a call in progress.
    EXPIRED = "expired"
    #: A latch.
    CLOSED = "closed"


class Relation(enum.StrEnum):
    """What an edge says of its source: it waits for, is to be signaled by, is held by, or is in the call of."""

    WAITS_FOR = "waits for"
    SIGNALED_BY = "to be signaled by"
    HELD_BY = "held by"
    SUBMITS = "submits"


@dataclass(frozen=True, slots=True)
class Node:
    """A thread, submission, timepoint or latch."""

    key: str  #: unique in the graph
    kind: Kind
    label: str  #: ``gate@1``, ``submission #2``, ``MainThread``
    state: State
    #: ``gate = 0`` for a timepoint, ``fill(target)`` for a submission, the call for a thread.
    detail: str = ""
    queue: str | None = None
    #: How long ago it was submitted, or how long the thread has waited.
    seconds: float | None = None
    #: How many edges the node has that are not in the graph.
    more: int = 0


@dataclass(frozen=True, slots=True)
class Edge:
    """A relation between two nodes, by their keys."""

    source: str
    target: str
    relation: Relation


@dataclass(frozen=True, slots=True)
class WaitGraph:
    """What is known of a hang. Immutable; nodes and edges in the order in which they were found, threads first."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    #: Whether every submission of the case was known; if not, who signals a timepoint may be unknown.
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a results file."""
        nodes = [{k: v for k, v in dataclasses.asdict(node).items() if v not in (None, "", 0)} for node in self.nodes]
        plain = [{key: str(v) if isinstance(v, enum.Enum) else v for key, v in node.items()} for node in nodes]
        edges = [[edge.source, edge.target, str(edge.relation)] for edge in self.edges]
        return {"nodes": plain, "edges": edges, "complete": self.complete}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WaitGraph:
        """Return the graph of :meth:`to_json`.

        :raises ValueError: the data is not of that form.
        """
        try:
            nodes = tuple(
                Node(**{**node, "kind": Kind(node["kind"]), "state": State(node["state"])}) for node in data["nodes"]
            )
            edges = tuple(Edge(source, target, Relation(relation)) for source, target, relation in data["edges"])
            keys = {node.key for node in nodes}
            if not all(edge.source in keys and edge.target in keys for edge in edges):
                raise ValueError("an edge leads to no node")
            return cls(nodes, edges, bool(data["complete"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no wait-for graph: {error!r}") from None

    def renamed(self, rename: Callable[[str], str]) -> WaitGraph:
        """Return the graph with every text passed through ``rename``."""
        nodes = (dataclasses.replace(node, label=rename(node.label), detail=rename(node.detail)) for node in self.nodes)
        return dataclasses.replace(self, nodes=tuple(nodes))

    def out(self, key: str, relation: Relation | None = None) -> list[str]:
        """Return the keys of the nodes that edges from ``key`` lead to."""
        return [e.target for e in self.edges if e.source == key and relation in (None, e.relation)]

    def rings(self) -> list[list[str]]:
        """Return the keys along each ring of waits, every one beginning where a walk from the threads first met it."""
        out: dict[str, list[str]] = {}
        for edge in self.edges:
            out.setdefault(edge.source, []).append(edge.target)
        rings: list[list[str]] = []
        done: set[str] = set()
        for node in self.nodes:
            path: list[str] = []
            on_path: set[str] = set()
            stack = [(node.key, iter([node.key]))]
            while stack:
                _, following = stack[-1]
                key = next(following, None)
                if key is None:
                    stack.pop()
                    if path:
                        on_path.discard(path[-1])
                        done.add(path.pop())
                elif key in on_path:
                    rings.append(path[path.index(key) :])
                elif key not in done:
                    path.append(key)
                    on_path.add(key)
                    stack.append((key, iter(out.get(key, ()))))
        return rings

    def in_words(self) -> list[str]:
        """Return a line for each thread, and indented below it why what it waits for has not come."""
        return _Words(self).lines


class _Words:
    """Writes the lines; the longest chains are cut, and nothing is explained twice."""

    def __init__(self, graph: WaitGraph) -> None:
        self._graph = graph
        self._nodes = {node.key: node for node in graph.nodes}
        self._path: list[str] = []
        self._seen: set[str] = set()
        self.lines: list[str] = []
        for node in graph.nodes:
            if node.kind is Kind.THREAD:
                self._thread(node)

    def _thread(self, node: Node) -> None:
        targets = self._graph.out(node.key, Relation.WAITS_FOR)
        for submission in self._graph.out(node.key, Relation.SUBMITS):
            targets += self._open_waits(submission)
        awaited = self._names(targets, node.more)
        if node.state is State.EXPIRED:
            line = f"{node.label} waited {node.seconds or 0:.1f} s for {awaited}, which never came"
        elif node.state is State.WAITING:
            line = f"{node.label} waits for {awaited}, for {node.seconds or 0:.1f} s now"
        else:
            since = "" if (node.seconds or 0) < _WORTH_SAYING else f", for {node.seconds:.1f} s"
            line = f"{node.label} is in {node.detail}{since}"
        self.lines.append(line)
        for target in targets[:EXPLAINED_POINTS]:
            self._timepoint(target, 1)

    def _names(self, keys: Sequence[str], more: int = 0) -> str:
        more += max(0, len(keys) - _NAMED)
        return ", ".join(self._nodes[key].label for key in keys[:_NAMED]) + (f" and {more} more" if more else "")

    def _open_waits(self, submission: str) -> list[str]:
        """Return the waits to follow: those known to be unreached, else those of which nothing is known."""
        waits = self._graph.out(submission, Relation.WAITS_FOR)
        for state in (State.UNREACHED, State.UNKNOWN):
            if found := [key for key in waits if self._nodes[key].state is state]:
                return found
        return []

    def _timepoint(self, key: str, depth: int) -> None:
        node = self._nodes[key]
        indent = "  " * depth
        if key in self._path:
            ring = [*self._path[self._path.index(key) :], key]
            names = " → ".join(self._nodes[one].label for one in ring)
            self.lines.append(f"{indent}{node.label}: see above, the waits form a ring ({names})")
            return
        if key in self._seen:
            self.lines.append(f"{indent}{node.label}: see above")
            return
        self._seen.add(key)
        who = f"{indent}{node.label} ({node.detail})"
        producers = self._graph.out(key, Relation.SIGNALED_BY)
        if producers:
            self._producer(key, producers[0], who, depth)
        elif node.more:
            self.lines.append(f"{who} …")
        elif self._graph.complete:
            self.lines.append(f"{who} is signaled by no submission")
        else:
            self.lines.append(f"{who} is signaled by no submission that is still known")

    def _producer(self, timepoint: str, key: str, who: str, depth: int) -> None:
        node = self._nodes[key]
        text = f"{who} is to be signaled by {node.label} on queue {node.queue}, {node.detail}"
        waits = self._open_waits(key)
        if not waits:
            self.lines.append(f"{text}, {self._idle(node)}")
            return
        certain = self._nodes[waits[0]].state is State.UNREACHED
        self.lines.append(f"{text}, which {'waits' if certain else 'may wait'} for {self._names(waits, node.more)}")
        if depth < EXPLAINED_HOPS:
            self._path += [timepoint, key]
            self._timepoint(waits[0], depth + 1)
            del self._path[-2:]

    def _idle(self, node: Node) -> str:
        """Say of a submission that waits for nothing (more) why it may not have ended."""
        if node.state is State.IN_PROGRESS:
            return "whose submission has not returned"
        text = "submitted" + ("" if node.seconds is None else f" {node.seconds:.1f} s ago")
        text += "; all its waits are reached or have failed"
        failed = [
            f"{self._nodes[key].label} ({self._nodes[key].detail})"
            for key in self._graph.out(node.key, Relation.WAITS_FOR)
            if self._nodes[key].state is State.FAILED
        ]
        if failed:
            text += ": " + ", ".join(failed[:_NAMED])
        if self._graph.out(node.key, Relation.HELD_BY):
            text += "; it is held by a latch that nobody has opened"
        return text


def graph_of_log(log: Log, points: Iterable[Point], thread: str, seconds: float | None = None) -> WaitGraph:
    """Return the graph of a live process: ``thread`` waited ``seconds`` for ``points`` in vain.

    Asks the HAL where the semaphores stand. Other threads that wait for semaphores of the same device are in it too.
    """
    from .observation.following import Waiter, follow
    from .observation.waiting import LogFacts, other_waiters

    focus = Waiter(thread, State.EXPIRED, "", seconds, list(points))
    return follow(LogFacts(log), [focus, *other_waiters(log, thread)])


def graph_of_journal(content: JournalContent) -> WaitGraph:
    """Return the graph of a process that is dead, or does not answer: what its calls in progress wait for.

    It claims what the journal saw, and no more: a timepoint that a submission may have signaled is *unknown*.
    """
    from .observation.following import follow
    from .observation.history import History

    history = History(content)
    return follow(history, history.waiters())
