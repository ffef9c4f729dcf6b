"""Who tests the tests: run the suite against the backends that are wrong on purpose, and say who was caught by what.

    python tools/zoo.py                          # each deterministic defect until its first kill
    python tools/zoo.py --full --output docs/results/zoo
    python tools/zoo.py --rare=50 --runs=20 --output docs/results/zoo-rare

The first form begins with the cases that killed a defect last time (tests/zoo/first_kills*.json), then takes the cases
of its clauses, then the whole suite. ``--full`` runs the whole suite against every one and writes OUTPUT.json and
OUTPUT.md, the kill matrix; what is in OUTPUT.json already is not run again, so it can be stopped and resumed. Where the
suite has grown since, defects that were run before are run with the new cases alone.
``--rare=50`` takes the defects that show 1 time in 50, several times each, at full effort; it resumes likewise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from zoo_page import matrix_page
from zoo_rare import run_rare

from pytest_cuda2hal.backends.faulty import ZOO, Defect
from pytest_cuda2hal.identity import case_id

ROOT = Path(__file__).resolve().parent.parent
KILLS = ROOT / "tests" / "zoo"
#: Seconds for a wait of a zoo run, unless a defect needs longer; and, times this, for a case in a process of its own.
DEADLINE, CASE_DEADLINES = 1.5, 6
#: Seconds for a whole suite against one defect.
LIMIT = 900.0
CAUGHT = ("fail", "hang", "crash", "device lost", "variation")


def first_kills() -> dict[str, list[str]]:
    """Return the cases that killed each defect last time."""
    kills: dict[str, list[str]] = {}
    for path in sorted(KILLS.glob("first_kills*.json")):
        kills.update(json.loads(path.read_text(encoding="utf-8")))
    return kills


def spec_of(defect: Defect, seed: int | None = None) -> str:
    """Return what ``--backend`` calls a defect; the chances of one that shows seldom are drawn from the seed."""
    return f"faulty:{defect.name}" + ("" if seed is None else f":seed={seed}")


def target(case: str, spec: str) -> str:
    """Return what pytest calls a case of the suite on a backend."""
    module, _, name = case.partition("::")
    function, bracket, parameters = name.partition("[")
    inner = f"{spec}-{parameters}" if bracket else f"{spec}]"
    return f"pytest_cuda2hal.cts.{module.replace('/', '.')}::{function}[{inner}"


def cases_of_suite() -> list[str]:
    """Return the ids of all cases that there are now.

    :raises SystemExit: the suite cannot be collected.
    """
    found: list[str] = []

    class Collected:
        def pytest_collection_finish(self, session: pytest.Session) -> None:
            found.extend(case_id(item) for item in session.items)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
        ini = Path(folder, "pytest.ini")
        ini.write_text("[pytest]\n", encoding="utf-8")
        command = ["--pyargs", "pytest_cuda2hal.cts", "--collect-only", "-q", "-c", str(ini), "--backend=reference"]
        command += ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:xdist"]
        status = pytest.main(command, plugins=[Collected()])
    if status or not found:
        raise SystemExit(f"ERROR: the suite cannot be collected: {said.getvalue()[-1000:]}")
    return found


def run_suite(
    defect: Defect, targets: Sequence[str], *arguments: str, effort: str = "quick", seed: int | None = None
) -> dict[str, Any]:
    """Run cases against a defect; return its name, the cases that caught it, and how long that took."""
    began = time.monotonic()
    cases, ending = _run([defect], targets, arguments, effort, seed)
    return {
        "defect": defect.name,
        "seconds": round(time.monotonic() - began, 2),
        "ending": ending,
        "cases": sorted(case["case"] for case in cases),
        "kills": [_kill(case, defect) for case in cases if case["outcome"] in CAUGHT],
    }


def first_kills_of(defects: Sequence[Defect], known: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Run what killed each of some defects last time, all in one process; then those left, each by itself."""
    began = time.monotonic()
    targets = [target(case, spec_of(defect)) for defect in defects for case in known.get(defect.name, ())[:1]]
    cases, ending = _run(defects, targets, (), "quick") if targets else ([], "nothing is known")
    results = []
    for defect in defects:
        mine = [case for case in cases if case["backend"] == spec_of(defect) and case["outcome"] in CAUGHT]
        kills = [_kill(case, defect) for case in mine]
        result = {"defect": defect.name, "seconds": 0.0, "ending": ending, "cases": [], "kills": kills}
        results.append(result if kills else first_kill(defect, known.get(defect.name, ())))
    share = round((time.monotonic() - began) / len(defects), 2)
    return [{**result, "seconds": result["seconds"] or share} for result in results]


