"""From facts to a wait-for graph, by following who waits for whom."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..waitgraph import EXPLAINED_HOPS, EXPLAINED_POINTS, Edge, Kind, Node, Relation, State, WaitGraph

#: How many nodes a graph has at most.
NODES: Final = 200


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission as a graph is built from it; its waits are whatever the facts know timepoints by."""

    key: str
    label: str
    what: str
    queue: str
    waits: Sequence[Hashable]
    seconds: float | None = None
    in_progress: bool = False
    latches: Sequence[str] = ()  #: names of the closed ones that hold it
    more: int = 0  #: waits that are not listed


@dataclass(frozen=True, slots=True)
class Waiter:
    """A thread that waits, or is in a call."""

    thread: str
    state: State
    detail: str
    seconds: float | None
    points: Sequence[Hashable] = ()
    submission: Submission | None = None
    more: int = 0


class Facts(Protocol):
    """Where a graph is built from: a live process, or what a journal tells of a dead one."""

    @property
    def complete(self) -> bool:
        """Whether every submission of the case is known."""

    def timepoint(self, point: Any) -> tuple[str, str, State, str]:
        """Return key, label, state and standing of a timepoint."""

    def producer(self, point: Any) -> Submission | None:
        """Return the first submission that is to signal the timepoint."""


def follow(facts: Facts, waiters: Iterable[Waiter]) -> WaitGraph:
    """Return the graph of what the threads wait for, what words tell of it first, up to :data:`NODES` nodes."""
    return _Following(facts).build(waiters)


@dataclass(slots=True)
class _Following:
    """A graph in the making."""

    facts: Facts
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[Edge, None] = field(default_factory=dict)
    todo: deque[tuple[str, Any, int]] = field(default_factory=deque)

    def build(self, waiters: Iterable[Waiter]) -> WaitGraph:
        """Follow every wait until nothing is left or the graph is full."""
        for number, waiter in enumerate(waiters):
            key = f"thread {number} {waiter.thread}"
            self.nodes[key] = Node(
                key, Kind.THREAD, waiter.thread, waiter.state, waiter.detail, None, waiter.seconds, waiter.more
            )
            for index, point in enumerate(waiter.points):
                self._point(key, point, 0, at_once=index < EXPLAINED_POINTS)
            if waiter.submission is not None:
                self._submission(key, waiter.submission, Relation.SUBMITS, 0)
        while self.todo:
            self._follow(*self.todo.popleft())
        threads_first = sorted(self.nodes.values(), key=lambda node: node.kind is not Kind.THREAD)
        return WaitGraph(tuple(threads_first), tuple(self.edges), self.facts.complete)

    def _is_full(self, source: str, key: str) -> bool:
        """Tell whether there is no room for a new node, and count the edge that is left out."""
        if key in self.nodes or len(self.nodes) < NODES:
            return False
        self.nodes[source] = dataclasses.replace(self.nodes[source], more=self.nodes[source].more + 1)
        return True

    def _point(self, source: str, point: Hashable, depth: int, *, at_once: bool) -> State:
        key, label, state, standing = self.facts.timepoint(point)
        if self.nodes[source].kind is Kind.SUBMISSION and state is State.REACHED:
            return state
        if self._is_full(source, key):
            return state
        self.edges[Edge(source, key, Relation.WAITS_FOR)] = None
        if key not in self.nodes:
            self.nodes[key] = Node(key, Kind.TIMEPOINT, label, state, standing)
            if at_once and depth < EXPLAINED_HOPS:
                self._follow(key, point, depth + 1)
            else:
                self.todo.append((key, point, depth + 1))
        return state

    def _follow(self, key: str, point: Hashable, depth: int) -> None:
        if (producer := self.facts.producer(point)) is not None:
            self._submission(key, producer, Relation.SIGNALED_BY, depth)

    def _first_open(self, waits: Sequence[Hashable]) -> int:
        """Return the index of the first wait that is not reached, or else the first of which nothing is known."""
        states = [self.facts.timepoint(point)[2] for point in waits]
        for state in (State.UNREACHED, State.UNKNOWN):
            if state in states:
                return states.index(state)
        return -1

    def _submission(self, source: str, submission: Submission, relation: Relation, depth: int) -> None:
        if self._is_full(source, submission.key):
            return
        self.edges[Edge(source, submission.key, relation)] = None
        if submission.key in self.nodes:
            return
        self.nodes[submission.key] = Node(
            submission.key,
            Kind.SUBMISSION,
            submission.label,
            State.READY,
            submission.what,
            submission.queue,
            submission.seconds,
            submission.more,
        )
        told_by_words = self._first_open(submission.waits)
        states: set[State] = set()
        for number, point in enumerate(submission.waits):
            states.add(self._point(submission.key, point, depth, at_once=number == told_by_words))
        if submission.in_progress:
            state = State.IN_PROGRESS
        elif State.UNREACHED in states:
            state = State.WAITING
        else:
            state = State.UNKNOWN if State.UNKNOWN in states else State.READY
        self.nodes[submission.key] = dataclasses.replace(self.nodes[submission.key], state=state)
        for latch in submission.latches:
            if not self._is_full(submission.key, latch):
                self.nodes.setdefault(latch, Node(latch, Kind.LATCH, latch, State.CLOSED, "opened by nobody"))
                self.edges[Edge(submission.key, latch, Relation.HELD_BY)] = None
