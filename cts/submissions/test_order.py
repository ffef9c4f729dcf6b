"""Order between submissions, and between them and the host."""

from __future__ import annotations

from pytest_cuda2hal.hal import Copy, Fill

from ..support import Buffers, ObservedDevice, Semaphores, Settle, clause


@clause("Q-1", "Q-5")
def test_consumer_submitted_before_its_producer(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """A consumer that is on the queue first still runs after its producer.

    host ──gate@1──▶ fill(b, 7) ──made@1──▶ copy(b → c) ──done@1──▶ host
                     submitted 2nd          submitted 1st
    """
    b, c = buffers.filled(0, count=2)
    gate, made, done = semaphores(3)
    device.queue_execute([Copy(b, c)], wait=[made @ 1], signal=[done @ 1])
    device.queue_execute([Fill(b, 7)], wait=[gate @ 1], signal=[made @ 1])

    settle(lambda: c.untouched)  # watches: a queue that does not wait has shown itself

    gate.signal(1)
    done.wait(1)
    assert c.holds(7)
