"""Buffers, latches and the commands that a queue runs on them."""

from __future__ import annotations

import abc
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .errors import HalError, StatusCode


class Buffer(abc.ABC):
    """A range of device memory, ``size`` bytes long.

    :meth:`read` and :meth:`write` bypass the queues: they are the test's own eyes and hands, take no part in any order,
    and on a backend with the capability ``side-access`` work while every queue is held.
    """

    size: int

    @abc.abstractmethod
    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Return ``length`` bytes (all that follow, if ``None``) from ``offset`` on."""

    @abc.abstractmethod
    def write(self, data: bytes, offset: int = 0) -> None:
        """Overwrite the bytes from ``offset`` on with ``data``."""


class Latch(abc.ABC):
    """Something a queue can be held by (:class:`Hold`) until the host opens it. Once open it stays open."""

    @abc.abstractmethod
    def open(self) -> None:
        """Let go whatever is held. May be called from any thread, any number of times."""


def checked_data(data: bytes) -> bytes:
    """Return what is to be written as ``bytes``, whose length counts bytes, whatever kind of memory it was.

    :raises TypeError: it is not bytes-like; an int among others, of which :class:`bytes` would make so many zeros.
    """
    return data if type(data) is bytes else memoryview(data).tobytes()


def checked_size(size: int) -> int:
    """Return the size of a buffer in bytes as an ``int``, whatever kind of integer it was.

    :raises HalError: ``INVALID_ARGUMENT`` when it is less than 1.
    :raises TypeError: it is no integer.
    """
    if isinstance(size, bool) or not hasattr(type(size), "__index__"):
        raise TypeError(f"the size of a buffer is an int, not {type(size).__name__}: {size!r}")
    size = operator.index(size)
    if size < 1:
        raise HalError(StatusCode.INVALID_ARGUMENT, f"a buffer has at least 1 byte, not {size}")
    return size


def checked_range(offset: int, length: int | None, size: int) -> tuple[int, int]:
    """Return ``(offset, length)`` within a buffer of ``size`` bytes, ``None`` meaning all that follows.

    :raises HalError: ``OUT_OF_RANGE`` when the range does not lie inside.
    :raises TypeError: offset or length is no int.
    """
    offset = operator.index(offset)
    length = size - offset if length is None else operator.index(length)
    if offset < 0 or length < 0 or offset + length > size:
        raise HalError(
            StatusCode.OUT_OF_RANGE,
            f"bytes {offset} … {offset + length} do not lie inside a buffer of {size} bytes",
        )
    return offset, length


@dataclass(frozen=True, slots=True)
class Fill:
    """Fill a range with a pattern of 1, 2 or 4 bytes: an int 0 … 255, or the bytes themselves."""

    target: Buffer
    pattern: int | bytes
    offset: int = 0
    length: int | None = None

    def __post_init__(self) -> None:
        pattern = self.pattern
        if isinstance(pattern, int):
            if not 0 <= pattern <= 255:
                raise ValueError(f"a fill pattern given as an int is one byte, 0 … 255, not {pattern}")
            pattern = bytes([pattern])
        else:
            pattern = bytes(pattern)
        if len(pattern) not in (1, 2, 4):
            raise ValueError(f"a fill pattern has 1, 2 or 4 bytes, not {len(pattern)}")
        object.__setattr__(self, "pattern", pattern)

    @property
    def pattern_bytes(self) -> bytes:
        """The pattern, always as bytes."""
        assert isinstance(self.pattern, bytes)
        return self.pattern


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy ``length`` bytes (all that follow in the source, if ``None``) from one buffer to another."""

    source: Buffer
    target: Buffer
    source_offset: int = 0
    target_offset: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """Write host bytes, captured when the command is made, into a buffer."""

    target: Buffer
    data: bytes
    offset: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", checked_data(self.data))


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the queue busy until ``latch`` opens (capability ``hold``)."""

    latch: Latch


@dataclass(frozen=True, slots=True)
class Fault:
    """Fail when run, with ``error`` (capability ``fault-injection``): the stand-in for a kernel that faults."""

    error: HalError


Command = Fill | Copy | Update | Hold | Fault
COMMANDS: tuple[type, ...] = (Fill, Copy, Update, Hold, Fault)


class CommandBuffer:
    """Commands recorded once, to be executed once (``one_shot``) or many times.

    Commands act as if they ran in the order of the list (C-4). A backend may subclass this to keep what it compiled.
    """

    def __init__(self, commands: Iterable[Command], *, one_shot: bool = False) -> None:
        self.commands: tuple[Command, ...] = checked_commands(tuple(commands))
        self.one_shot = one_shot


def checked_commands(commands: Sequence[Command]) -> tuple[Command, ...]:
    """Return the commands as they are now.

    :raises TypeError: something in the list is not a command.
    """
    result = tuple(commands)
    for item in result:
        if not isinstance(item, COMMANDS):
            names = ", ".join(kind.__name__ for kind in COMMANDS)
            raise TypeError(f"a command list holds {names}, not {item!r}")
    return result
