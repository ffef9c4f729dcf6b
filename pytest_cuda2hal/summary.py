"""The summary of a run on the terminal: what somebody who looks at a red job must know, in a few lines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from .answers import nearest_profile
from .hal import PROFILES, VARIATION_POINTS
from .outcome import Outcome
from .verdicts import Verdict

if TYPE_CHECKING:
    from .run import Run

#: Lines of one kind that are shown; how many more there are is said.
_SHOWN = 3


def print_summary(terminal: pytest.TerminalReporter, run: Run) -> None:
    """Write a section of a few lines for each backend, then what does not fit the baseline, then notes."""
    verdicts = run.verdicts
    if not verdicts.all() or terminal.verbosity < -1:
        return
    declared = {answer.spec: answer.profile for answer in run.probes() if answer.profile}
    terminal.section("HAL conformance")
    for backend in sorted({verdict.backend for verdict in verdicts.all()}):
        mine = [verdict for verdict in verdicts.all() if verdict.backend == backend]
        outcomes = Counter(verdict.outcome for verdict in mine)
        counts = ", ".join(f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome if outcomes[outcome])
        known = sum(bool(verdict.known) for verdict in mine)
        terminal.line(f"{backend}: {counts}" + (f" ({known} known, see the baseline)" if known else ""))
        judged_by = run.settings.profile or declared.get(backend, "")
        for label, text in _details(mine, judged_by):
            terminal.line(f"  {label}: {text}")
    for verdict in verdicts.all():
        if verdict.judgement:
            terminal.line(f"baseline: {verdict.case}: {verdict.judgement}")
    for line in run.baseline_problems:
        terminal.line(f"baseline: {line}")
    for note in run.notes:
        terminal.line(f"note: {note}")
    if run.settings.report:
        terminal.line(f"evidence, stacks and versions: {run.settings.report}")


def _details(mine: list[Verdict], judged_by: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    broken = Counter(clause for verdict in mine if verdict.fails for clause in verdict.clauses)
    if broken:
        rows.append(("clauses of failed cases", _counted(broken)))
    striking = [verdict for verdict in mine if verdict.outcome in _STRIKING and verdict.fails]
    rows += [(one.outcome.value, f"{one.case}: {_first_line(one.message)}") for one in striking[:_SHOWN]]
    if len(striking) > _SHOWN:
        rows.append(("and", f"{len(striking) - _SHOWN} more that hung, crashed, lost the device or went wrong"))
    unsupported = Counter(_reason(verdict.message) for verdict in mine if verdict.outcome is Outcome.UNSUPPORTED)
    by_number = sorted(unsupported.items(), key=lambda one: (-one[1], one[0]))
    rows += [(f"unsupported ({number})", reason) for reason, number in by_number[:_SHOWN]]
    if rest := by_number[_SHOWN:]:
        rows.append((f"unsupported ({sum(number for _, number in rest)})", f"for {len(rest)} more reasons"))
    rows += _answers(mine, judged_by)
    rows += [
        ("quality clause broken", f"{entry['clause']}: {entry['figure']} ({verdict.case})")
        for verdict in mine
        for entry in verdict.quality
        if not entry["kept"]
    ]
    return rows


_STRIKING = (Outcome.HANG, Outcome.CRASH, Outcome.DEVICE_LOST, Outcome.ERROR)


def _answers(mine: list[Verdict], judged_by: str) -> list[tuple[str, str]]:
    """Say how the variation points were answered, where that is not as the profile has it, and who is nearest."""
    seen: dict[str, set[str]] = {}
    for verdict in mine:
        for point, answer in verdict.variations.items():
            seen.setdefault(point, set()).add(answer)
    if not seen:
        return []
    rows: list[tuple[str, str]] = []
    if judged_by in PROFILES:
        for point, answers in sorted(seen.items()):
            permitted = PROFILES[judged_by].answer(point).permitted if point in VARIATION_POINTS else ()
            if other := sorted(answers.difference(permitted)):
                expected = " or ".join(permitted) or "nothing"
                rows.append((f"variation {point}", f"{', '.join(other)}; profile {judged_by} says {expected}"))
    nearest = nearest_profile(seen, judged_by or "strict")
    if nearest is not None:
        rows.append(("answers", f"nearest profile {nearest['profile']}, {nearest['agree']} of {nearest['of']}"))
    return rows


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({number})" if number > 1 else name for name, number in sorted(counter.items()))


def _first_line(text: str) -> str:
    line = next(iter(text.splitlines()), "")
    return line if len(line) <= 160 else line[:157] + "…"


def _reason(message: str) -> str:
    text = message.removeprefix("Skipped: ").removeprefix("unsupported: ")
    return text.partition(" (")[0] if text.startswith("capability") else text
