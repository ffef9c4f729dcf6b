"""Results of ``--hal-report`` as a Markdown page: what was tested, how it came out, and every deviation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .answers import answers_of
from .contract import CLAUSES
from .outcome import Outcome
from .report import read_result

_BAD = frozenset(outcome.value for outcome in Outcome if outcome.deviates)


def results_page(paths: Iterable[Path]) -> str:
    """Return one page about several results, of format 2 or 1.

    Raises :class:`~.report.ResultError` for a file that is no result or has an unknown format, and :class:`OSError`.
    """
    lines = ["# Results", "", "Written by `python -m pytest_cuda2hal table`; not edited by hand.", ""]
    for path in paths:
        result = read_result(path)
        for backend in result["backends"]:
            lines += _section(result, backend)
    return "\n".join(lines).rstrip() + "\n"


def _section(result: Mapping[str, Any], backend: Mapping[str, Any]) -> list[str]:
    spec = backend["spec"]
    versions = ", ".join(f"{name} {version}" for name, version in backend["versions"].items())
    counts = ", ".join(f"{number} {name}" for name, number in result["counts"][spec].items() if number)
    mine = [case for case in result["cases"] if case["backend"] == spec]
    answers = answers_of(mine, spec, backend["profile"])
    lines = [
        f"## `{spec}`",
        "",
        f"{backend['device']} ({versions}); profile {backend['profile']}; {backend['queues']} queues  ",
        _circumstances(result),
        "",
        f"**{counts}**",
        "",
    ]
    lines += _nearest(answers["nearest"], backend["profile"])
    lines += _deviations([case for case in mine if case["outcome"] in _BAD])
    baseline = result.get("baseline")
    if baseline and baseline["problems"]:
        lines += [f"The baseline `{baseline['file']}` does not fit:", ""]
        lines += [f"- {_cell(problem)}" for problem in baseline["problems"]]
        lines.append("")
    reasons: dict[str, int] = {}
    for case in mine:
        if case["outcome"] == Outcome.UNSUPPORTED.value:
            reason = case["message"].removeprefix("unsupported: ").partition(" (")[0]
            reasons[reason] = reasons.get(reason, 0) + 1
    lines += _table("not judged because | cases", [f"{_cell(text)} | {n}" for text, n in sorted(reasons.items())])
    seen = [(point, answer) for point, given in answers["seen"].items() for answer in given]
    lines += _table("variation point | answer seen", [f"{point} | {_cell(answer)}" for point, answer in seen])
    figures = [
        f"{entry['clause']} | {'yes' if entry['kept'] else 'no'} | {_cell(entry['figure'])} | {_code(case['case'])}"
        for case in mine
        for entry in case["quality"]
    ]
    return lines + _table("quality clause | kept | figure | case", figures)


def _circumstances(result: Mapping[str, Any]) -> str:
    texts = [f"suite {result['suite']}, contract {result['contract']}, effort {result['effort']}", result["date"]]
    if result.get("profile"):
        texts.append(f"judged by profile {result['profile']}")
    if result.get("shard"):
        texts.append(f"only shard {result['shard']['index']} of {result['shard']['count']}")
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items() if value is not None)
    return "; ".join([*texts, machine])


def _nearest(nearest: Mapping[str, Any] | None, declared: str) -> list[str]:
    if nearest is None:
        return []
    addition = "" if nearest["profile"] == declared else f", not the declared {declared}"
    permitted = f"it permits {nearest['agree']} of the {nearest['of']} answers seen"
    return [f"Nearest profile: {nearest['profile']}{addition}; {permitted}.", ""]


def _deviations(bad: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for case in bad:
        known = case.get("known", "")
        outcome = f"{case['outcome']}, known: {_cell(known)}" if known else case["outcome"]
        rows.append(f"{_code(case['case'])} | {', '.join(case['clauses'])} | {outcome} | {_cell(case['message'])}")
    lines = _table("case | clauses | outcome | seen", rows)
    # A result of another version of the contract may name clauses that are not known here.
    broken = {name for case in bad for name in case["clauses"]}
    texts = [f"- **{name}** {clause.text}" for name, clause in CLAUSES.items() if name in broken]
    return [*lines, "Clauses of these cases:", "", *texts, ""] if texts else lines


def _table(heading: str, rows: Sequence[str]) -> list[str]:
    if not rows:
        return []
    columns = heading.count("|") + 1
    return [f"| {heading} |", "|" + "---|" * columns, *(f"| {row} |" for row in rows), ""]


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _cell(text: str) -> str:
    shown = " ".join(line.strip() for line in text.splitlines()[:4])
    return (shown[:297] + " …" if len(shown) > 300 else shown).replace("|", "\\|")
