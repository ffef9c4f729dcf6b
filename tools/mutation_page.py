"""What the mutation run found, as a file of data and a page."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

#: The outcome of a change that makes no other program, or none at all.
NO_MUTANT = "no mutant"
#: Outcomes that tell nothing: the suite neither came to an end nor caught anything.
UNDECIDED = ("not done",)
#: What caught it is the fault loop.
FAULT = "fault"


def read_equivalents(path: Path) -> list[dict[str, str]]:
    """Return the mutants that change nothing which the contract speaks of, each with the reason.

    :raises SystemExit: an entry lacks something.
    """
    entries: list[dict[str, str]] = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    for entry in entries:
        if missing := {"module", "before", "after", "why"} - set(entry):
            raise SystemExit(
                f"ERROR: {path.name}: an entry of {entry.get('module')} has no {', '.join(sorted(missing))}"
            )
    return entries


def summarize(
    output: Path,
    results: list[dict[str, Any]],
    equivalents: list[dict[str, str]],
    total: int,
    suites: dict[str, list[str]] | None = None,
) -> int:
    """Write OUTPUT.json and OUTPUT.md; return 1 if a survivor has no explanation.

    :param total: how many mutants there are, tried or not.
    :param suites: the cases of the suites that results name.
    """
    results = sorted(results, key=lambda result: (result["module"], result["line"], result["operator"], result["id"]))
    real = [result for result in results if result["outcome"] not in (NO_MUTANT, *UNDECIDED)]
    undecided = [result for result in results if result["outcome"] in UNDECIDED]
    survivors = [result for result in real if result["outcome"] == "survived"]
    why = {result["id"]: reason for result in survivors if (reason := reason_of(result, equivalents))}
    excused = [one for one in survivors if one["id"] in why]
    open_ones = [one for one in survivors if one["id"] not in why]
    document = {"mutants": total, "suites": suites or {}, "results": results}
    replace(output.with_suffix(".json"), json.dumps(document, indent=1) + "\n")
    by_faults = [result for result in real if result["outcome"] == FAULT]
    by_suite = len(real) - len(survivors) - len(by_faults)
    counted = len(real) - len(excused)
    share = 100 * (counted - len(open_ones)) / counted if counted else 0.0
    lines = [
        "# Mutants",
        "",
        "Written by `python tools/mutation.py`; not edited by hand.",
        "",
        "A mutant counts as tried as long as its function is as it was; all else, the suite too, may be newer.",
        "",
        f"{len(results)} of {total} mutants tried. The suite at quick effort caught {by_suite},",
        f"and {len(by_faults)} more where driver calls fail.",
        f"{len(excused)} survived and are equivalent, {len(open_ones)} survived and are not.",
        f"**{share:.1f}% of those that are not equivalent were caught.**",
        "",
        "| module | tried | caught | equivalent | survived |",
        "|---|---|---|---|---|",
    ]
    for module in sorted({result["module"] for result in real}):
        mine = [len([one for one in group if one["module"] == module]) for group in (real, excused, open_ones)]
        lines.append(f"| `{module}` | {mine[0]} | {mine[0] - mine[1] - mine[2]} | {mine[1]} | {mine[2]} |")
    how = Counter(result["outcome"] for result in real)
    lines += ["", "`no run`: the backend does not even open, and the suite says so."] if how["no run"] else []
    lines += ["", "`fault`: the fault loop caught it, the suite on a driver whose calls fail."] if by_faults else []
    lines += ["", "How they ended: " + ", ".join(f"{count} {outcome}" for outcome, count in how.most_common()) + "."]
    lines += ["", "## Survived", ""] + ([_told(one) for one in open_ones] or ["None."])
    lines += ["", "## Equivalent", ""]
    lines += [f"{_told(one)}\n  {why[one['id']]}" for one in excused] or ["None."]
    lines += ["", "## Undecided", "", *map(_told, undecided)] if undecided else []
    output.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(bool(open_ones or undecided))


def replace(path: Path, text: str) -> None:
    """Write a file that is whole at any moment: hours of work may be in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def reason_of(result: dict[str, Any], equivalents: list[dict[str, str]]) -> str:
    """Return why nobody can tell a survivor from the original; nothing if no entry speaks of it."""
    for entry in equivalents:
        if all(_matches(entry.get(key, "…"), result[key]) for key in ("module", "where", "before", "after")):
            return entry["why"]
    return ""


def _matches(pattern: str, text: str) -> bool:
    """Tell whether a text is as in a pattern, in which ``…`` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), text, re.DOTALL) is not None


def _told(result: dict[str, Any]) -> str:
    before, after = (_code(result[key]) for key in ("before", "after"))
    reached = " (no case comes there)" if result.get("unreached") else ""
    return f"- `{result['module']}:{result['line']}`: {before} → {after}{reached}"


def _code(text: str) -> str:
    return f"`{' ⏎ '.join(text.splitlines())}`" if text else "nothing"
