"""Which cases caught which mutants: those are tried first on the next one nearby."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mutants import Mutant
from mutation_page import FAULT

#: How many cases are tried first.
FIRST = 20


class Killers:
    """Which cases caught what so far. Thread-safe."""

    def __init__(self, results: Sequence[dict[str, Any]]) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, Counter[str]] = {}
        for result in results:
            self.learn(result)

    def learn(self, result: dict[str, Any]) -> None:
        """Remember who caught a mutant."""
        if (case := result.get("case")) and result.get("outcome") != FAULT:
            with self._lock:
                for key in (result["group"], result["module"], f"{result['module']}:{result['line']}"):
                    self._of.setdefault(key, Counter())[case] += 1

    def best(self, group: str, mutant: Mutant) -> list[str]:
        """Return the cases most likely to catch a mutant, those of its own line first."""
        near = [f"{mutant.module}:{mutant.line + off}" for off in (0, -1, 1)]
        found: dict[str, None] = {}
        with self._lock:
            for key, count in [*((key, 6) for key in near), (mutant.module, FIRST - 6), (group, FIRST)]:
                found |= dict.fromkeys(case for case, _ in self._of.get(key, Counter()).most_common(count))
        return list(found)[:FIRST]
