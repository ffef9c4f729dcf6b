"""``python -m pytest_cuda2hal``: run every backend, one many times, probe one; print and merge results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    chosen = _parser().parse_args(arguments)
    commands = {
        "matrix": _matrix,
        "table": _table,
        "repeat": _repeat,
        "probe": _probe,
        "merge": _merge,
        "schema": _schema,
    }
    return commands[chosen.command](chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytest_cuda2hal", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    matrix = commands.add_parser("matrix", help="run the suite on every backend that this machine can run")
    matrix.add_argument("--backend", action="append", metavar="SPEC", help="only these (repeatable, comma lists)")
    matrix.add_argument("--effort", choices=["quick", "full", "soak"], default="full")
    matrix.add_argument("--timeout", type=float, default=900.0, metavar="SECONDS", help="for each (default: 900)")
    matrix.add_argument("--output", type=Path, metavar="DIR", help="keep reports and logs here")

    table = commands.add_parser("table", help="print reports of --hal-report as a Markdown page")
    table.add_argument("reports", nargs="+", type=Path, metavar="REPORT.json")
    table.add_argument("--output", type=Path, metavar="FILE", help="write there instead of printing")

    repeat = commands.add_parser("repeat", help="run the suite many times, and write one page about all the runs")
    repeat.add_argument("--backend", action="append", required=True, metavar="SPEC", help="{n} in it: the run's number")
    repeat.add_argument("--quick", type=int, default=10, metavar="N", help="runs at quick effort (default: 10)")
    repeat.add_argument("--full", type=int, default=0, metavar="N", help="runs at full effort (default: 0)")
    repeat.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    repeat.add_argument("--budget", type=float, default=86400.0, metavar="SECONDS", help="begin no run after this")
    repeat.add_argument("--output", type=Path, required=True, metavar="PATH", help="write PATH.json and PATH.md")
    repeat.add_argument("--resume", action="store_true", help="keep the whole runs that PATH.json has of the same code")
    repeat.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="for pytest, as --hal-deadline=5")

    probe = commands.add_parser("probe", help="open one backend in this process and say what it is")
    probe.add_argument("spec", metavar="SPEC")

    merge = commands.add_parser("merge", help="put the reports of all shards of a run together, and judge the whole")
    merge.add_argument("shards", nargs="+", type=Path, metavar="SHARD.json")
    merge.add_argument("--output", type=Path, required=True, metavar="WHOLE.json", help="write the whole report there")

    commands.add_parser("schema", help="print the JSON Schema of the file that --hal-report writes")
    return parser


def _matrix(chosen: argparse.Namespace) -> int:
    from .matrix import run_matrix

    return run_matrix(chosen.backend, chosen.effort, chosen.timeout, chosen.output)


def _repeat(chosen: argparse.Namespace) -> int:
    from .repeat import run_repeat

    counts = (chosen.quick, chosen.full, chosen.jobs)
    return run_repeat(chosen.backend, *counts, chosen.budget, chosen.output, chosen.arguments, resume=chosen.resume)


def _table(chosen: argparse.Namespace) -> int:
    from .tables import results_page

    try:
        page = results_page(chosen.reports)
    except (OSError, ValueError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 4
    if chosen.output:
        chosen.output.write_text(page, encoding="utf-8")
    else:
        print(page, end="")
    return 0


def _merge(chosen: argparse.Namespace) -> int:
    from .merge import run_merge

    return run_merge(chosen.shards, chosen.output)


def _schema(_: argparse.Namespace) -> int:
    from .schema import schema_text

    print(schema_text(), end="")
    return 0


def _probe(chosen: argparse.Namespace) -> int:
    from .probe import probe_in_process
    from .registry import Registry, SpecError, parse_spec

    try:
        answer = probe_in_process(Registry().resolve(parse_spec(chosen.spec)))
    except SpecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 4
    print("\n".join(answer.lines()) if answer.available else f"ERROR: {answer.problem}")
    return 0 if answer.available else 4


if __name__ == "__main__":
    sys.exit(main())
