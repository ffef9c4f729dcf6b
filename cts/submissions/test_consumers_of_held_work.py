"""More consumers of running work than a queue may have places for: what each of them must not do to others."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Fill, Hold

from ..support import AskVariation, Buffers, Latches, ObservedDevice, Semaphores, Settle, clause, requires

#: More than a queue is likely to have streams, rings or threads for.
CONSUMERS = 6


@clause("Q-2", "Q-13")
@requires(Capability.HOLD)
def test_consumers_whose_value_the_host_makes_end_no_running_work(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    settle: Settle,
    variation: AskVariation,
) -> None:
    """The host passes the value that they wait for; the work that was to make it goes on, and signals at its end.

    queue 1: hold, fill(b, 7) ──s@1, also@1──▶ 6 barriers on queue 0 ──done[k]@1──▶ host
    host ──s@2──▶
    """
    device.need_queues(2)
    overtaken = variation("overtaken-signal")
    overtaken.need_defined()
    if overtaken.permits("fails"):
        pytest.skip(f"unsupported: in profile '{device.profile}' an overtaken signal may fail its semaphore")
    b = buffers.filled(0)
    s, also = semaphores(2)
    done = semaphores(CONSUMERS)
    latch = latches()
    device.queue_execute([Hold(latch), Fill(b, 7)], signal=[s @ 1, also @ 1], queue=1)
    for consumer in done:
        device.queue_execute([], wait=[s @ 1], signal=[consumer @ 1], queue=0)
    s.signal(2)
    settle(partial(also.reads, 0), lambda: b.untouched)
    latch.open()
    also.wait(1)
    assert b.holds(7)
    for consumer in done:
        consumer.wait(1)


@clause("Q-14", "Q-20")
@requires(Capability.HOLD)
def test_consumers_hold_up_no_other_queue(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    settle: Settle,
    variation: AskVariation,
) -> None:
    """One queue after the other is held, another one has its consumers, and the others go on.

    held queue: hold ──made@1──▶ another queue: 6 barriers ──ends[k]@1──▶ host
    each other queue: fill(b, 7) ──done@1──▶ host

    Where there are two queues only, and consumers delay nobody, what goes on is on their own queue.
    """
    may_delay = variation("head-of-line").permits("may")
    device.need_queues(3 if may_delay else 2)
    queues = range(device.queue_count)
    for held in queues[:4]:
        consuming = (held + 1) % device.queue_count
        others = [queue for queue in queues if queue not in (held, consuming)]
        if not others:
            others = [consuming]
        targets, done = buffers.filled(0, count=len(others)), semaphores(len(others))
        [made] = semaphores(1)
        ends = semaphores(CONSUMERS)
        latch = latches()
        device.queue_execute([Hold(latch)], signal=[made @ 1], queue=held)
        for end in ends:
            device.queue_execute([], wait=[made @ 1], signal=[end @ 1], queue=consuming)
        for queue, target, finished in zip(others, targets, done, strict=True):
            device.queue_fill(target, 7, signal=[finished @ 1], queue=queue)
        for finished in done:
            finished.wait(1)
        settle(*(partial(end.reads, 0) for end in ends))
        latch.open()
        for end in ends:
            end.wait(1)
        for target in targets:
            assert target.holds(7)
