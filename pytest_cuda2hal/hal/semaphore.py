"""Timeline semaphores and timepoints: the words in which order is expressed."""

from __future__ import annotations

import abc
import enum
import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from .errors import HalError

#: Every timeline value fits in 64 bits. What a backend really takes may be less: variation point ``value-max``.
VALUE_LIMIT = 2**64


def checked_value(value: int) -> int:
    """Return ``value`` if it can be a timeline value at all.

    :raises TypeError: not an integer (``bool`` is refused too: it is nearly always a slip).
    :raises ValueError: negative, or 2**64 and above.
    """
    if type(value) is not int:
        if isinstance(value, bool) or not hasattr(type(value), "__index__"):
            raise TypeError(f"a timeline value is an int, not {type(value).__name__}: {value!r}")
        value = value.__index__()
    if not 0 <= value < VALUE_LIMIT:
        raise ValueError(f"a timeline value lies in 0 … 2**64-1, not {value}")
    return value


def checked_timeout(timeout: float | None) -> float | None:
    """Return ``timeout`` in seconds: ``None`` for ever (``inf`` too), never below 0.

    Zero and negative timeouts mean *expired*: the caller looks once and does not block.

    :raises TypeError: not a number.
    :raises ValueError: NaN.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"a timeout is a number of seconds or None, not {type(timeout).__name__}: {timeout!r}")
    try:
        timeout = float(timeout)
    except OverflowError:  # an int that no float can hold
        return None if timeout > 0 else 0.0
    if math.isnan(timeout):
        raise ValueError("a timeout cannot be NaN; use None to wait for ever")
    if timeout == math.inf:
        return None
    return max(0.0, timeout)


def deadline_after(timeout: float | None) -> float | None:
    """Return the moment on ``time.monotonic`` at which a checked ``timeout`` ends; ``None`` never ends."""
    return None if timeout is None else time.monotonic() + timeout


class WaitMode(enum.Enum):
    """When a wait for several timepoints ends."""

    ALL = "all"
    ANY = "any"


class Semaphore(abc.ABC):
    """A 64-bit timeline whose value only grows, or which has failed for good.

    All methods may be called from any thread at any time. ``semaphore @ 3`` is the timepoint at which it reaches 3.
    """

    @abc.abstractmethod
    def query(self) -> int:
        """Return the value now, without blocking.

        :raises HalError: the semaphore has failed; code and message are those of the first failure (F-1).
        """

    @abc.abstractmethod
    def signal(self, value: int) -> None:
        """Set the timeline to ``value`` and wake whatever waits at or below it.

        :raises HalError: the value does not advance the timeline (variation point ``non-advancing-signal``), is out of
            range (``value-out-of-range``), or the semaphore has failed (``signal-after-failure``).
        """

    @abc.abstractmethod
    def fail(self, error: HalError) -> None:
        """Fail the semaphore for good with ``error``; the first failure wins, later ones change nothing."""

    @abc.abstractmethod
    def wait(self, value: int, timeout: float | None = None) -> None:
        """Block until the timeline has reached ``value``.

        :param timeout: seconds; ``None`` or ``inf`` for ever; zero and below look once.
        :raises HalError: ``DEADLINE_EXCEEDED`` when the time is over, else the failure (``failed-wait-code``).
        """

    def __matmul__(self, value: int) -> Timepoint:
        if type(value) is int and 0 <= value < VALUE_LIMIT:  # nearly always; programs make two of these a submission
            return tuple.__new__(Timepoint, (self, value))
        return Timepoint(self, value)


class _Timepoint(NamedTuple):
    semaphore: Semaphore
    value: int


class Timepoint(_Timepoint):
    """The moment at which ``semaphore`` reaches ``value``: what submissions wait for and signal."""

    __slots__ = ()

    def __new__(cls, semaphore: Semaphore, value: int) -> Timepoint:
        return super().__new__(cls, semaphore, checked_value(value))

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]  # generic in a way that nobody writes
        # What ``_replace`` is made of, too; a named tuple's own checks nothing.
        return cls(*iterable)


def captured(timepoints: Iterable[Timepoint]) -> tuple[Timepoint, ...]:
    """Return the list as it is now (Q-15: a submission captures its lists).

    :raises TypeError: something in it is not a timepoint.
    """
    result = tuple(timepoints)
    for item in result:
        if not isinstance(item, Timepoint):
            raise TypeError(f"a wait or signal list holds timepoints (semaphore @ value), not {item!r}")
    return result
