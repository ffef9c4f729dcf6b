"""What it costs to run a backend's cases in a supervised process: the suite with it, without a journal, and without.

    python benchmarks/isolation.py --backend=iree:local-task --rounds=5 --output=docs/results/isolation -- -k EXPRESSION

runs the whole suite ROUNDS times each way, one run after another on a machine that does nothing else, and writes
OUTPUT.json and OUTPUT.md. What follows ``--`` goes to pytest; leave out with ``-k`` what would crash the process.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from timeline import machine

#: What a way of running is called, and its options.
WAYS = {
    "isolated": ["--isolate"],
    "isolated, no journal": ["--isolate", "--no-journal"],
    "not isolated": ["--no-isolate"],
}
#: What the others are compared with.
BARE = "not isolated"
#: How many cases the page lists, of those that isolation costs the most.
LISTED = 12


def run_once(backend: str, way: list[str], more: list[str], limit: float) -> dict[str, Any]:
    """Run the suite once; return its seconds from start to end, those spent in cases, and how many ended how."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "--pyargs", "pytest_cuda2hal.cts", "-p", "no:cacheprovider"]
        command += ["-q", "--tb=no", f"--backend={backend}", *way, "--hal-report=report.json", *more]
        begin = time.monotonic()
        run = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)
        seconds = time.monotonic() - begin
        try:
            report = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
        except OSError:
            raise SystemExit(f"{' '.join(command)}\nwrote no report:\n{run.stdout.decode()[-2000:]}") from None
    cases = report["cases"]
    return {
        "seconds": round(seconds, 2),
        "in_cases": round(sum(case["seconds"] for case in cases), 2),
        "cases": {case["case"]: round(case["seconds"], 4) for case in cases},
        "outcomes": dict(sorted(Counter(case["outcome"] for case in cases).items())),
        "versions": ", ".join(f"{name} {version}" for name, version in report["backends"][0]["versions"].items()),
    }


def markdown(report: dict[str, Any]) -> str:
    """Write the page."""
    about, rounds = report["machine"], report["rounds"]
    arguments = f", with `{shlex.join(report['arguments'])}`" if report["arguments"] else ""
    how = f"Taken on {about['cpu']}, {about['system']}, Python {about['python']}"
    lines = [
        f"# What isolation costs: `{report['backend']}`",
        "",
        "Written by `benchmarks/isolation.py`; not edited by hand.",
        "",
        f"{how}; {report['versions']}; whole runs of the suite, in turn{arguments}.",
        "",
        *(f"- **{way}: {_more_than_bare(rounds, way)}**" for way in WAYS if way != BARE),
        "",
        f"| round | {' | of which in cases | '.join(WAYS)} | of which in cases |",
        "|---" * (1 + 2 * len(WAYS)) + "|",
    ]
    for number, times in enumerate(rounds, 1):
        cells = [f"{times[way][key]:.1f} s" for way in WAYS for key in ("seconds", "in_cases")]
        lines.append(f"| {number} | {' | '.join(cells)} |")
    outcomes = {json.dumps(times[way]["outcomes"]) for times in rounds for way in WAYS}
    lines += ["", "Outcomes: " + "; ".join(sorted(outcomes)) + ".", ""]
    lines += ["Where most of it goes, in milliseconds for a case, the median of the rounds:", ""]
    lines += [f"| case | {' | '.join(WAYS)} |", "|---" * (1 + len(WAYS)) + "|"]
    for case, seconds in report["dearest"].items():
        lines.append(f"| `{case}` | {' | '.join(f'{1e3 * seconds[way]:.0f}' for way in WAYS)} |")
    return "\n".join([*lines, ""])


def dearest(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the seconds that cases take each way, in the median of the rounds, of those that isolation costs most."""
    first, *_ = ways = list(WAYS)
    everywhere = set.intersection(*(set(times[way]["cases"]) for times in rounds for way in ways))
    found = {
        case: {way: statistics.median(times[way]["cases"][case] for times in rounds) for way in ways}
        for case in sorted(everywhere)
    }
    return dict(sorted(found.items(), key=lambda one: one[1][BARE] - one[1][first])[:LISTED])


def _more_than_bare(rounds: list[dict[str, Any]], way: str) -> str:
    """Say by how much longer a way of running took than the bare one of the same round."""
    more = [100 * (times[way]["seconds"] / times[BARE]["seconds"] - 1) for times in rounds]
    return (
        f"{statistics.median(more):+.0f}% in the median of {len(more)} rounds, {min(more):+.0f}% to {max(more):+.0f}%"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", required=True, metavar="SPEC", help="a backend to measure")
    parser.add_argument("--rounds", type=int, default=5, help="runs each way (default: 5)")
    parser.add_argument("--output", metavar="PATH", type=Path, help="write PATH.json and PATH.md")
    parser.add_argument("--limit", type=float, default=600.0, metavar="SECONDS", help="for each run (default: 600)")
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is at least 1, not {options.rounds}")

    rounds = []
    for number in range(1, options.rounds + 1):
        # Each round begins with another one, so that a machine that slows down is not held against always the same.
        order = deque(WAYS)
        order.rotate(1 - number)
        times = {way: run_once(options.backend, WAYS[way], options.arguments, options.limit) for way in order}
        print(number, *(f"{way} {times[way]['seconds']} s" for way in WAYS), flush=True)
        rounds.append(times)
    most = dearest(rounds)
    for times in rounds:
        for run in times.values():
            del run["cases"]
    report = {
        "machine": machine(),
        "backend": options.backend,
        "versions": rounds[0][BARE]["versions"],
        "arguments": options.arguments,
        "dearest": most,
        "rounds": rounds,
    }
    text = markdown(report)
    print(text)
    if options.output:
        options.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
