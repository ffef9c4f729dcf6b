"""Signals that do not advance the timeline."""

from __future__ import annotations

from functools import partial

from pytest_cuda2hal.hal import StatusCode

from ..support import AskVariation, Buffers, ObservedDevice, Semaphores, Settle, Tasks, clause, failing, status_of
from .witness import Witness, standing


@clause("TL-3")
def test_signal_that_does_not_advance_changes_nothing(semaphores: Semaphores, variation: AskVariation) -> None:
    """Signals of the value itself, of less and of 0 leave value and health as they were, however the caller hears."""
    question = variation("non-advancing-signal")
    question.need_defined()
    semaphore = semaphores.at(5)
    for value in (5, 4, 1, 0, 5):
        code = status_of(partial(semaphore.signal, value))
        question.check("ignored" if code is StatusCode.OK else code.name)
        seen = standing(semaphore)
        assert seen == 5, f"expected value 5 after signal({value}); seen {seen}"
    semaphore.signal(6)
    semaphore.wait(6)
    assert semaphore.query() == 6


@clause("TL-3")
def test_signal_that_does_not_advance_releases_nobody(
    device: ObservedDevice,
    semaphores: Semaphores,
    buffers: Buffers,
    threads: Tasks,
    settle: Settle,
    variation: AskVariation,
) -> None:
    """What waits for 6, on the host or on a queue, goes on waiting through signals of 5 and 3, and then hears of 6."""
    variation("non-advancing-signal").need_defined()
    witness = Witness(device, semaphores, buffers, threads)
    for value in (5, 3):
        with witness.unchanged_by(f"signal({value})"):
            status_of(partial(witness.semaphore.signal, value))
        with failing(StatusCode.DEADLINE_EXCEEDED):
            witness.semaphore.wait(6, timeout=0)
    witness.release(settle)
