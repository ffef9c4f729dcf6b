"""Divide the cases among several runs: each case in exactly one of them, and about as much time in each.

Which cases a shard gets depends on the set of case ids and on the durations alone, not on their order, on the machine
or on other plugins. All shards of a run must be given the same selection and the same durations.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Case id -> seconds on the reference backend, to the millisecond. Taken from docs/results/reports/reference.json: the
#: whole suite at full effort on two cores. On other backends the times differ, but long cases are long everywhere.
SHIPPED_DURATIONS = Path(__file__).with_name("durations.json")
#: Seconds that a case takes besides what is recorded of it: making and closing its devices, and the report. Without
#: it all the cases that take no time would fall to one shard.
SECONDS_BESIDE = 0.01


class ShardError(ValueError):
    """A shard, or the durations to divide by, cannot be read; the message is one line."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` parts of a run; ``index`` counts from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Read ``I/N``. Raises :class:`ShardError` for anything else, and for an I that is not one of 1 to N."""
    found = re.fullmatch(r"(-?[0-9]{1,9})/(-?[0-9]{1,9})", text)
    if not found:
        raise ShardError(f"'{text}' is not I/N, as 2/4 is for the second shard of four")
    index, count = int(found[1]), int(found[2])
    if count < 1:
        raise ShardError(f"{text}: there is at least one shard, not {count}")
    if not 1 <= index <= count:
        raise ShardError(f"{text}: the shards are 1 to {count}; there is no shard {index}")
    return Shard(index, count)


def durations(path: Path | None = None) -> dict[str, float]:
    """Return how many seconds each case took: case id -> seconds, of all backends together.

    ``path`` is a result file of ``--hal-report``; without it the durations that come with the package are taken.
    Raises :class:`ShardError` if the file cannot be read or is no result file.
    """
    if path is None:
        shipped: dict[str, float] = json.loads(SHIPPED_DURATIONS.read_text(encoding="utf-8"))
        return shipped
    from .report import ResultError, read_result

    try:
        document = read_result(path)
    except (OSError, ResultError) as error:
        raise ShardError(f"durations cannot be read: {error}") from None
    seconds: dict[str, float] = {}
    for case in document["cases"]:
        # A case runs on every backend of a shard, one after the other.
        seconds[case["case"]] = seconds.get(case["case"], 0.0) + case["seconds"]
    if not all(0 <= value < math.inf for value in seconds.values()):
        raise ShardError(f"durations cannot be read: {path} has a case that took no finite time of 0 s or more")
    return seconds


def select(case_ids: Iterable[str], shard: Shard, durations: Mapping[str, float]) -> set[str]:
    """Return the cases of one shard.

    A case id may be given several times, as it is with several backends: it counts once, and all its backends fall to
    the same shard. The longest case goes first, each to the shard with least to do so far; of equal cases the one whose
    id sorts first, of equal shards the first. A case without a duration counts as the median of ``durations``.

    No shard then has more than the mean and one longest case.
    """
    usual = statistics.median(durations.values()) if durations else 0.0
    weights = {case: durations.get(case, usual) + SECONDS_BESIDE for case in case_ids}
    loads = [(0.0, index) for index in range(1, shard.count + 1)]
    selected: set[str] = set()
    for case in sorted(weights, key=lambda case: (-weights[case], case)):
        load, index = loads[0]
        heapq.heapreplace(loads, (load + weights[case], index))
        if index == shard.index:
            selected.add(case)
    return selected


def digest(case_ids: Iterable[str]) -> str:
    """Return the SHA-256 of a set of case ids, in hexadecimal: two runs with the same digest have the same cases."""
    lines = "".join(f"{case}\n" for case in sorted(set(case_ids)))
    return hashlib.sha256(lines.encode(errors="backslashreplace")).hexdigest()
