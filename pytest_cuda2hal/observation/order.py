"""Which submissions were made before their producers: on a queue that cannot overtake, those block the producer."""

from __future__ import annotations

from collections.abc import Sequence

from .log import Log, Point


class SubmissionOrder:
    """Remembers what has been promised, and which waits had no producer when they were submitted."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._promised: dict[int, int] = {}
        self._orphans: dict[tuple[int, int], list[Point]] = {}

    def blocks(self, signals: Sequence[Point], queue: int) -> bool:
        """Tell whether a submission with these signals would stand behind a consumer of its own on ``queue``."""
        for signal in signals:
            orphans = self._orphans.get((queue, signal.serial), [])
            orphans[:] = [point for point in orphans if self._log.is_reached(point) is False]
            if any(point.value <= signal.value for point in orphans):
                return True
        return False

    def accept(self, waits: Sequence[Point], signals: Sequence[Point], queue: int) -> None:
        """Take note of an accepted submission."""
        for point in waits:
            if point.value > self._promised.get(point.serial, -1) and self._log.is_reached(point) is False:
                self._orphans.setdefault((queue, point.serial), []).append(point)
        for point in signals:
            self._promised[point.serial] = max(point.value, self._promised.get(point.serial, -1))
