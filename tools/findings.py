"""Write docs/results/iree-findings.md from docs/results/findings.toml and the reports in docs/results/reports/.

What people found out is in the first; what was run, and what came of it, in the reports::

    python tools/findings.py
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_cuda2hal.baseline import glob_matches
from pytest_cuda2hal.contract import CLAUSES
from pytest_cuda2hal.isolation.reports import short_stacks
from pytest_cuda2hal.outcome import Outcome
from pytest_cuda2hal.report import ResultError, read_result

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
FINDINGS = RESULTS / "findings.toml"
PAGE = RESULTS / "iree-findings.md"

_DEVIATIONS = frozenset(outcome.value for outcome in Outcome if outcome.deviates)
#: Outcomes whose process, or device, has more to say than a message.
_STRIKING = frozenset({Outcome.HANG.value, Outcome.CRASH.value, Outcome.DEVICE_LOST.value})
#: How many cases of one finding and driver show their stacks, and how many lines of each kind are shown.
STACKS, LINES, MESSAGE_LINES, WIDTH = 1, 12, 3, 160
#: What a finding may have, and what each of its programs may have.
_KEYS = frozenset(
    {
        *("title", "clauses", "drivers", "what", "header", "cases", "message", "evidence"),
        *("unasked", "program", "without_program"),
    }
)
_PROGRAM_KEYS = frozenset({"file", "driver", "printed", "note"})


class FindingsError(ValueError):
    """The findings cannot be read, or do not go with the reports; the message is one line."""


@dataclass(frozen=True, slots=True)
class Tested:
    """One backend of one report."""

    spec: str
    backend: Mapping[str, Any]
    result: Mapping[str, Any]
    file: str
    #: Its cases that deviated.
    bad: tuple[Mapping[str, Any], ...]


def read_findings(path: Path) -> dict[str, Any]:
    """Read what people found out. Raises :class:`FindingsError`, and :class:`OSError`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FindingsError(f"{path} is not TOML: {error}") from None
    for number, finding in enumerate(document.get("finding", []), 1):
        where = f"{path}: finding {number} ({finding.get('title', 'without a title')})"
        lacking = sorted({"title", "clauses", "drivers", "what", "cases"} - set(finding))
        unknown = sorted(set(finding) - _KEYS)
        unknown += sorted({key for program in finding.get("program", []) for key in set(program) - _PROGRAM_KEYS})
        strangers = [name for name in finding.get("clauses", []) if name not in CLAUSES]
        for problem, names in (("lacks", lacking), ("has unknown", unknown), ("names unknown clauses", strangers)):
            if names:
                raise FindingsError(f"{where} {problem} {', '.join(names)}")
        for key in ("cases", "evidence"):
            if not isinstance(finding.get(key, []), list):
                raise FindingsError(f"{where}: {key} is a list of globs")
        if not finding["cases"] and not finding.get("unasked"):
            raise FindingsError(f"{where} has no cases; say in 'unasked' why there are none")
        for program in finding.get("program", []):
            if not (path.parent / "programs" / program["file"]).is_file():
                raise FindingsError(f"{where}: there is no program {program['file']} in {path.parent / 'programs'}")
    return document


def read_tested(reports: Iterable[Path]) -> list[Tested]:
    """Read the reports. Raises :class:`FindingsError` or :class:`~pytest_cuda2hal.report.ResultError`."""
    found: dict[str, Tested] = {}
    for path in reports:
        result = read_result(path)
        for backend in result["backends"]:
            spec = backend["spec"]
            if spec in found:
                raise FindingsError(f"{spec} is in {found[spec].file} and in {path.name}; give one report for each")
            bad = [case for case in result["cases"] if case["backend"] == spec and case["outcome"] in _DEVIATIONS]
            found[spec] = Tested(spec, backend, result, path.name, tuple(bad))
    return list(found.values())


def shows(finding: Mapping[str, Any], case: Mapping[str, Any]) -> bool:
    """Tell whether a case that deviated shows a finding."""
    if not any(glob_matches(glob, case["case"]) for glob in finding["cases"]):
        return False
    if not glob_matches(finding.get("message", "*"), case["message"]):
        return False
    return any(glob_matches(glob, case.get("evidence", "")) for glob in finding.get("evidence", ["*"]))


