"""What timeline semaphores cost: on backends, and as the raw driver calls that they are made of.

    python benchmarks/timeline.py --backend=cuda --backend=iree:cuda --raw --output=docs/results/timeline

runs every subject in a process of its own, one after another on one machine, and writes OUTPUT.json and OUTPUT.md. Each
figure is the median of several repetitions, or a percentile over many single operations; the report says of how many.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from figures import markdown

HERE = Path(__file__).resolve().parent


def run_subject(arguments: list[str], limit: float) -> dict[str, Any]:
    """Measure one subject in a child process; what goes wrong, and where, is part of its result."""
    command = [sys.executable, str(HERE / "subject.py"), *arguments]
    error = ""
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit, check=False)
        output = run.stdout
        if run.returncode:
            error = f"ended with status {run.returncode}"
    except subprocess.TimeoutExpired as expired:
        # Of a child that was killed, the output is bytes whatever was asked for.
        output = (expired.stdout or b"").decode()
        error = f"not done after {limit:g} s"
    result: dict[str, Any] = dict(json.loads(line) for line in output.splitlines() if line.endswith("]"))
    if error:
        result["error"] = error
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append", default=[], metavar="SPEC", help="a backend to measure")
    parser.add_argument("--raw", action="store_true", help="measure the raw driver calls too")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    parser.add_argument("--output", metavar="PATH", type=Path, help="write PATH.json and PATH.md")
    parser.add_argument("--limit", type=float, default=400.0, metavar="SECONDS", help="for each subject (default: 400)")
    options = parser.parse_args()
    if not options.backend and not options.raw:
        parser.error("nothing to measure: give --backend=SPEC, --raw, or both")

    more = ["--quick"] if options.quick else []
    subjects = {spec: run_subject(["--backend", spec, *more], options.limit) for spec in options.backend}
    if options.raw:
        subjects["raw"] = run_subject(["--raw", *more], options.limit)
    report = {"machine": machine(), "subjects": subjects}
    text = markdown(report)
    print(text)
    if options.output:
        options.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".md").write_text(text, encoding="utf-8")
    return 0 if all("error" not in subject for subject in subjects.values()) else 1


def machine() -> dict[str, str]:
    """Say what the figures were taken on, without naming the host."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = f"{names[0]}, {len(names)} cores" if names else cpu
    return {"cpu": cpu, "system": platform.system(), "python": platform.python_version()}


if __name__ == "__main__":
    sys.exit(main())
