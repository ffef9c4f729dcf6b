"""Run the suite many times on some backends, and write one page about all the runs: is it right every time?

A spec may contain ``{n}``, the number of the run, as in ``cuda-sim:seed={n}``. A run counts only if every case passed,
none was skipped, and there were as many cases as ``reference`` has.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import __version__
from .contract import CONTRACT_VERSION
from .matrix import end_session
from .registry import Registry, SpecError, parse_spec

#: Seconds after which a run is given up.
RUN_LIMIT = 300.0
SUITE = ("-P", "-m", "pytest", "--pyargs", "pytest_cuda2hal.cts", "-q", "-p", "no:cacheprovider", "--tb=short")


@dataclass(slots=True)
class Run:
    """One run of the suite on one backend."""

    spec: str
    effort: str
    number: int
    status: int | None = None
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    #: What the backend said about itself: device, versions and so on.
    backend: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def is_whole(self, cases: int) -> bool:
        """Whether every case passed, and there were as many as there are."""
        return self.status == 0 and self.counts == {"pass": cases}


def run_repeat(
    specs: Sequence[str],
    quick: int,
    full: int,
    jobs: int,
    budget: float,
    output: Path,
    arguments: Sequence[str] = (),
    *,
    resume: bool = False,
) -> int:
    """Make the runs and write ``output``.json and .md; return 0 if all were made and are whole, 4 for a bad spec.

    :param budget: seconds after which no run is begun.
    :param resume: keep the whole runs that ``output``.json has of the very same code, and make the others.
    """
    # Replaced, not formatted: other braces are the spec's own business.
    planned = [Run(spec.replace("{n}", str(n)), effort, n) for spec in specs for effort, n in _efforts(quick, full)]
    try:
        for run in planned:
            Registry().resolve(parse_spec(run.spec))
    except SpecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 4
    # The long ones first, and the backends in turn, so that what the budget cuts off is the last of each.
    planned.sort(key=lambda run: (run.effort != "full", run.number))
    cases, code = count_cases(), code_digest()
    if resume:
        try:
            planned += _recall(planned, output.with_suffix(".json"), code, arguments)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            path = output.with_suffix(".json")
            print(f"ERROR: {path} cannot be resumed, it has no runs ({error!r}); remove it", file=sys.stderr)
            return 4
    end = time.monotonic() + budget
    lock = threading.Lock()

    def make(run: Run) -> None:
        if run.status is not None or time.monotonic() >= end:
            return
        _make(run, arguments)
        print(f"{run.spec} {run.effort} #{run.number}: {_outcome(run, cases)}", flush=True)
        with lock:
            keep()

    def keep() -> None:
        document = _document(planned, cases, jobs, code, arguments)
        output.parent.mkdir(parents=True, exist_ok=True)
        beside = output.with_suffix(".new")  # so that the file is whole at any moment
        beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        beside.replace(output.with_suffix(".json"))
        output.with_suffix(".md").write_text(runs_page(document, output.name), encoding="utf-8")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(make, planned))
    keep()
    return int(not all(run.is_whole(cases) for run in planned))


def code_digest() -> str:
    """Return what tells one state of the installed package, its backends and the suite from another."""
    digest = hashlib.sha256()
    for package in ("pytest_cuda2hal", "pytest_cuda2hal.backends", "pytest_cuda2hal.cts"):
        for folder in map(Path, importlib.import_module(package).__path__):
            for path in sorted(folder.rglob("*.py")):
                digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _recall(planned: Iterable[Run], path: Path, code: str, arguments: Sequence[str]) -> list[Run]:
    """Fill in the runs that were made before, whole, and of the same code with the same arguments.

    Return those of them that are not planned.
    """
    if not path.exists():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    if (document.get("code"), document.get("arguments"), document["machine"]) != (code, list(arguments), _machine()):
        print(f"{path} is of other code or arguments, or another machine: all runs are made anew", flush=True)
        return []
    known = {(run["spec"], run["effort"], run["number"]): run for run in document["runs"] if run.pop("whole")}
    for run in planned:
        for name, value in known.pop((run.spec, run.effort, run.number), {}).items():
            setattr(run, name, value)
    return [Run(**rest) for rest in known.values()]


def _efforts(quick: int, full: int) -> Iterable[tuple[str, int]]:
    yield from (("full", n) for n in range(1, full + 1))
    yield from (("quick", n) for n in range(1, quick + 1))


def count_cases() -> int:
    """Return how many cases the suite has on ``reference``."""
    with tempfile.TemporaryDirectory() as empty:
        command = [sys.executable, *SUITE, "--collect-only", "--backend=reference", "-c", _ini(empty)]
        listed = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False, timeout=120)
    return sum("::" in line for line in listed.stdout.splitlines())


def _ini(folder: str) -> str:
    path = Path(folder, "pytest.ini")
    path.write_text("[pytest]\n", encoding="utf-8")
    return str(path)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONSAFEPATH": "1"}


def _make(run: Run, arguments: Sequence[str]) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as empty:
        report = Path(empty, "report.json")
        command = [sys.executable, *SUITE, f"--backend={run.spec}", f"--effort={run.effort}", f"--hal-report={report}"]
        process = subprocess.Popen(
            [*command, "-c", _ini(empty), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        try:
            run.status = process.wait(RUN_LIMIT)
        except subprocess.TimeoutExpired:
            run.failed = [f"not done after {RUN_LIMIT:g} s"]
        finally:
            end_session(process)
        run.seconds = round(time.monotonic() - began, 1)
        if report.exists():
            read = json.loads(report.read_text(encoding="utf-8"))
            run.counts = {outcome: count for outcome, count in read["counts"][run.spec].items() if count}
            run.backend = read["backends"][0]
            bad = [case for case in read["cases"] if case["outcome"] != "pass"]
            run.failed += [f"{case['case']}: {case['outcome']}: {case['message'][:200]}" for case in bad]


def _outcome(run: Run, cases: int) -> str:
    if run.status is None and not run.failed:
        return "not run"
    if run.is_whole(cases):
        return f"{cases} pass in {run.seconds:.1f} s"
    counts = ", ".join(f"{count} {outcome}" for outcome, count in run.counts.items()) or "no report"
    return f"{counts}, status {run.status}, in {run.seconds:.1f} s: {'; '.join(run.failed[:3])}"


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _document(runs: Sequence[Run], cases: int, jobs: int, code: str, arguments: Sequence[str]) -> dict[str, Any]:
    return {
        "suite": __version__,
        "contract": CONTRACT_VERSION,
        "code": code,
        "arguments": list(arguments),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "jobs": jobs,
        "cases": cases,
        "runs": [{**dataclasses.asdict(run), "whole": run.is_whole(cases)} for run in runs],
    }


def runs_page(document: dict[str, Any], name: str) -> str:
    """Return the page about the runs of a document that :func:`run_repeat` wrote; ``name`` stands in its title."""
    machine = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
    runs: list[dict[str, Any]] = document["runs"]
    whole = sum(run["whole"] for run in runs)
    made = [run for run in runs if run["status"] is not None or run["failed"]]
    unmade = f" {len(runs) - len(made)} more were asked for and not made." if len(made) < len(runs) else ""
    lines = [f"# Runs: {name}", "", "Written by `python -m pytest_cuda2hal repeat`; not edited by hand.", ""]
    lines += [
        f"Suite {document['suite']}, contract {document['contract']}; {document['date']}.",
        f"{machine}; {document['jobs']} at a time.",
        "",
        f"**{whole} of {len(made)} runs are whole:** each of the {document['cases']} cases of `reference` passed."
        + unmade,
        "",
        "| backend | effort | runs | whole | seconds, least to most | device |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in made:
        spec = re.sub(rf"\bseed={run['number']}\b", "seed=N", run["spec"])
        groups.setdefault((spec, run["effort"]), []).append(run)
    for (spec, effort), group in groups.items():
        taken = sorted(run["seconds"] for run in group if run["status"] is not None) or [0.0]
        backend: dict[str, Any] = next((run["backend"] for run in group if run["backend"]), {})
        versions = ", ".join(f"{name} {version}" for name, version in backend.get("versions", {}).items())
        device = f"{backend.get('device', 'not run')} ({versions})" if backend else "not run"
        lines.append(
            f"| `{spec}` | {effort} | {len(group)} | {sum(run['whole'] for run in group)} | "
            f"{taken[0]:.0f} to {taken[-1]:.0f} | {device} |"
        )
    lines.append("")
    for run in made:
        if not run["whole"]:
            counts = ", ".join(f"{count} {outcome}" for outcome, count in run["counts"].items()) or "no report"
            what = "; ".join(run["failed"][:5]) or f"{counts}, status {run['status']}"
            lines.append(f"- `{run['spec']}` {run['effort']} #{run['number']}: {what}")
    return "\n".join(lines).rstrip() + "\n"