def findings_page(document: Mapping[str, Any], tested: Sequence[Tested]) -> tuple[str, list[str]]:
    """Return the page, and its warnings: what findings say of a driver and its report does not show."""
    findings: list[dict[str, Any]] = document.get("finding", [])
    warnings = [warning for finding in findings for warning in _warnings(finding, tested)]
    lines = [
        f"# {document['title']}",
        "",
        "Written by `python tools/findings.py` from `docs/results/findings.toml` and the reports; not edited by hand.",
        "",
        document["intro"].strip(),
        "",
        "## What was run",
        "",
        *_runs(tested),
        "## Summary",
        "",
        *_summary(findings, tested),
    ]
    lines += [line for warning in warnings for line in (f"**Warning:** {warning}.", "")]
    for finding in findings:
        lines += _section(finding, tested)
    lines += _unexplained(findings, tested)
    lines += ["## Not looked into", ""]
    for item in document.get("open", []):
        lines += [f"- {_indented(item['text'].strip(), '  ')}"]
    return "\n".join(lines).rstrip() + "\n", warnings


def _warnings(finding: Mapping[str, Any], tested: Sequence[Tested]) -> list[str]:
    by_spec = {one.spec: one for one in tested}
    found = []
    for spec in finding["drivers"]:
        if spec not in by_spec:
            found.append(f"“{finding['title']}” names `{spec}`, of which there is no report")
        elif finding["cases"] and not any(shows(finding, case) for case in by_spec[spec].bad):
            found.append(f"“{finding['title']}” names `{spec}`, and no case of its report shows it")
    return found


def _runs(tested: Sequence[Tested]) -> list[str]:
    rows = []
    for one in tested:
        versions = ", ".join(f"{name} {version}" for name, version in one.backend["versions"].items())
        machine = ", ".join(f"{name} {value}" for name, value in one.result["machine"].items() if value is not None)
        counts = ", ".join(f"{number} {name}" for name, number in one.result["counts"][one.spec].items() if number)
        run = f"suite {one.result['suite']}, contract {one.result['contract']}, effort {one.result['effort']}"
        cells = [f"`{one.spec}`", one.backend["device"], versions, machine, f"{run}, {one.result['date']}", counts]
        rows.append(" | ".join(_cell(cell) for cell in cells) + f" | `{one.file}`")
    return _table("driver | device | versions | machine | run | outcomes | report", rows)


def _summary(findings: Iterable[Mapping[str, Any]], tested: Sequence[Tested]) -> list[str]:
    rows = []
    for finding in findings:
        numbers = []
        for spec in finding["drivers"]:
            count = sum(shows(finding, case) for one in tested if one.spec == spec for case in one.bad)
            numbers.append(f"{_short(spec)} {count}" if finding["cases"] else f"{_short(spec)} not asked")
        files = dict.fromkeys(program["file"] for program in finding.get("program", []))
        programs = ", ".join(f"`{file}`" for file in files) or "the case"
        clauses = ", ".join(_clause(name) for name in finding["clauses"])
        rows.append(f"{clauses} | {_cell(finding['title'])} | {', '.join(numbers)} | {programs}")
    return _table("clause | finding | driver, and cases that show it | program", rows)


def _section(finding: Mapping[str, Any], tested: Sequence[Tested]) -> list[str]:
    lines = [f"## {finding['title']}", "", f"On {', '.join(f'`{spec}`' for spec in finding['drivers'])}."]
    lines += [finding["what"].strip()]
    if finding.get("header"):
        lines.append(f"IREE says: {finding['header'].strip()}")
    lines += ["", *(f"- **{_clause(name)}** {CLAUSES[name].text}" for name in finding["clauses"]), ""]
    if finding.get("unasked"):
        lines += [f"No case shows it. {finding['unasked'].strip()}", ""]
    for one in tested:
        shown = [case for case in one.bad if shows(finding, case)] if one.spec in finding["drivers"] else []
        if shown:
            lines += [f"Cases of `{one.spec}` that show it:", "", *_fenced(_evidence(shown, whole=True))]
    for program in finding.get("program", []):
        lines += _program(program)
    if finding.get("without_program"):
        lines += [finding["without_program"].strip(), ""]
    return lines


def _program(program: Mapping[str, Any]) -> list[str]:
    link = f"[{program['file']}](programs/{program['file']})"
    if not program.get("printed"):
        lines = [f"Program: {link}, with `{program['driver']}`.", ""]
    else:
        printed = program["printed"].strip("\n").splitlines()
        command = f"$ python {program['file']} {program['driver']}"
        lines = [f"Program: {link}.", "", *_fenced([command, *printed])]
    return [*lines, program["note"].strip(), ""] if program.get("note") else lines


