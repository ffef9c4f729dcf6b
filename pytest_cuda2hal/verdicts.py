"""The verdicts of a run, collected from its reports, and the summary of them."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from .plugin import PROPERTY


class Outcome(enum.Enum):
    """What a case came to."""

    PASS = "pass"
    FAIL = "fail"
    HANG = "hang"
    CRASH = "crash"
    UNSUPPORTED = "unsupported"
    #: Skipped, or expected to fail, by the case itself: nothing that the harness has an opinion on.
    SET_ASIDE = "set aside"


@dataclass(slots=True)
class Verdict:
    """One case on one backend."""

    case: str
    backend: str
    outcome: Outcome
    clauses: list[str] = field(default_factory=list)
    seconds: float = 0.0
    message: str = ""
    evidence: str = ""
    quality: list[dict[str, Any]] = field(default_factory=list)
    variations: dict[str, str] = field(default_factory=dict)


class Verdicts:
    """Every verdict of a run; in a run with xdist, of all its workers."""

    def __init__(self, specs: list[str]) -> None:
        self._by_node: dict[str, Verdict] = {}
        # The report of a crash has a node id only; the spec is the part of it to leave out.
        self._specs = specs

    def __len__(self) -> int:
        return len(self._by_node)

    def all(self) -> list[Verdict]:
        """Return the verdicts, sorted by backend and case."""
        return sorted(self._by_node.values(), key=lambda verdict: (verdict.backend, verdict.case))

    def count(self, outcome: Outcome, backend: str | None = None) -> int:
        """Count the verdicts of an outcome, of one backend or of all."""
        return sum(v.outcome is outcome and backend in (None, v.backend) for v in self._by_node.values())

    def add(self, report: pytest.TestReport) -> None:
        """Take a report; a later stage that failed overrules an earlier one that passed."""
        data: Any = next((pair[1] for pair in report.user_properties if pair[0] == PROPERTY), None)
        if data is None:
            if str(report.when) == "???":  # xdist's report about a case whose worker died
                self._add_crash(report)
            return
        old = self._by_node.get(report.nodeid)
        if old is not None and (report.passed or old.outcome not in (Outcome.PASS, Outcome.UNSUPPORTED)):
            return
        self._by_node[report.nodeid] = Verdict(
            case=data["case"],
            backend=data["backend"],
            outcome=Outcome(data["outcome"]),
            clauses=data["clauses"],
            seconds=data["seconds"],
            message=data["message"],
            evidence=data["evidence"],
            quality=data["quality"],
            variations=data["variations"],
        )

    def _add_crash(self, report: pytest.TestReport) -> None:
        from .identity import case_id_of_node, without_backend

        text = str(report.longrepr)
        name = report.nodeid.partition("::")[2]
        for backend in sorted(self._specs, key=len, reverse=True):
            if without_backend(name, backend) != name:
                case = case_id_of_node(report.nodeid, backend)
                self._by_node[report.nodeid] = Verdict(case, backend, Outcome.CRASH, message=text, evidence=text)
                return

    def print_summary(self, terminal: pytest.TerminalReporter) -> None:
        """Write a section of a few lines: outcomes, broken clauses, missing capabilities, figures, observed answers."""
        if not self._by_node or terminal.verbosity < -1:
            return
        terminal.section("HAL conformance")
        for backend in sorted({verdict.backend for verdict in self._by_node.values()}):
            mine = [verdict for verdict in self.all() if verdict.backend == backend]
            outcomes = Counter(verdict.outcome for verdict in mine)
            counts = ", ".join(f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome if outcomes[outcome])
            terminal.line(f"{backend}: {counts}")
            for label, rows in self._details(mine):
                terminal.line(f"  {label}: {rows}")

    def _details(self, mine: list[Verdict]) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = []
        broken = Counter(
            clause
            for verdict in mine
            if verdict.outcome in (Outcome.FAIL, Outcome.HANG, Outcome.CRASH)
            for clause in verdict.clauses
        )
        if broken:
            rows.append(("clauses of failed cases", _counted(broken)))
        unsupported = Counter(_reason(verdict.message) for verdict in mine if verdict.outcome is Outcome.UNSUPPORTED)
        for reason, number in sorted(unsupported.items()):
            rows.append((f"unsupported ({number})", reason))
        for verdict in mine:
            rows += [
                ("quality clause broken", f"{entry['clause']}: {entry['figure']} ({verdict.case})")
                for entry in verdict.quality
                if not entry["kept"]
            ]
        return rows


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({number})" if number > 1 else name for name, number in sorted(counter.items()))


def _reason(message: str) -> str:
    text = message.removeprefix("Skipped: ").removeprefix("unsupported: ")
    return text.partition(" (")[0] if text.startswith("capability") else text
