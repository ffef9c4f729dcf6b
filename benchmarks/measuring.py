"""Timing, the same for every subject."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes, by the monotonic clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def median_of(repetitions: int, work: Callable[[], float]) -> float:
    """Return the median of what ``work`` measures."""
    return statistics.median(work() for _ in range(repetitions))


def percentiles(samples: list[float]) -> dict[str, float]:
    """Return p50 and p99 in microseconds, and of how many samples."""
    ordered = sorted(samples)
    return {
        "p50_us": ordered[len(ordered) // 2] * 1e6,
        "p99_us": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e6,
        "samples": len(ordered),
    }


def idle() -> None:
    """Let processor and device rest for 2 ms, as between two steps of a program."""
    time.sleep(0.002)