def _evidence(cases: Sequence[Mapping[str, Any]], *, whole: bool) -> list[str]:
    """Return lines about cases; with ``whole`` the first of those that hung or crashed say all that is known."""
    lines: list[str] = []
    left = STACKS
    for case in cases:
        lines.append(f"{case['outcome']:<11} {case['case']}")
        message = [line for line in case["message"].splitlines() if line.strip()]
        lines += [f"    {_line(line)}" for line in message[:MESSAGE_LINES]]
        # Format 1 has no details.
        if whole and left and case["outcome"] in _STRIKING and case.get("details"):
            left -= 1
            lines += [f"    {line}" for line in _details(case["details"])]
    return lines


def _details(details: Mapping[str, Any]) -> list[str]:
    lines = [f"ending: {details['ending']}"] if details.get("ending") else []
    calls = [line for line in details.get("operations", []) if "has not returned" in line]
    lines += _block("calls in progress", calls)
    lines += _block("who waits for what", details.get("waits_in_words", []))
    lines += _block("Python stacks", short_stacks(details.get("python_stacks", "")).splitlines())
    return lines


def _block(title: str, found: Sequence[str]) -> list[str]:
    if not found:
        return []
    more = [f"  … {len(found) - LINES} more lines in the report"] if len(found) > LINES else []
    return [title, *(f"  {_line(line)}" for line in found[:LINES]), *more]


def _unexplained(findings: Sequence[Mapping[str, Any]], tested: Sequence[Tested]) -> list[str]:
    lines = ["## Not taken apart", ""]
    begin = len(lines)
    for one in tested:
        mine = [finding for finding in findings if one.spec in finding["drivers"]]
        rest = [case for case in one.bad if not any(shows(finding, case) for finding in mine)]
        if rest:
            said = f"`{one.spec}`: {len(rest)} of {len(one.bad)} cases that deviate are explained by no finding."
            lines += [said, "", *_fenced(_evidence(rest, whole=False))]
    if len(lines) == begin:
        lines += ["Every case that deviates is explained by a finding.", ""]
    return lines


def _table(heading: str, rows: Sequence[str]) -> list[str]:
    return [f"| {heading} |", "|" + "---|" * (heading.count("|") + 1), *(f"| {row} |" for row in rows), ""]


def _fenced(lines: Sequence[str]) -> list[str]:
    longest = max((len(run) for run in re.findall(r"^ *(`{3,})", "\n".join(lines), re.MULTILINE)), default=2)
    fence = "`" * (longest + 1)
    return [f"{fence}text", *lines, fence, ""]


def _clause(name: str) -> str:
    return f"[{name}](#clause-{name.lower()})"


def _short(spec: str) -> str:
    return spec.partition(":")[2] or spec


def _line(text: str) -> str:
    """Return a text without the folders of the machine where it was written, and not too long."""
    shown = re.sub(r"(?<![\w.])/(?:[^/\s\"':]+/)+", "…/", text.rstrip())
    return shown if len(shown) <= WIDTH else shown[: WIDTH - 2] + " …"


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _indented(text: str, by: str) -> str:
    return text.replace("\n", f"\n{by}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; return 1 with ``--strict`` where a finding is not shown, or with ``--check`` where it differs."""
    parser = argparse.ArgumentParser(prog="python tools/findings.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reports", nargs="*", type=Path, metavar="REPORT.json", help="default: reports/iree-*.json")
    parser.add_argument("--findings", type=Path, default=FINDINGS, metavar="FILE.toml")
    parser.add_argument("--output", type=Path, default=PAGE, metavar="PAGE.md")
    parser.add_argument("--strict", action="store_true", help="fail if a finding is shown by no case of a driver")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is another one")
    chosen = parser.parse_args(arguments)
    reports = chosen.reports or sorted((RESULTS / "reports").glob("iree-*.json"))
    try:
        page, warnings = findings_page(read_findings(chosen.findings), read_tested(reports))
        if chosen.check:
            same = chosen.output.read_text(encoding="utf-8") == page
        else:
            same = True
            chosen.output.write_text(page, encoding="utf-8")
    except (OSError, FindingsError, ResultError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 4
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not same:
        print(f"{chosen.output} is not what python tools/findings.py writes; run it", file=sys.stderr)
    return int(not same or (chosen.strict and bool(warnings)))


if __name__ == "__main__":
    sys.exit(main())
