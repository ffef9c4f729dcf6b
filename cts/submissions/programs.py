"""Random legal programs, and what they must come to when run one command after another."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

#: Bytes of a cell; what a command reads and writes is a number of whole cells.
CELL = 16


@dataclass(frozen=True, slots=True)
class Range:
    """Some cells of a buffer."""

    buffer: int
    first: int
    count: int

    def cells(self) -> list[tuple[int, int]]:
        """Return each cell as (buffer, number)."""
        return [(self.buffer, number) for number in range(self.first, self.first + self.count)]


@dataclass(frozen=True, slots=True)
class Step:
    """A fill (no ``source``) or a copy; ranges of one step do not overlap."""

    target: Range
    byte: int
    source: Range | None = None


@dataclass(slots=True)
class Node:
    """A submission: steps, the timepoints that it waits for, the one that it signals, and the queue that it is for."""

    steps: list[Step]
    timeline: int
    value: int
    queue: int
    waits: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Program:
    """Submissions in an order in which they could run one after another, and the bytes that are there in the end.

    Who reads or writes what another wrote, or writes what another read, waits for it. Timelines are signaled in order,
    because each submission also waits for the one before it on its timeline. Timelines above ``timelines`` are gates
    that the host opens, one after another.
    """

    buffers: int
    cells: int
    timelines: int
    gates: int
    nodes: list[Node]
    expected: list[bytes]


def random_program(seed: int, *, queues: int, submissions: int = 40) -> Program:
    """Make a program from a seed."""
    choice = random.Random(seed)
    buffers, cells, timelines = choice.randint(2, 5), choice.randint(4, 24), choice.randint(1, 8)
    gates = choice.randint(1, 4)
    model = [bytearray(cells * CELL) for _ in range(buffers)]
    writer: dict[tuple[int, int], int] = {}
    readers: dict[tuple[int, int], set[int]] = {}
    last_on: dict[int, int] = {}
    values = [0] * timelines
    nodes: list[Node] = []

    def some_range(count: int) -> Range:
        return Range(choice.randrange(buffers), choice.randint(0, cells - count), count)

    for number in range(submissions):
        needs: set[int] = set()
        steps: list[Step] = []
        for _ in range(choice.choice([0, 1, 1, 1, 2, 4])):
            count = choice.randint(1, max(1, cells // 3))
            target = some_range(count)
            source = some_range(count) if choice.random() < 0.6 else None
            if source and set(source.cells()) & set(target.cells()):
                source = None
            steps.append(Step(target, choice.randint(1, 255), source))
            for cell in source.cells() if source else ():
                needs |= {writer[cell]} if cell in writer else set()
                readers.setdefault(cell, set()).add(number)
            for cell in target.cells():
                needs |= readers.pop(cell, set()) | ({writer[cell]} if cell in writer else set())
                writer[cell] = number
            run(steps[-1], model)
        needs.discard(number)
        timeline = choice.randrange(timelines)
        if timeline in last_on:
            needs.add(last_on[timeline])
        last_on[timeline] = number
        values[timeline] += choice.choice([1, 1, 2, 50])
        node = Node(steps, timeline, values[timeline], choice.randrange(queues))
        node.waits = [(nodes[need].timeline, nodes[need].value) for need in sorted(needs)]
        if not needs or choice.random() < 0.1:
            node.waits.append((timelines + choice.randrange(gates), 1))
        choice.shuffle(node.waits)
        nodes.append(node)
    return Program(buffers, cells, timelines, gates, nodes, [bytes(data) for data in model])


def run(step: Step, model: list[bytearray]) -> None:
    """Do on byte arrays what a step does on a device."""
    target = step.target
    begin, length = target.first * CELL, target.count * CELL
    if step.source is None:
        data = bytes([step.byte]) * length
    else:
        at = step.source.first * CELL
        data = bytes(model[step.source.buffer][at : at + length])
    model[target.buffer][begin : begin + length] = data
