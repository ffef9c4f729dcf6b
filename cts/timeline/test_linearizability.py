"""Calls of several threads on one semaphore act one at a time."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability

from ..support import AskVariation, Effort, ObservedDevice, Semaphores, Tasks, clause, requires
from .linearizability import THREADS, Model, Recording, evidence, explain, random_program

pytestmark = pytest.mark.usefixtures("restless")


def expect_linearizable(
    device: ObservedDevice,
    semaphores: Semaphores,
    threads: Tasks,
    effort: Effort,
    *,
    signalers: int,
    failing: bool = False,
) -> None:
    """Run random programs and check that what each call gave has an explanation."""
    any_code = device.has(Capability.FAIL_CODE)
    seeds = [f"signalers={signalers} failing={failing} number={n}" for n in range(effort.loops(30, 100, 2000))]
    programs = [random_program(seed, signalers=signalers, failing=failing, any_code=any_code) for seed in seeds]
    begin = 0 if signalers else 5  # nobody signals: let some of the waits be satisfied all the same
    recording = Recording(programs, [semaphores.at(begin) for _ in programs], device.deadline)
    threads.run([partial(recording.work, thread) for thread in range(THREADS)])

    model = Model.of_any_profile()
    for seed, history in zip(seeds, recording.histories, strict=True):
        explanation = explain(history, model, begin)
        if not explanation.complete:
            pytest.fail(f"program '{seed}'\n{evidence(history, explanation)}")


@clause("TL-5")
def test_linearizable_with_one_signaling_thread(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """One thread signals growing values, three query and wait."""
    expect_linearizable(device, semaphores, threads, effort, signalers=1)


@clause("TL-5")
def test_linearizable_with_signals_from_all_threads(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, variation: AskVariation
) -> None:
    """Four threads signal, query and wait; what comes too late to advance the timeline must change nothing."""
    variation("non-advancing-signal").need_defined()
    expect_linearizable(device, semaphores, threads, effort, signalers=THREADS)


@clause("TL-5")
@requires(Capability.HOST_FAIL)
def test_linearizable_with_failures_alone(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """Nobody signals, four threads query, wait and fail: there is one first failure, and nothing comes after it."""
    expect_linearizable(device, semaphores, threads, effort, signalers=0, failing=True)


@clause("TL-5")
@requires(Capability.HOST_FAIL)
def test_linearizable_with_failures(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """One thread signals growing values, and any may fail the semaphore, after which no signal revives it."""
    expect_linearizable(device, semaphores, threads, effort, signalers=1, failing=True)


@clause("TL-5")
@requires(Capability.HOST_FAIL)
def test_linearizable_with_signals_and_failures_from_all_threads(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, variation: AskVariation
) -> None:
    """Four threads do whatever can be done to a semaphore."""
    variation("non-advancing-signal").need_defined()
    expect_linearizable(device, semaphores, threads, effort, signalers=THREADS, failing=True)
