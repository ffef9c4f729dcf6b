"""What the mutation run found, as a file of data and a page."""

from __future__ import annotations

import functools
import hashlib
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
#: What tests of the backend's own say of a mutant that the suite cannot catch.
CAUGHT, PASSED = "caught", "passed"


#: An entry of the list of reasons.
Reason = dict[str, Any]


def read_equivalents(path: Path) -> list[Reason]:
    """Return the mutants that change nothing which the contract speaks of, each with the reason.

    :raises SystemExit: an entry lacks something, or names tests that are not there.
    """
    entries: list[Reason] = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    for entry in entries:
        if unknown := set(entry) - {"module", "where", "before", "after", "changes", "tests", "why"}:
            raise SystemExit(f"ERROR: {path.name}: an entry of {entry.get('module')} has {', '.join(sorted(unknown))}")
        if missing := {"module", "why", *(() if "changes" in entry else ("before", "after"))} - set(entry):
            raise SystemExit(
                f"ERROR: {path.name}: an entry of {entry.get('module')} has no {', '.join(sorted(missing))}"
            )
        if "changes" in entry and not all(_is_change(one) for one in entry["changes"] or [None]):
            raise SystemExit(
                f"ERROR: {path.name}: changes are lists of two texts and perhaps a number, in '{entry['why']}'"
            )
        if not (path.parent.parent / str(entry.get("tests", ""))).exists():
            raise SystemExit(f"ERROR: {path.name}: an entry names {entry['tests']}, which is not there")
    return entries


def _is_change(one: Any) -> bool:
    kinds = [type(part) for part in one] if isinstance(one, list) else []
    return kinds in ([str, str], [str, str, int])


def summarize(
    output: Path,
    results: list[dict[str, Any]],
    equivalents: list[Reason],
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
    by_tests = sum(any(said_by(tests, one) == CAUGHT for tests in one.get("tests", {})) for one in excused)
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
        f"{len(excused)} survived and are equivalent, or change what no contract speaks of: {by_tests} of these",
        f"are caught by the project's own tests. {len(open_ones)} survived and are not.",
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


def reason_of(result: dict[str, Any], equivalents: list[Reason]) -> str:
    """Return why nobody can tell a survivor from the original; nothing if no entry speaks of it.

    An entry that leaves a mutant to tests of the backend's own counts only where these have caught it.
    """
    for entry in _entries_of(result, equivalents):
        tests = entry.get("tests")
        if not tests or said_by(tests, result) == CAUGHT:
            return f"{entry['why']}{f' `{tests}` fails with it.' if tests else ''}"
    return ""


def tests_of(result: dict[str, Any], equivalents: list[Reason]) -> list[str]:
    """Return the tests of the backend's own that a survivor is left to, and that were not asked yet."""
    named = [str(entry["tests"]) for entry in _entries_of(result, equivalents) if "tests" in entry]
    return [tests for tests in dict.fromkeys(named) if not said_by(tests, result)]


def said_by(tests: str, result: dict[str, Any]) -> str:
    """Return what tests, as they are now, said of a mutant; nothing if they were not asked."""
    answer, digest = result.get("tests", {}).get(tests, ("", ""))
    return str(answer) if digest and digest == digest_of(tests) else ""


@functools.cache
def digest_of(tests: str) -> str:
    """Return what stands for the text of tests, a file or a folder; nothing where there are none any more."""
    path = Path(__file__).resolve().parent.parent / tests
    if not path.exists():
        return ""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def _entries_of(result: dict[str, Any], equivalents: list[Reason]) -> list[Reason]:
    return [entry for entry in equivalents if speaks_of(entry, result)]


def speaks_of(entry: Reason, result: dict[str, Any]) -> bool:
    """Tell whether an entry is about a mutant, whatever became of it."""
    if not all(_matches(entry.get(key, "…"), result[key]) for key in ("module", "where")):
        return False
    changes = entry.get("changes") or [(entry["before"], entry["after"])]
    return any(
        _matches(old, result["before"]) and _matches(new, result["after"]) and place in ([], [result.get("place")])
        for old, new, *place in changes
    )


def _matches(patterns: str | list[str], text: str) -> bool:
    """Tell whether a text is as in one of some patterns, in which ``…`` stands for anything."""
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), text, re.DOTALL) is not None
        for pattern in ([patterns] if isinstance(patterns, str) else patterns)
    )


def _told(result: dict[str, Any]) -> str:
    before, after = (_code(result[key]) for key in ("before", "after"))
    reached = " (no case comes there)" if result.get("unreached") else ""
    return f"- `{result['module']}:{result['line']}`: {before} → {after}{reached}"


def _code(text: str) -> str:
    return f"`{' ⏎ '.join(text.splitlines())}`" if text else "nothing"