def batches(defects: Sequence[Defect], size: int = 12) -> list[list[Defect]]:
    """Group defects that can run in one process: alike in what they need of it."""
    groups: dict[tuple[bool, float], list[Defect]] = {}
    for defect in defects:
        groups.setdefault((defect.hangs, defect.deadline or 0.0), []).append(defect)
    return [group[at : at + size] for group in groups.values() for at in range(0, len(group), size)]


def _run(
    defects: Sequence[Defect],
    targets: Sequence[str],
    arguments: Sequence[str],
    effort: str,
    seed: int | None = None,
) -> tuple[list[dict[str, Any]], str]:
    """Run pytest in a process; return the cases of its result file, and how it ended."""
    deadline = max(DEADLINE, *(defect.deadline or 0.0 for defect in defects))
    with tempfile.TemporaryDirectory() as folder:
        report, ini = Path(folder, "report.json"), Path(folder, "pytest.ini")
        ini.write_text("[pytest]\n", encoding="utf-8")
        command = [
            *(sys.executable, "-P", "-m", "pytest", "--pyargs", *targets, "-q", "--tb=no", "-c", str(ini)),
            *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:hypothesispytest"),
            *(f"--effort={effort}", f"--hal-report={report}"),
            f"--backend={','.join(spec_of(defect, seed) for defect in defects)}",
            *(f"--hal-deadline={deadline}", "--hal-strict-quality"),
            *arguments,
        ]
        if any(defect.hangs for defect in defects):
            command += ["--isolate", f"--hal-case-deadline={deadline * CASE_DEADLINES}"]
        ending = "ended"
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONSAFEPATH": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
                check=False,
            )
            if done.returncode not in (0, 1):
                ending = f"exit code {done.returncode}: {done.stdout.decode(errors='replace').strip()[-300:]}"
        except subprocess.TimeoutExpired:
            ending = f"not done after {LIMIT:g} s"
        cases: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["cases"] if report.exists() else []
    errors = [case["case"] for case in cases if case["outcome"] == "error"]
    if errors:  # with -x it has ended the run, and nothing is known of what comes after it
        ending = f"{ending}; error of the case itself: {', '.join(errors[:3])}"
    return cases, ending


def _kill(case: dict[str, Any], defect: Defect) -> dict[str, Any]:
    return {
        "case": case["case"],
        "outcome": case["outcome"],
        "clauses": case["clauses"],
        "message": case["message"][:300],
        # A reader who does not know the defect must find the promise that it breaks.
        "names": sorted(clause for clause in defect.clauses if f"{clause}  " in case["evidence"]),
        "seconds": round(case["seconds"], 2),
    }


def first_kill(
    defect: Defect, known: Sequence[str] = (), effort: str = "quick", seed: int | None = None
) -> dict[str, Any]:
    """Run until the first kill: what killed it last time, the cases of its clauses, everything."""
    whole = ["pytest_cuda2hal.cts"]
    stages: list[tuple[list[str], list[str]]] = [(whole, [f"--hal-clause={','.join(defect.clauses)}"]), (whole, [])]
    if known:
        stages.insert(0, ([target(case, spec_of(defect)) for case in known], []))
    seconds = 0.0
    result: dict[str, Any] = {}
    for targets, arguments in stages:
        result = run_suite(defect, targets, "-x", *arguments, effort=effort, seed=seed)
        seconds += result["seconds"]
        if result["kills"]:
            break
    return {**result, "seconds": round(seconds, 2)}


def chosen(names: Sequence[str], rare: int | None) -> list[Defect]:
    """Return the defects to run: the named ones, those of a chance, or all that show every time."""
    if names:
        unknown = [name for name in names if name not in ZOO]
        if unknown:
            raise SystemExit(f"ERROR: no defect is called {unknown[0]}; known: {', '.join(sorted(ZOO))}")
        return [ZOO[name] for name in names]
    return [defect for name, defect in sorted(ZOO.items()) if defect.one_in == (rare or 1)]


def in_parallel(jobs: int, defects: Iterable[Defect], work: Any) -> list[dict[str, Any]]:
    """Do ``work`` with each defect, several at a time, and say each time what came of it."""

    def one(defect: Defect) -> dict[str, Any]:
        result: dict[str, Any] = work(defect)
        say(result)
        return result

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, defects))


