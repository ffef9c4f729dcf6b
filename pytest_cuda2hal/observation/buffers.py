"""Buffers as a case sees them: with something to expect of their bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hal import Buffer, Capability, checked_data
from .calls import UNRECORDED
from .records import READ, WRITE

if TYPE_CHECKING:
    from .device import ObservedDevice

#: Buffers above this size are not read as a whole, only to remember what is in them beside the bytes just written.
REMEMBERED_BYTES = 2**26
#: How many bytes a message shows.
SHOWN_BYTES = 16


class Observation:
    """What was expected of something and what was seen. True when they agree; its text is the evidence."""

    def __init__(self, expected: str, seen: str, *, agrees: bool) -> None:
        self.expected = expected
        self.seen = seen
        self.agrees = agrees

    def __bool__(self) -> bool:
        return self.agrees

    def __repr__(self) -> str:
        return f"<expected {self.expected}; seen {self.seen}>"


class ObservedBuffer(Buffer):
    """Passes reads and writes on to ``inner`` and remembers what the host wrote last."""

    def __init__(self, device: ObservedDevice, inner: Buffer) -> None:
        self.inner = inner
        self.size = inner.size
        self._device = device
        self._calls = device.calls
        self.serial = device.log.new_serial()
        self._written: bytes | None = None

    def __repr__(self) -> str:
        return f"<{self.name}, {self.size} bytes>"

    @property
    def name(self) -> str:
        """What the case calls it, or a made-up name."""
        return self._device.log.names.get(self.serial, f"buffer#{self.serial}")

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        with UNRECORDED if self._calls is None else self._calls.call(READ, self.serial):
            return self.inner.read(offset, length)

    def write(self, data: bytes, offset: int = 0) -> None:
        data = checked_data(data)
        if self._written is None and len(data) < self.size > REMEMBERED_BYTES:
            self._write(data, offset)
            return
        before = self.read() if self._written is None and len(data) < self.size else self._written or b""
        self._write(data, offset)
        self._written = before[:offset] + data + before[offset + len(data) :]

    def _write(self, data: bytes, offset: int) -> None:
        with UNRECORDED if self._calls is None else self._calls.call(WRITE, self.serial):
            self.inner.write(data, offset)

    def fill_by_host(self, byte: int) -> None:
        """Set every byte from the host, past the queues."""
        self.write(bytes([byte]) * self.size)

    @property
    def untouched(self) -> Observation:
        """Whether every byte is still what the host wrote last.

        On a backend without the capability ``side-access`` this cannot be seen while submissions are unfinished, and
        then agrees.
        """
        if Capability.SIDE_ACCESS not in self._device.capabilities and self._device.log.may_have_unfinished():
            return Observation(f"{self.name} untouched", "not readable by the host now", agrees=True)
        assert self._written is not None, f"the case wrote nothing into {self.name}, so 'untouched' means nothing"
        return self._compare(self._written, 0, f"{self.name} untouched")

    def holds(self, pattern: int | bytes, offset: int = 0, length: int | None = None) -> Observation:
        """Whether a range (all of it by default) consists of repeats of a pattern; an int is one byte."""
        unit = bytes([pattern]) if isinstance(pattern, int) else bytes(pattern)
        length = self.size - offset if length is None else length
        expected = (unit * (length // len(unit) + 1))[:length]
        return self._compare(expected, offset, f"{self.name}[{offset}:{offset + length}] = {_hex(unit)} …")

    def holds_bytes(self, data: bytes, offset: int = 0) -> Observation:
        """Whether the bytes from ``offset`` on are ``data``."""
        return self._compare(data, offset, f"{self.name}[{offset}:{offset + len(data)}] = {_hex(data)}")

    def _compare(self, expected: bytes, offset: int, claim: str) -> Observation:
        seen = self.read(offset, len(expected))
        if len(seen) != len(expected):
            return Observation(claim, f"a read of {len(expected)} bytes gave {len(seen)}", agrees=False)
        if seen == expected:
            return Observation(claim, f"{self.name}[{offset}:{offset + len(seen)}] as expected", agrees=True)
        first = next(i for i, (a, b) in enumerate(zip(seen, expected, strict=True)) if a != b)
        wrong = sum(a != b for a, b in zip(seen, expected, strict=True))
        at = offset + first
        text = (
            f"{self.name}[{at}:{offset + len(seen)}] = {_hex(seen[first:])}; "
            f"{wrong} of {len(seen)} bytes differ, the first at {at} (expected {_hex(expected[first : first + 1])})"
        )
        disagreement = Observation(claim, text, agrees=False)
        self._device.log.disagreement = disagreement
        return disagreement


def _hex(data: bytes) -> str:
    more = " …" if len(data) > SHOWN_BYTES else ""
    return data[:SHOWN_BYTES].hex(" ") + more
