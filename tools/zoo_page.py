"""The kill matrix as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_cuda2hal.backends.faulty import Defect

#: Cases that a cell of the table names; how many more there are is said.
SHOWN = 3


def matrix_page(document: dict[str, Any], defects: Sequence[Defect]) -> str:
    """Return the page: each defect with who caught it, then clause by clause, then the cases that catch alone."""
    results: dict[str, dict[str, Any]] = document["results"]
    ran = [defect for defect in defects if defect.name in results]
    missing = [f"`{defect.name}`" for defect in defects if defect.name not in results]
    caught = [defect for defect in ran if results[defect.name]["kills"]]
    lines = [
        "# The zoo: who catches what",
        "",
        "Written by `python tools/zoo.py --full`; not edited by hand.",
        "",
        f"**{len(caught)} of {len(ran)} defects are caught** by the suite at quick effort.",
        "",
        *([f"{len(missing)} were not run to the end: {', '.join(missing)}.", ""] if missing else []),
        "| defect | happened in | clauses | caught by | cases | quickest of them |",
        "|---|---|---|---|---|---|",
    ]
    for defect in ran:
        kills = results[defect.name]["kills"]
        names = ", ".join(f"`{kill['case']}`" for kill in kills[:SHOWN]) or f"nobody: {results[defect.name]['ending']}"
        quickest = f"{min(kill['seconds'] for kill in kills):.1f} s" if kills else "–"
        what = f"`{defect.name}`: {_cell(defect.summary)}"
        clauses = ", ".join(defect.clauses)
        lines.append(f"| {what} | {_cell(defect.happened)} | {clauses} | {names} | {len(kills)} | {quickest} |")
    lines += ["", "## By clause", "", "| clause | defects | cases that caught one |", "|---|---|---|"]
    for clause in sorted({clause for defect in ran for clause in defect.clauses}):
        mine = [defect for defect in ran if clause in defect.clauses]
        cases = {kill["case"] for one in mine for kill in results[one.name]["kills"] if clause in kill["clauses"]}
        lines.append(f"| {clause} | {', '.join(f'`{one.name}`' for one in mine)} | {len(cases)} |")
    by_case: dict[str, set[str]] = {}
    for defect in ran:
        for kill in results[defect.name]["kills"]:
            by_case.setdefault(kill["case"], set()).add(defect.name)
    alone = sorted(
        (case, name) for case, names in by_case.items() for name in names if len(results[name]["kills"]) == 1
    )
    lines += ["", "## Cases that alone catch a defect", "", "| case | defect |", "|---|---|"]
    lines += [f"| `{case}` | `{name}` |" for case, name in alone] or ["| – | – |"]
    needless = sorted(
        case
        for case, names in by_case.items()
        if any(names < others for other, others in by_case.items() if other != case)
    )
    idle = sorted(set(document.get("suite", ())) - set(by_case))
    lines += _listed(
        "Cases that catch nothing here that another one does not",
        "What each of these catches, some other case catches too, and more. That is no reason to drop one: the zoo has "
        "only so many animals.",
        needless,
    )
    lines += _listed("Cases that catch nothing here", "Nobody in the zoo does what they are about.", idle)
    return "\n".join(lines).rstrip() + "\n"


def _listed(title: str, text: str, cases: Sequence[str]) -> list[str]:
    return [
        "",
        f"## {title}",
        "",
        f"{len(cases)} cases. {text}",
        "",
        ", ".join(f"`{case}`" for case in cases) or "None.",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
