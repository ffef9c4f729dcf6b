"""Updates write exactly the range that they name, with the bytes that the host had at the call."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_cuda2hal.hal import Capability, Update

from ..support import Buffers, ObservedBuffer, ObservedDevice, Semaphores, clause, requires
from .ranges import MARGIN, classes, granule, noise, patched

#: What every HAL takes at once. IREE's IREE_HAL_COMMAND_BUFFER_MAX_UPDATE_SIZE (iree/hal/command_buffer.h) is this,
#: chosen for Vulkan's vkCmdUpdateBuffer, and caps a queue's own updates as well (its local_task device's parameters).
LIST_LIMIT = 64 * 1024

OFFSETS = [0, 1, 4, 60, 4095]
LENGTHS = [1, 2, 3, 4, 63, 256, 257, 4096, LIST_LIMIT]
#: The rules "strict" know no limit on a queue's own update: a HAL divides it where its command lists have one.
LARGER = [LIST_LIMIT + 1, 2 * LIST_LIMIT + 37]


def lengths_of(device: ObservedDevice, lengths: list[int], larger: list[int]) -> list[int]:
    """Return the lengths of a queue's own updates, with the larger ones where the rules have them."""
    return lengths + larger if device.rules.name == "strict" else lengths


def expect_updated(targets: list[ObservedBuffer], ranges: list[tuple[int, int]]) -> None:
    for key, (target, (offset, length)) in enumerate(zip(targets, ranges, strict=True)):
        expected = patched(noise(target.size, key), offset, noise(length, 100 + key))
        assert target.holds_bytes(expected), f"after an update of {length} bytes at offset {offset}"


@clause("T-1")
@requires(Capability.UPDATE)
def test_update_writes_exactly_its_range(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Each update is a submission of its own; where the rules let it, more than twice what a command list takes."""
    ranges = classes(OFFSETS, lengths_of(device, LENGTHS, LARGER), granule(device))
    targets = [buffers.holding(noise(offset + length + MARGIN, key)) for key, (offset, length) in enumerate(ranges)]
    done = semaphores(len(ranges))
    for key, (target, finished, (offset, length)) in enumerate(zip(targets, done, ranges, strict=True)):
        device.queue_update(target, noise(length, 100 + key), offset=offset, signal=[finished @ 1])
    for finished in done:
        finished.wait(1)
    expect_updated(targets, ranges)


@clause("T-1")
@requires(Capability.UPDATE)
@pytest.mark.parametrize("lengths", [[1, 2, 3, 4, 63, 256, 257, 1024], [4096, LIST_LIMIT]], ids=["small", "large"])
def test_update_command_writes_exactly_its_range(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, lengths: list[int]
) -> None:
    """Updates as the commands of one list, which carries their bytes."""
    ranges = classes(OFFSETS, lengths, granule(device))
    targets = [buffers.holding(noise(offset + length + MARGIN, key)) for key, (offset, length) in enumerate(ranges)]
    done = semaphores.at(0)
    updates = [
        Update(target, noise(length, 100 + key), offset)
        for key, (target, (offset, length)) in enumerate(zip(targets, ranges, strict=True))
    ]
    device.queue_execute(updates, signal=[done @ 1])
    done.wait(1)
    expect_updated(targets, ranges)


@clause("T-1", "Q-15")
@requires(Capability.UPDATE)
def test_update_writes_the_bytes_of_the_call(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """The host may change its bytes as soon as the call has returned.

    host ──gate@1──▶ update(b, data) ──done@1──▶ host
         data is overwritten between the submit and gate@1
    """
    sizes = lengths_of(device, [4, 1024, LIST_LIMIT], [2 * LIST_LIMIT + 36])
    targets = [buffers.filled(0, size=size) for size in sizes]
    gate = semaphores.at(0)
    done = semaphores(len(sizes))
    for key, (target, finished) in enumerate(zip(targets, done, strict=True)):
        data: Any = bytearray(noise(target.size, key))
        device.queue_update(target, data, wait=[gate @ 1], signal=[finished @ 1])
        data[:] = b"\xee" * len(data)

    gate.signal(1)
    for key, (target, finished) in enumerate(zip(targets, done, strict=True)):
        finished.wait(1)
        assert target.holds_bytes(noise(target.size, key)), "the bytes that the host had when it submitted"
