"""Copies write exactly the range that they name, with the bytes that they name."""

from __future__ import annotations

from pytest_cuda2hal.hal import Copy

from ..support import Buffers, ObservedBuffer, ObservedDevice, Semaphores, clause
from .ranges import MARGIN, granule, in_units, noise, patched

LENGTHS = [1, 2, 3, 4, 7, 8, 15, 16, 31, 64, 255, 4095, 65536 + 3]
#: Offsets in source and target: both aligned, either odd, both odd, and two different alignments.
OFFSETS = [(0, 0), (1, 0), (0, 1), (3, 5), (64, 16), (4095, 63)]

Ranges = list[tuple[int, int, int]]


def ranges_for(device: ObservedDevice) -> Ranges:
    """Return source offsets, target offsets and lengths, and one large copy."""
    unit = granule(device)
    found = {
        (in_units([source], unit)[0], in_units([target], unit)[0], length)
        for length in in_units(LENGTHS, unit)
        for source, target in OFFSETS
    }
    return [*sorted(found), (0, 0, 2**20)]


def pairs_for(buffers: Buffers, ranges: Ranges) -> list[tuple[ObservedBuffer, ObservedBuffer]]:
    return [
        (buffers.holding(noise(at + length, 100 + key)), buffers.holding(noise(to + length + MARGIN, key)))
        for key, (at, to, length) in enumerate(ranges)
    ]


def expect_copied(pairs: list[tuple[ObservedBuffer, ObservedBuffer]], ranges: Ranges) -> None:
    for key, ((source, target), (at, to, length)) in enumerate(zip(pairs, ranges, strict=True)):
        before = noise(source.size, 100 + key)
        said = f"copy of {length} bytes from offset {at} to offset {to}"
        expected = patched(noise(target.size, key), to, before[at : at + length])
        assert target.holds_bytes(expected), f"the target after a {said}"
        assert source.holds_bytes(before), f"the source after a {said}"


@clause("T-1")
def test_copy_writes_exactly_its_range(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Each copy is a submission of its own: sizes and alignments of every class, up to 1 MiB."""
    ranges = ranges_for(device)
    pairs = pairs_for(buffers, ranges)
    done = semaphores(len(ranges))
    for (source, target), finished, (at, to, length) in zip(pairs, done, ranges, strict=True):
        device.queue_copy(source, target, source_offset=at, target_offset=to, length=length, signal=[finished @ 1])
    for finished in done:
        finished.wait(1)
    expect_copied(pairs, ranges)


@clause("T-1")
def test_copy_command_writes_exactly_its_range(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """The same ranges as the commands of one list, which a HAL may execute in another way."""
    ranges = ranges_for(device)
    pairs = pairs_for(buffers, ranges)
    done = semaphores.at(0)
    copies = [
        Copy(source, target, at, to, length) for (source, target), (at, to, length) in zip(pairs, ranges, strict=True)
    ]
    device.queue_execute(copies, signal=[done @ 1])
    done.wait(1)
    expect_copied(pairs, ranges)


@clause("T-1")
def test_copy_without_a_length_copies_what_follows_in_the_source(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """The length of a copy may be left out: then the rest of the source is copied, and the target may be larger."""
    source = buffers.holding(noise(1024, 1))
    target = buffers.holding(noise(2048, 2))
    done = semaphores.at(0)
    device.queue_copy(source, target, source_offset=256, target_offset=64, signal=[done @ 1])
    done.wait(1)
    assert target.holds_bytes(patched(noise(2048, 2), 64, noise(1024, 1)[256:]))


@clause("T-1")
def test_copy_within_one_buffer(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Source and target may be apart in one and the same buffer; one range may follow right behind the other."""
    buffer = buffers.holding(noise(1024))
    done = semaphores.at(0)
    device.queue_copy(buffer, buffer, source_offset=0, target_offset=512, length=256, signal=[done @ 1])
    device.queue_copy(
        buffer, buffer, source_offset=768, target_offset=256, length=256, wait=[done @ 1], signal=[done @ 2]
    )
    done.wait(2)
    moved = patched(noise(1024), 512, noise(1024)[:256])
    assert buffer.holds_bytes(patched(moved, 256, moved[768:]))
