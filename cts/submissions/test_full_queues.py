"""Queues with more work than a device takes at a time: what waits for room, and who must not wait with it.

A HAL that counts what it has given to a device keeps the rest back. Where it keeps it, the contract holds as well.
"""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Command, Copy, Fill, Hold

from ..support import Buffers, Latches, ObservedDevice, Semaphores, Settle, Tasks, clause, requires
from ..transfers.ranges import granule

#: Lists behind work that does not end, and commands of each: four times what blocks who submits to a CUDA stream.
LISTS, COMMANDS = 20, 200


@clause("Q-3", "Q-14")
@requires(Capability.HOLD)
def test_lists_behind_running_work_block_nobody(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    threads: Tasks,
    settle: Settle,
) -> None:
    """Neither the thread that submits them nor the other queue waits for the work that they are behind.

    queue 0: hold ──made@1──▶ 20 lists of 200 fills ──done[k]@1──▶ host
    queue 1: fill(c, 7) ──other@1──▶ host
    """
    device.need_queues(2)
    b, c = buffers.filled(0, size=4 * COMMANDS * LISTS), buffers.filled(0)
    made, other = semaphores(2)
    done = semaphores(LISTS)
    latch = latches()

    def submit() -> None:
        device.queue_execute([Hold(latch)], signal=[made @ 1], queue=0)
        for number, s in enumerate(done):
            cells = range(number * COMMANDS, (number + 1) * COMMANDS)
            fills = [Fill(b, k.to_bytes(4, "big"), 4 * k, 4) for k in cells]
            device.queue_execute(fills, wait=[made @ 1], signal=[s @ 1], queue=0)

    threads.start(submit).result()
    device.queue_fill(c, 7, signal=[other @ 1], queue=1)
    other.wait(1)
    settle(*(partial(s.reads, 0) for s in done))
    latch.open()
    for s in done:
        s.wait(1)
    assert c.holds(7)
    assert b.holds_bytes(b"".join(k.to_bytes(4, "big") for k in range(COMMANDS * LISTS)))


@clause("Q-1", "Q-2")
@requires(Capability.HOLD)
@pytest.mark.parametrize("more", range(4))
def test_rest_of_a_long_list_is_waited_for_beside_what_was_submitted_after_it(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    settle: Settle,
    more: int,
) -> None:
    """A list is on the device in part when a short submission, for which there is room, comes behind it.

    queue 0: hold, many fills, hold(rest), fill(b, 7) ──long@1──┐
    queue 0: hold(behind) ──short@1─────────────────────────────┴▶ queue 1: copy(b → c) ──done@1──▶ host

    The first hold ends, then the one behind; the rest is the last to end.
    """
    device.need_queues(2)
    b, c = buffers.filled(0, count=2)
    d = buffers.filled(0)
    long, short, done = semaphores(3)
    first, rest, behind = latches(), latches(), latches()
    # As a HAL may split a fill that is not aligned there are some of one command and many of several.
    odd = Fill(d, b"\x01\x02\x03\x04", granule(device, 4), 16)
    commands: list[Command] = [Hold(first), *[odd] * 50, *[Fill(d, 1)] * more, odd, Hold(rest), Fill(b, 7)]
    device.queue_execute(commands, signal=[long @ 1], queue=0)
    device.queue_execute([Hold(behind)], signal=[short @ 1], queue=0)
    first.open()
    settle(partial(long.reads, 0), partial(short.reads, 0))
    device.queue_execute([Copy(b, c)], wait=[long @ 1, short @ 1], signal=[done @ 1], queue=1)
    behind.open()
    settle(partial(long.reads, 0), partial(done.reads, 0), lambda: c.untouched)
    rest.open()
    done.wait(1)
    assert c.holds(7)
