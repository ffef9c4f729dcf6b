"""Reports of ``--hal-report`` as a Markdown page: what was tested, how it came out, and every deviation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .contract import CLAUSES

_BAD = ("fail", "hang", "crash")


def results_page(paths: Iterable[Path]) -> str:
    """Return one page about several reports."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    lines = ["# Results", "", "Written by `python -m pytest_cuda2hal table`; not edited by hand.", ""]
    for report in reports:
        lines += _report(report)
    return "\n".join(lines).rstrip() + "\n"


def _report(report: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    suite = f"suite {report['suite']}, contract {report['contract']}, effort {report['effort']}"
    machine = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
    for backend in report["backends"]:
        spec = backend["spec"]
        versions = ", ".join(f"{name} {version}" for name, version in backend["versions"].items())
        counts = ", ".join(f"{number} {name}" for name, number in report["counts"][spec].items() if number)
        lines += [
            f"## `{spec}`",
            "",
            f"{backend['device']} ({versions}); profile {backend['profile']}; {backend['queues']} queues  ",
            f"{suite}; {report['date']}; {machine}",
            "",
            f"**{counts}**",
            "",
        ]
        mine = [case for case in report["cases"] if case["backend"] == spec]
        bad = [case for case in mine if case["outcome"] in _BAD]
        if bad:
            lines += ["| case | clauses | outcome | seen |", "|---|---|---|---|"]
            lines += [
                f"| `{case['case']}` | {', '.join(case['clauses'])} | {case['outcome']} | {_cell(case['message'])} |"
                for case in bad
            ]
            lines.append("")
            broken = sorted({name for case in bad for name in case["clauses"]}, key=list(CLAUSES).index)
            lines += ["Clauses of these cases:", ""]
            lines += [f"- **{name}** {CLAUSES[name].text}" for name in broken]
            lines.append("")
        reasons: dict[str, int] = {}
        for case in mine:
            if case["outcome"] == "unsupported":
                reason = case["message"].removeprefix("unsupported: ").partition(" (")[0]
                reasons[reason] = reasons.get(reason, 0) + 1
        if reasons:
            lines += ["| not judged because | cases |", "|---|---|"]
            lines += [f"| {_cell(reason)} | {number} |" for reason, number in sorted(reasons.items())]
            lines.append("")
        answers = sorted({(point, answer) for case in mine for point, answer in case["variations"].items()})
        if answers:
            lines += ["| variation point | answer seen |", "|---|---|"]
            lines += [f"| {point} | {answer} |" for point, answer in answers]
            lines.append("")
        figures = [(case["case"], entry) for case in mine for entry in case["quality"]]
        if figures:
            lines += ["| quality clause | kept | figure | case |", "|---|---|---|---|"]
            lines += [
                f"| {entry['clause']} | {'yes' if entry['kept'] else 'no'} | {_cell(entry['figure'])} | `{name}` |"
                for name, entry in figures
            ]
            lines.append("")
    return lines


def _cell(text: str) -> str:
    shown = " ".join(line.strip() for line in text.splitlines()[:4])
    return (shown[:297] + " …" if len(shown) > 300 else shown).replace("|", "\\|")
