"""Ranges at the edges: units that are not whole, length 0, and what lies outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fill, StatusCode, Update

from ..support import (
    AskVariation,
    Buffers,
    ObservedBuffer,
    ObservedDevice,
    ObservedSemaphore,
    Semaphores,
    clause,
    failing,
    status_of,
)
from .ranges import noise, patched, repeated

MakeCommand = Callable[[ObservedBuffer, ObservedBuffer], Fill | Copy | Update]

NOTHING: dict[str, MakeCommand] = {
    "fill": lambda a, b: Fill(b, b"\x01\x02\x03\x04", 64, 0),
    "fill-at-the-end": lambda a, b: Fill(b, 1, 256, 0),
    "copy": lambda a, b: Copy(a, b, 64, 32, 0),
    "copy-at-the-end": lambda a, b: Copy(a, b, 256, 256, 0),
    "update": lambda a, b: Update(b, b"", 64),
}

OUTSIDE: dict[str, MakeCommand] = {
    "fill-too-long": lambda a, b: Fill(b, 1, 0, 260),
    "fill-last-unit": lambda a, b: Fill(b, b"\x01\x02\x03\x04", 64, 196),
    "fill-behind": lambda a, b: Fill(b, 1, 256, 4),
    "fill-far-away": lambda a, b: Fill(b, 1, 2**40, 4),
    "copy-source-too-short": lambda a, b: Copy(a, b, 128, 0, 132),
    "copy-target-too-short": lambda a, b: Copy(a, b, 0, 128, 132),
    "copy-source-far-away": lambda a, b: Copy(a, b, 2**40, 0, 4),
    "copy-target-far-away": lambda a, b: Copy(a, b, 0, 2**40, 4),
    "update-too-long": lambda a, b: Update(b, bytes(260)),
    "update-behind": lambda a, b: Update(b, bytes(4), 256),
}


def expect_no_success(semaphore: ObservedSemaphore) -> None:
    """Wait until the signal has failed."""
    with failing():
        semaphore.wait(1)


def need_command(device: ObservedDevice, command: object) -> None:
    """End the case where the HAL has no such command."""
    if isinstance(command, Update):
        device.need(Capability.UPDATE)


@clause("T-1")
@pytest.mark.parametrize("kind", NOTHING)
def test_transfer_of_no_bytes(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, kind: str) -> None:
    """A transfer of length 0 completes and writes nothing, or it is refused and signals nothing."""
    a, b = buffers.holding(noise(256, 1)), buffers.holding(noise(256, 2))
    done = semaphores.at(0)
    command = NOTHING[kind](a, b)
    need_command(device, command)
    refusal = status_of(lambda: device.queue_execute([command], signal=[done @ 1]))
    if refusal is StatusCode.OK:
        done.wait(1)
    else:
        assert done.query() == 0, f"the transfer was refused with {refusal.name}, so its signal must not be made"
    assert a.holds_bytes(noise(256, 1))
    assert b.holds_bytes(noise(256, 2))


@clause("T-2")
@pytest.mark.parametrize("kind", OUTSIDE)
def test_transfer_outside_its_buffer(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation, kind: str
) -> None:
    """A range that is partly or wholly outside is refused, or fails the signals, as the profile says.

    Either way no byte inside a buffer changes, and what comes next works.
    """
    outside = variation("out-of-range-transfer")
    outside.need_defined()
    a, b, other = buffers.holding(noise(256, 1)), buffers.holding(noise(256, 2)), buffers.holding(noise(256, 3))
    done, after = semaphores(2)
    command = OUTSIDE[kind](a, b)
    need_command(device, command)
    if status_of(lambda: device.queue_execute([command], signal=[done @ 1])) is not StatusCode.OK:
        outside.check("refused")
    else:
        outside.check("carried out" if status_of(lambda: done.wait(1)) is StatusCode.OK else "fails")

    device.queue_fill(other, 7, signal=[after @ 1])
    after.wait(1)
    assert other.holds(7)
    assert a.holds_bytes(noise(256, 1))
    assert b.holds_bytes(noise(256, 2))


@clause("Q-22")
@pytest.mark.parametrize("kind", ["fill-too-long", "copy-source-too-short", "copy-target-too-short"])
def test_refused_transfer_leaves_its_signals_alone(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation, kind: str
) -> None:
    """When the call raises, nothing was enqueued: its signal is as it was, and somebody else may make it."""
    variation("out-of-range-transfer").need_defined()
    a, b = buffers.filled(0, count=2)
    done = semaphores.at(0)
    if status_of(lambda: device.queue_execute([OUTSIDE[kind](a, b)], signal=[done @ 1])) is StatusCode.OK:
        expect_no_success(done)
        pytest.skip("unsupported: the transfer is accepted and fails, so there is no refusal to look at")
    state = status_of(done.query)
    assert state is StatusCode.OK, f"expected {done!r} to be as it was, the call was refused; seen {state.name}"
    assert done.query() == 0
    done.signal(1)


@clause("T-1")
@pytest.mark.parametrize("size", [2, 4])
def test_fill_that_is_no_whole_number_of_patterns(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation, size: int
) -> None:
    """Where the units are single bytes, a fill begins at any byte and may end with a part of its pattern."""
    units = variation("transfer-granularity")
    if not units.permits("1"):
        pytest.skip(f"unsupported: profile '{device.profile}' has no transfers in units of single bytes")
    b = buffers.holding(noise(256))
    done = semaphores.at(0)
    pattern = bytes(range(1, size + 1))
    device.queue_fill(b, pattern, offset=63, length=4 * size + 1, signal=[done @ 1])
    done.wait(1)
    assert b.holds_bytes(patched(noise(256), 63, repeated(pattern, 4 * size + 1)))
    units.check("1")
