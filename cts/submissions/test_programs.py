"""Random legal programs give what the same commands give one after another."""

from __future__ import annotations

import random

import pytest

from pytest_cuda2hal.hal import Capability, Command, Copy, Fill

from ..support import Buffers, Effort, ObservedBuffer, ObservedDevice, Semaphores, clause
from .programs import CELL, Program, Step, random_program


@clause("Q-1", "Q-2", "Q-20", "T-3")
@pytest.mark.parametrize("order", ["in-order", "any-order"])
def test_random_program(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort, order: str
) -> None:
    """Forty fills and copies of cells of a few buffers, ordered by a few timelines and gates, on all queues.

    Submitted in an order in which they could run, or in any order at all.
    """
    if order == "any-order":
        device.need(Capability.SAME_QUEUE_OUT_OF_ORDER)
    for seed in range(effort.loops(10, 40, 500)):
        program = random_program(seed, queues=device.queue_count)
        targets = run_program(program, seed if order == "any-order" else None, device, buffers, semaphores)
        for target, expected in zip(targets, program.expected, strict=True):
            assert target.holds_bytes(expected), f"program {seed}"


def run_program(
    program: Program, shuffle: int | None, device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> list[ObservedBuffer]:
    """Submit everything, open the gates, wait for the end of each timeline; return the buffers."""
    memory: list[ObservedBuffer] = buffers.filled(0, count=program.buffers, size=program.cells * CELL)
    timelines = semaphores(program.timelines + program.gates)
    choice = random.Random(shuffle)
    nodes = list(program.nodes)
    if shuffle is not None:
        choice.shuffle(nodes)
    opened = choice.randrange(len(nodes))
    for number, node in enumerate(nodes):
        if number == opened:
            timelines[program.timelines].signal(1)
        device.queue_execute(
            [command(step, memory) for step in node.steps],
            wait=[timelines[timeline] @ value for timeline, value in node.waits],
            signal=[timelines[node.timeline] @ node.value],
            queue=node.queue,
        )
    for gate in timelines[program.timelines + 1 :]:
        gate.signal(1)
    for timeline in range(program.timelines):
        last = max((node.value for node in program.nodes if node.timeline == timeline), default=0)
        timelines[timeline].wait(last)
    return memory


def command(step: Step, memory: list[ObservedBuffer]) -> Command:
    """Return the command that a step stands for."""
    target = step.target
    at, length = target.first * CELL, target.count * CELL
    if step.source is None:
        return Fill(memory[target.buffer], step.byte, at, length)
    return Copy(memory[step.source.buffer], memory[target.buffer], step.source.first * CELL, at, length)
