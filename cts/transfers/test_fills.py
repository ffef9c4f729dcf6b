"""Fills write exactly the range that they name."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.hal import Fill

from ..support import Buffers, ObservedBuffer, ObservedDevice, Semaphores, clause
from .ranges import MARGIN, classes, granule, noise, patched, repeated

PATTERNS = [b"\xa5", b"\xa5\x5a", b"\x01\x23\x45\x67"]
#: Around the sizes at which drivers change their way: words, cache lines, pages, and odd ones in each range.
OFFSETS = [0, 1, 2, 4, 12, 60, 64, 252, 4096 - 4]
LENGTHS = [1, 2, 3, 4, 12, 60, 64, 68, 252, 1024, 4096 + 8]

Ranges = list[tuple[int, int]]


def expect_filled(targets: list[ObservedBuffer], ranges: Ranges, pattern: bytes) -> None:
    for key, (target, (offset, length)) in enumerate(zip(targets, ranges, strict=True)):
        expected = patched(noise(target.size, key), offset, repeated(pattern, length))
        assert target.holds_bytes(expected), f"after fill({pattern.hex(' ')}, offset={offset}, length={length})"


@clause("T-1")
@pytest.mark.parametrize("pattern", PATTERNS, ids=["1-byte", "2-byte", "4-byte"])
def test_fill_writes_exactly_its_range(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, pattern: bytes
) -> None:
    """Each fill is a submission of its own; the bytes before and after its range stay."""
    ranges = classes(OFFSETS, LENGTHS, granule(device, len(pattern)))
    targets = [buffers.holding(noise(offset + length + MARGIN, key)) for key, (offset, length) in enumerate(ranges)]
    done = semaphores(len(ranges))
    for target, finished, (offset, length) in zip(targets, done, ranges, strict=True):
        device.queue_fill(target, pattern, offset=offset, length=length, signal=[finished @ 1])
    for finished in done:
        finished.wait(1)
    expect_filled(targets, ranges, pattern)


@clause("T-1")
@pytest.mark.parametrize("pattern", PATTERNS, ids=["1-byte", "2-byte", "4-byte"])
def test_fill_command_writes_exactly_its_range(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, pattern: bytes
) -> None:
    """The same ranges as the commands of one list, which a HAL may execute in another way."""
    ranges = classes(OFFSETS, LENGTHS, granule(device, len(pattern)))
    targets = [buffers.holding(noise(offset + length + MARGIN, key)) for key, (offset, length) in enumerate(ranges)]
    done = semaphores.at(0)
    fills = [Fill(target, pattern, offset, length) for target, (offset, length) in zip(targets, ranges, strict=True)]
    device.queue_execute(fills, signal=[done @ 1])
    done.wait(1)
    expect_filled(targets, ranges, pattern)


@clause("T-1")
@pytest.mark.parametrize("pattern", PATTERNS, ids=["1-byte", "2-byte", "4-byte"])
def test_fill_without_a_range_fills_the_whole_buffer(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, pattern: bytes
) -> None:
    """Offset and length may be left out: all of the buffer, or all that follows the offset."""
    whole, rest = buffers.filled(0, count=2, size=256 * 1024)
    done = semaphores.at(0)
    device.queue_fill(whole, pattern, signal=[done @ 1])
    device.queue_fill(rest, pattern, offset=4096, wait=[done @ 1], signal=[done @ 2])
    done.wait(2)
    assert whole.holds(pattern)
    assert rest.holds(0, 0, 4096)
    assert rest.holds(pattern, 4096)


@clause("T-1")
def test_fills_side_by_side_do_not_touch_each_other(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """128 independent fills of neighbouring ranges of one buffer, in flight together.

    A HAL that reads, changes and writes back more than the range loses its neighbour's bytes.
    """
    unit = max(4, granule(device))
    target = buffers.filled(0xFF, size=128 * unit)
    done = semaphores(128)
    for index, finished in enumerate(done):
        queue = index % device.queue_count
        device.queue_fill(target, index, offset=index * unit, length=unit, signal=[finished @ 1], queue=queue)
    for finished in done:
        finished.wait(1)
    assert target.holds_bytes(b"".join(bytes([index]) * unit for index in range(128)))
