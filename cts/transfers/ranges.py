"""What the cases about ranges share: the units in which a HAL transfers, and bytes that show every slip."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from ..support import ObservedDevice

#: Bytes before and after every range that is written, so that a write past its ends is seen.
MARGIN = 64


def granule(device: ObservedDevice, pattern_size: int = 1) -> int:
    """Return of how many bytes offsets and lengths must be multiples (variation point ``transfer-granularity``)."""
    match device.rules.usual("transfer-granularity"):
        case "1":
            return 1
        case "4":
            return 4
        case _:
            return pattern_size


def in_units(sizes: Iterable[int], unit: int) -> list[int]:
    """Round sizes up to multiples of ``unit``; each is listed once, in the order of the first that gave it."""
    return list(dict.fromkeys(-(-size // unit) * unit for size in sizes))


def classes(offsets: Iterable[int], lengths: Iterable[int], unit: int) -> list[tuple[int, int]]:
    """Return every pair of an offset and a length, both in units."""
    return list(itertools.product(in_units(offsets, unit), in_units(lengths, unit)))


def noise(size: int, key: int = 0) -> bytes:
    """Return bytes of which no two neighbours and no two short stretches are alike; another key, other bytes."""
    # 251 is prime, so the sequence does not repeat at a power of two, where a wrong offset would go unseen.
    period = bytes((index * 7 + key * 31 + 1) % 251 for index in range(251))
    return (period * (size // 251 + 1))[:size]


def patched(background: bytes, offset: int, data: bytes) -> bytes:
    """Return ``background`` with ``data`` at ``offset``."""
    return background[:offset] + data + background[offset + len(data) :]


def repeated(pattern: bytes, length: int) -> bytes:
    """Return what a fill writes: the pattern over and over, cut where the range ends."""
    return (pattern * (length // len(pattern) + 1))[:length]
