"""Random legal programs of transfers, and what the sequential program would give.

A program is a list of steps that mean something when they run one after another. Two steps conflict when one writes
bytes that the other reads or writes; conflicting steps are ordered by semaphores and nothing else is, so a HAL may run
the rest at the same time and in any order, and the bytes at the end are the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_cuda2hal.hal import Command, Copy, Fill, Update

from ..support import ObservedBuffer
from .ranges import noise, repeated

#: Bytes per buffer: few, so that ranges meet often.
SIZE = 64


@dataclass(frozen=True, slots=True)
class Span:
    """A range of bytes of the buffer with a number."""

    buffer: int
    begin: int
    end: int

    def meets(self, other: Span) -> bool:
        return self.buffer == other.buffer and self.begin < other.end and other.begin < self.end


@dataclass(frozen=True, slots=True)
class Step:
    """One transfer: a copy when it has a source, else the data that a fill (with its pattern) or an update writes."""

    target: Span
    source: Span | None = None
    pattern: bytes | None = None
    data: bytes = b""

    def __str__(self) -> str:
        to = f"{self.target.buffer}[{self.target.begin}:{self.target.end}]"
        if self.source is not None:
            return f"copy {self.source.buffer}[{self.source.begin}:{self.source.end}] → {to}"
        return f"update {to}" if self.pattern is None else f"fill {to} = {self.pattern.hex(' ')}"

    def conflicts(self, other: Step) -> bool:
        """Whether the order of two steps can matter."""
        return (
            self.target.meets(other.target)
            or (self.source is not None and self.source.meets(other.target))
            or (other.source is not None and other.source.meets(self.target))
        )

    def command(self, buffers: Sequence[ObservedBuffer]) -> Command:
        target = buffers[self.target.buffer]
        length = self.target.end - self.target.begin
        if self.source is not None:
            return Copy(buffers[self.source.buffer], target, self.source.begin, self.target.begin, length)
        if self.pattern is not None:
            return Fill(target, self.pattern, self.target.begin, length)
        return Update(target, self.data, self.target.begin)

    def apply(self, memory: list[bytearray]) -> None:
        """Do to plain bytes what the command does to buffers."""
        data = self.data
        if self.source is not None:
            data = bytes(memory[self.source.buffer][self.source.begin : self.source.end])
        memory[self.target.buffer][self.target.begin : self.target.end] = data


@dataclass(slots=True)
class Program:
    """Steps, and for each the earlier ones that must have finished: as few as say all of it."""

    steps: list[Step]
    after: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        ordered: list[set[int]] = []  # of each step, all earlier ones that an order to it follows from
        for index, step in enumerate(self.steps):
            direct: list[int] = []
            implied: set[int] = set()
            for earlier in range(index - 1, -1, -1):
                if earlier not in implied and step.conflicts(self.steps[earlier]):
                    direct.append(earlier)
                    implied |= {earlier} | ordered[earlier]
            self.after.append(direct)
            ordered.append(implied)

    def __str__(self) -> str:
        lines = (f"#{index} {step}  after {self.after[index]}" for index, step in enumerate(self.steps))
        return "\n".join(lines)

    def expected(self, contents: Sequence[bytes]) -> list[bytes]:
        """Return what the buffers hold at the end when the steps run one after another."""
        memory = [bytearray(content) for content in contents]
        for step in self.steps:
            step.apply(memory)
        return [bytes(content) for content in memory]


def initial_contents(count: int) -> list[bytes]:
    """Return what the host writes before a program runs."""
    return [noise(SIZE, 50 + key) for key in range(count)]


def random_program(choice: random.Random, *, buffers: int, steps: int, unit: int, updates: bool) -> Program:
    """Make a program; ``unit`` is of how many bytes every offset and length is a multiple."""
    words = max(unit, 4)  # a pattern of 4 bytes wants whole words where units are those of the pattern

    def span(unit: int) -> Span:
        begin = choice.randrange(0, SIZE, unit)
        end = choice.randrange(begin + unit, SIZE + 1, unit)
        return Span(choice.randrange(buffers), begin, end)

    made: list[Step] = []
    while len(made) < steps:
        kind = choice.choice(["copy", "copy", "fill", "update" if updates else "fill"])
        if kind == "copy":
            source = span(unit)
            length = source.end - source.begin
            begin = choice.randrange(0, SIZE - length + 1, unit)
            target = Span(choice.randrange(buffers), begin, begin + length)
            if not source.meets(target):
                made.append(Step(target, source=source))
        elif kind == "fill":
            pattern = choice.randbytes(choice.choice([1, 2, 4]))
            target = span(words if len(pattern) > 1 else unit)
            made.append(Step(target, pattern=pattern, data=repeated(pattern, target.end - target.begin)))
        else:
            target = span(unit)
            made.append(Step(target, data=choice.randbytes(target.end - target.begin)))
    return Program(made)
