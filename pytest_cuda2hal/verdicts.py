"""The verdicts of a run, collected from its reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from .outcome import Outcome
from .plugin import CASE_DATA


@dataclass(slots=True)
class Verdict:
    """One case on one backend."""

    case: str
    backend: str
    outcome: Outcome
    clauses: list[str] = field(default_factory=list)
    seconds: float = 0.0
    message: str = ""
    #: As it was printed.
    evidence: str = ""
    #: Its parts, for programs; docs/results-file.md lists them.
    details: dict[str, Any] = field(default_factory=dict)
    quality: list[dict[str, Any]] = field(default_factory=list)
    variations: dict[str, str] = field(default_factory=dict)
    #: Why the baseline says that this deviation is known; it does not fail the run then.
    known: str = ""
    #: What does not fit the baseline.
    judgement: str = ""

    @property
    def fails(self) -> bool:
        """Whether it fails the run."""
        return bool(self.judgement) or (self.outcome.deviates and not self.known)


class Verdicts:
    """Every verdict of a run; in a run with xdist, of all its workers."""

    def __init__(self, specs: list[str]) -> None:
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        # The report of a crash has a node id only; the spec is the part of it to leave out.
        self._specs = specs

    def __len__(self) -> int:
        return len(self._verdicts)

    def all(self) -> list[Verdict]:
        """Return the verdicts, sorted by backend and case."""
        return sorted(self._verdicts.values(), key=lambda verdict: (verdict.backend, verdict.case))

    def count(self, outcome: Outcome, backend: str | None = None) -> int:
        """Count the verdicts of an outcome, of one backend or of all."""
        return sum(v.outcome is outcome and backend in (None, v.backend) for v in self._verdicts.values())

    def add(self, report: pytest.TestReport) -> None:
        """Take a report; a later stage that failed overrules an earlier one that passed."""
        if report.outcome not in ("passed", "failed", "skipped"):
            return  # another plugin will run the case again
        data: dict[str, Any] | None = report.__dict__.get(CASE_DATA)
        if data is None:
            if str(report.when) == "???":  # xdist's report about a case whose worker died
                self._add_crash(report)
            return
        key = (data["backend"], data["case"])
        old = self._verdicts.get(key)
        new = Verdict(**{**data, "outcome": Outcome(data["outcome"])})
        if old is not None and (not new.outcome.deviates or old.outcome not in (Outcome.PASS, Outcome.UNSUPPORTED)):
            return
        self._verdicts[key] = new

    def _add_crash(self, report: pytest.TestReport) -> None:
        from .identity import case_id_of_node, without_backend

        text = str(report.longrepr)
        name = report.nodeid.partition("::")[2]
        for backend in sorted(self._specs, key=len, reverse=True):
            if without_backend(name, backend) != name:
                case = case_id_of_node(report.nodeid, backend)
                crash = Verdict(case, backend, Outcome.CRASH, message=text, evidence=text)
                self._verdicts[backend, case] = crash
                return
