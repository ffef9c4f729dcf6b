"""Submit, wait, look; again and again, as fast as it goes."""

from __future__ import annotations

from pytest_cuda2hal.hal import Copy, Fill

from ..support import Buffers, ObservedDevice, Semaphores, clause
from .test_reuse import TIMES


@clause("C-3", "W-2")
def test_rapid_fills(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Two hundred times: the host waits for a list of fills and sees what it wrote, another pattern each time."""
    b = buffers.filled(0, size=4096)
    done = semaphores.at(0)
    for number in range(1, TIMES + 1):
        pattern = bytes([number, 0xA5, 255 - number, 0x5A])
        device.queue_execute([Fill(b, pattern, 0, 2048), Fill(b, pattern, 2048)], signal=[done @ number])
        done.wait(number)
        assert b.holds(pattern), f"round {number}"


@clause("C-3", "W-2")
def test_rapid_copies(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Two hundred times: the host writes, a list copies in two halves, the host waits and sees."""
    a, b = buffers.filled(0, count=2, size=4096)
    done = semaphores.at(0)
    for number in range(1, TIMES + 1):
        pattern = bytes([number, 0xA5, 255 - number, 0x5A])
        a.write(pattern * 1024)
        device.queue_execute([Copy(a, b, 0, 0, 2048), Copy(a, b, 2048, 2048)], signal=[done @ number])
        done.wait(number)
        assert b.holds(pattern), f"round {number}"
