"""Reports about cases that could not report themselves, and what the others could not know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from ..case import CaseState
from ..evidence import SECTION, attach, case_data, clause_lines, joined, replay
from ..observation.history import History
from ..outcome import Outcome
from ..plugin import CASE_DATA
from ..run import run_of
from ..waitgraph import graph_of_journal
from .supervisor import Ended

#: Lines of each kind that the text repeats; the details have all that was kept.
_SHOWN = 40
#: Operations that the details keep, and that the text shows of them.
_KEPT_OPERATIONS = 200
_LAST_OPERATIONS = 20
#: What a report says in their place, where nobody kept them.
NO_JOURNAL = "last operations and what waited for what are not known: --no-journal"
#: Where a stack leaves the case and enters what calls it.
_PYTEST_FRAME = re.compile(r'File "[^"]*[/\\\\](?:_pytest|pluggy)[/\\\\]')


def reports_of_ending(item: pytest.Item, ended: Ended) -> list[pytest.TestReport]:
    """Return the reports of a case that ended its process: of the phase where it was, and of the teardown after it."""
    details = _details(ended)
    message = ended.what.partition("\n")[0]
    text = _evidence(item, ended, message, details)
    report = _report(item, ended.when, "failed", ended.what, ended.seconds)
    report.sections.append((SECTION, text))
    attach(report, item, case_data(item, ended.outcome, ended.seconds, message, text, details))
    reports = [report]
    if ended.when != "teardown":  # which other plugins wait for, to know that the case is over
        after = _report(item, "teardown", "passed", None, 0.0)
        after.user_properties = list(report.user_properties)
        reports.append(after)
    return reports


def add_output(reports: Sequence[pytest.TestReport], out: str, err: str, last_healthy: str) -> None:
    """Add to the reports of a case what it printed, and to those of one that deviated which case was well before it."""
    last = reports[-1]
    for name, text in (("stdout", out), ("stderr", err)):
        if text:
            for report in [one for one in reports if one.failed] or [last]:
                report.sections.append((f"Captured {name}", text))
    for report in reports:
        data: dict[str, Any] | None = report.__dict__.get(CASE_DATA)
        if data is not None and Outcome(data["outcome"]).deviates:
            data["details"] |= {name: text for name, text in (("stdout", out), ("stderr", err)) if text}
            if last_healthy:
                data["details"]["last_healthy"] = last_healthy


def _report(item: pytest.Item, when: Any, outcome: Any, text: str | None, seconds: float) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome=outcome,
        longrepr=text,
        when=when,
        duration=seconds,
        user_properties=list(item.user_properties),
    )


def _details(ended: Ended) -> dict[str, Any]:
    details: dict[str, Any] = {"stage": ended.when, "seen": ended.what}
    for name in ("ending", "python_stacks", "native_stacks", "last_healthy"):
        if text := getattr(ended, name):
            details[name] = text
    history = History(ended.journal)
    if operations := history.last_operations(_KEPT_OPERATIONS):
        details["operations"] = operations
    graph = graph_of_journal(ended.journal)
    if graph.nodes:
        details["waits"] = graph.to_json()
        details["waits_in_words"] = graph.in_words()
    return details


def _evidence(item: pytest.Item, ended: Ended, message: str, details: dict[str, Any]) -> str:
    operations = details.get("operations", [])[-_LAST_OPERATIONS:]
    blocks = [
        clause_lines(CaseState.of(item)),
        [message],
        details.get("waits_in_words", []),
        ["last operations", *(f"  {line}" for line in operations)] if operations else [],
        [] if run_of(item.config).settings.journal or ended.outcome is Outcome.ERROR else [NO_JOURNAL],
        _block("Python stacks", short_stacks(ended.python_stacks)),
        _block("native stacks", ended.native_stacks),
        _block("standard error", ended.stderr),
        [f"last healthy case  {ended.last_healthy}"] if ended.last_healthy else [],
        [f"replay    {replay(item)}"],
    ]
    return joined(blocks)


def short_stacks(text: str) -> str:
    """Return what the interpreter wrote without the frames of pytest, the thread that it was in first."""
    head, *threads = re.split(r"\n(?=(?:Current t|T)hread 0x)", text)
    threads.sort(key=lambda one: (not one.startswith("Current thread"), not _PYTEST_FRAME.search(one)))
    return "\n".join([head.strip(), *(_up_to_pytest(one) for one in threads)]).strip()


def _up_to_pytest(thread: str) -> str:
    lines = thread.strip().splitlines()
    ours = next((place for place, line in enumerate(lines) if _PYTEST_FRAME.search(line)), len(lines))
    return "\n".join(lines[:ours])


def _block(title: str, text: str) -> list[str]:
    lines = text.splitlines()
    if not lines:
        return []
    more = [f"  … {len(lines) - _SHOWN} more lines in the report file"] if len(lines) > _SHOWN else []
    return [title, *(f"  {line}" for line in lines[:_SHOWN]), *more]
