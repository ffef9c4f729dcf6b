"""Run the suite on every backend of a machine, each in a pytest process of its own, and print a table of verdicts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .outcome import Outcome
from .probe import Probe, probe
from .registry import Registry, SpecError, parse_spec, parse_specs

#: Outcomes that the table has a column for even if nothing came to them.
_ALWAYS = frozenset({Outcome.PASS, Outcome.FAIL, Outcome.HANG, Outcome.CRASH, Outcome.UNSUPPORTED})


@dataclass(slots=True)
class Row:
    """One backend of the table."""

    spec: str
    verdict: str
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""
    own: bool = False


def run_matrix(specs: list[str] | None, effort: str, timeout: float, output: Path | None) -> int:
    """Run the matrix and return 1 if one of this project's own backends failed, else 0; 4 for a bad spec."""
    try:
        wanted = [spec.text for spec in parse_specs(specs)] if specs else _every_backend()
        for text in wanted if specs else ():
            Registry().resolve(parse_spec(text))
    except SpecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 4
    if output is None:
        output = Path(tempfile.mkdtemp(prefix="pytest-cuda2hal-"))
    output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for text in wanted:
        answer = probe(parse_spec(text))
        if not answer.available:
            rows.append(Row(text, "unavailable", note=answer.problem, own=_is_own(text) and not answer.lacking))
            continue
        print("\n".join(answer.lines()), flush=True)
        row = _run(answer, effort, timeout, output.resolve())
        print(f"{text}: {row.verdict}, in {row.seconds:.1f} s")
        print("\n".join(f"  {count:>5} {name}" for name, count in row.counts.items() if count) or f"  {row.note}")
        print(flush=True)
        rows.append(row)
    _print_table(rows)
    print(f"reports and logs: {output}")
    return int(any(row.own and row.verdict != "conforms" for row in rows))


def _is_own(text: str) -> bool:
    """Tell whether a spec names one of this project's own backends, also when no device of it opens."""
    try:
        return Registry().resolve(parse_spec(text)).backend.own
    except SpecError:
        return False


def _every_backend() -> list[str]:
    """Return every registered backend and variant, this project's own first."""
    registry = Registry()
    own: list[str] = []
    others: list[str] = []
    for name in registry.names():
        try:
            backend = registry.backend(name)
        except SpecError:
            others.append(name)  # somebody's broken registration; the probe will say what is wrong with it
            continue
        if not backend.listed:
            continue
        texts = [f"{name}:{variant}" for variant in backend.variants] or [name]
        (own if backend.own else others).extend(texts)
    return own + others


def _command(answer: Probe, effort: str, report: Path) -> list[str]:
    command = [sys.executable, "-P", "-m", "pytest", "--pyargs", "pytest_cuda2hal.cts", "-q", "-p", "no:cacheprovider"]
    command += [f"--backend={answer.spec}", f"--effort={effort}", f"--hal-report={report}", "--tb=short"]
    return command


def _run(answer: Probe, effort: str, timeout: float, output: Path) -> Row:
    stem = re.sub(r"[^\w.]+", "-", answer.spec)
    report, log = output / f"{stem}.json", output / f"{stem}.log"
    report.unlink(missing_ok=True)
    row = Row(answer.spec, "", own=answer.own)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as empty, log.open("wb") as sink:
        # The configuration is empty and the folder the caller's, so that a backend beside it is found.
        ini = Path(empty, "pytest.ini")
        ini.write_text("[pytest]\n", encoding="utf-8")
        process = subprocess.Popen(
            [*_command(answer, effort, report), "-c", str(ini)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            row.note = f"ended after {timeout:g} s; see {log}"
        finally:
            end_session(process)
    row.seconds = time.monotonic() - began
    if report.exists():
        row.counts = json.loads(report.read_text(encoding="utf-8"))["counts"][answer.spec]
    else:
        row.note = row.note or f"pytest ended with status {process.returncode} and no report; see {log}"
    bad = sum(count for name, count in row.counts.items() if Outcome(name).deviates)
    whole = not row.note and process.returncode in (0, 1) and row.counts.get("pass", 0) > 0
    row.verdict = "conforms" if whole and not bad and process.returncode == 0 else "deviates" if whole else "incomplete"
    return row


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Make sure that nothing of the run is left, its xdist workers included."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _print_table(rows: Iterable[Row]) -> None:
    listed = list(rows)
    width = max(len(row.spec) for row in listed)
    columns = [name for name in Outcome if name in _ALWAYS or any(row.counts.get(name.value) for row in listed)]
    print(
        f"{'backend':<{width}}  {'verdict':<11}" + "".join(f"{name.value:>12}" for name in columns) + f"{'seconds':>10}"
    )
    for row in listed:
        cells = "".join(f"{row.counts.get(name.value, '-'):>12}" for name in columns)
        seconds = f"{row.seconds:.1f}" if row.seconds else "-"
        print(f"{row.spec:<{width}}  {row.verdict:<11}{cells}{seconds:>10}")
    for row in listed:
        if row.note:
            print(f"{row.spec}: {row.note}")