def say(result: dict[str, Any]) -> None:
    """Print who caught a defect."""
    kills = result["kills"]
    by = f"{kills[0]['case']} ({kills[0]['outcome']})" if kills else f"NOBODY ({result['ending']})"
    more = f" and {len(kills) - 1} more" if len(kills) > 1 else ""
    print(f"{result['defect']}: {by}{more}, {result['seconds']:.1f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these defects")
    parser.add_argument("--full", action="store_true", help="the whole suite against every one: the kill matrix")
    parser.add_argument("--rare", type=int, metavar="N", help="the defects that show 1 time in N")
    parser.add_argument("--runs", type=int, default=20, help="how often for those (default: 20)")
    parser.add_argument("--effort", choices=["quick", "full", "soak"], help="default: quick; full with --rare")
    parser.add_argument("--jobs", type=int, default=max(2, os.cpu_count() or 2), help="how many at a time")
    parser.add_argument("--workers", type=int, metavar="N", help="with --full: deal out each suite over N processes")
    parser.add_argument("--output", type=Path, metavar="PATH", help="write PATH.json and PATH.md")
    parser.add_argument("--budget", type=float, default=86400.0, metavar="SECONDS", help="begin nothing after this")
    options = parser.parse_args()
    defects = chosen(options.names, options.rare)
    if options.rare:
        status: int = run_rare(defects, first_kill, options)
        return status
    if options.full:
        return full(defects, options)
    known = first_kills()
    results: list[dict[str, Any]] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for group in pool.map(lambda batch: first_kills_of(batch, known), batches(defects)):
            for result in group:
                say(result)
            results += group
    return score(results)


def score(results: Sequence[dict[str, Any]]) -> int:
    """Print how many were caught; 1 if any was not."""
    survivors = [result["defect"] for result in results if not result["kills"]]
    silent = [
        result["defect"] for result in results if result["kills"] and not any(k["names"] for k in result["kills"])
    ]
    print(f"\n{len(results) - len(survivors)} of {len(results)} defects caught")
    if survivors:
        print(f"survivors: {', '.join(survivors)}")
    if silent:
        print(f"caught without a clause of theirs being named: {', '.join(silent)}")
    return int(bool(survivors))


def forget_what_is_gone(document: dict[str, Any], now: Sequence[str]) -> None:
    """Take cases that are called otherwise now, or are no more, out of the results."""
    document["suite"] = [case for case in document["suite"] if case in now]
    for case in set(document["newer"]) - set(now):
        del document["newer"][case]
    for result in document["results"].values():
        result["kills"] = [kill for kill in result["kills"] if kill["case"] in now]


def full(defects: Sequence[Defect], options: argparse.Namespace) -> int:
    """Write the kill matrix, as far as the budget goes: defects that are missing, then cases that are newer than it."""
    output: Path = options.output or ROOT / "docs" / "results" / "zoo"
    path = output.with_suffix(".json")
    document: dict[str, Any] = {"results": {}, "suite": []}
    if path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
    results = document["results"]
    # With which defects the cases were tried that are newer than the first of the results.
    newer = document.setdefault("newer", {})
    if results:
        forget_what_is_gone(document, now := cases_of_suite())
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        newer |= {case: [] for case in now if case not in document["suite"]}
    base = set(document["suite"]) - set(newer)
    end = time.monotonic() + options.budget
    lock = threading.Lock()

    def keep(defect: Defect, result: dict[str, Any]) -> dict[str, Any]:
        with lock:
            document["suite"] = sorted({*document["suite"], *result["cases"]})
            for case in result.pop("cases"):
                if base and case not in base:
                    newer[case] = sorted({*newer.get(case, ()), defect.name})
            results[defect.name] = result
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return result

    def over(defect: Defect) -> dict[str, Any]:
        return {"defect": defect.name, "seconds": 0.0, "ending": "the time was over", "cases": [], "kills": []}

    def work(defect: Defect) -> dict[str, Any]:
        if time.monotonic() > end:
            return over(defect)
        spread = ["-n", str(options.workers)] if options.workers else []
        return keep(defect, run_suite(defect, ["pytest_cuda2hal.cts"], *spread, effort=options.effort or "quick"))

    def work_on(defect: Defect) -> dict[str, Any]:
        if time.monotonic() > end:
            return over(defect)
        cases = [case for case, tried in newer.items() if defect.name not in tried]
        more = run_suite(defect, [target(case, spec_of(defect)) for case in cases], effort=options.effort or "quick")
        before = results[defect.name]
        joined = {"kills": before["kills"] + more["kills"], "seconds": round(before["seconds"] + more["seconds"], 2)}
        return keep(defect, {**before, **joined, "cases": more["cases"]})

    in_parallel(options.jobs, [defect for defect in defects if defect.name not in results], work)
    behind = [one for one in defects if one.name in results and any(one.name not in tried for tried in newer.values())]
    in_parallel(options.jobs, behind, work_on)
    output.with_suffix(".md").write_text(matrix_page(document, defects), encoding="utf-8")
    return score([results[one.name] for one in defects if one.name in results])


if __name__ == "__main__":
    sys.exit(main())
