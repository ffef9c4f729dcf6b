"""The zoo's defects that show seldom: the suite runs several times against each, and has to catch it every time."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pytest_cuda2hal.backends.faulty import Defect
from pytest_cuda2hal.repeat import code_digest

#: How many of the cases that caught a defect its row names.
SHOWN = 3


def run_rare(defects: Sequence[Defect], first_kill: Callable[..., dict[str, Any]], options: argparse.Namespace) -> int:
    """Make the runs that are not in the output, of the very same code; return 0 if each of all caught its defect.

    :param first_kill: runs the suite against a defect, at an effort and with a seed, up to the first case that fails.
    :param options: of tools/zoo.py.
    """
    output: Path | None = options.output
    runs, effort = options.runs, options.effort or "full"
    document: dict[str, Any] = {"code": code_digest(), "effort": effort, "results": {}}
    if output is not None and output.with_suffix(".json").exists():
        before = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
        if (before["code"], before["effort"]) == (document["code"], effort):
            document = before
        else:
            print("what was run before is of other code: all runs are made anew", flush=True)
    results: dict[str, dict[str, Any]] = document["results"]
    end, lock = time.monotonic() + options.budget, threading.Lock()
    # All defects with one seed before the next, so that what the budget cuts off is the last of each.
    planned = [(defect, seed) for seed in range(1, runs + 1) for defect in defects]

    def make(one: tuple[Defect, int]) -> None:
        defect, seed = one
        if str(seed) in results.get(defect.name, {}) or time.monotonic() > end:
            return
        result = first_kill(defect, effort=effort, seed=seed)
        kept = {"seconds": result["seconds"], "ending": result["ending"], "kills": result["kills"][:1]}
        print(f"{defect.name} #{seed}: {_by(kept)}, {kept['seconds']:.1f} s", flush=True)
        with lock:
            results.setdefault(defect.name, {})[str(seed)] = kept
            if output is not None:
                output.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(make, planned))
    text = rare_page(document, defects, runs)
    if output is not None:
        output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return int(any(len(_caught(results.get(defect.name, {}))) < runs for defect in defects))


def rare_page(document: dict[str, Any], defects: Sequence[Defect], runs: int) -> str:
    """Return the page: each defect, in how many runs it was caught, and by what."""
    results: dict[str, dict[str, Any]] = document["results"]
    made = sum(len(results.get(defect.name, {})) for defect in defects)
    caught = sum(len(_caught(results.get(defect.name, {}))) for defect in defects)
    chances = ", ".join(f"1 time in {number:,}" for number in sorted({defect.one_in for defect in defects}))
    effort, planned = document["effort"], len(defects) * runs
    missing = f" {planned - made} of {planned} were not made." if made < planned else ""
    lines = [
        f"# The zoo: defects that show {chances}",
        "",
        "Written by `python tools/zoo.py --rare`; not edited by hand.",
        "",
        f"**Caught in {caught} of {made} runs** at {effort} effort.{missing} Each had a seed of its own; it began with",
        "the cases of the clauses that the defect breaks, and ended with the first case that failed.",
        "",
        "| defect | runs | caught | first caught by | seconds, least to most |",
        "|---|---|---|---|---|",
    ]
    for defect in defects:
        mine = results.get(defect.name, {})
        cases = Counter(one["kills"][0]["case"] for one in _caught(mine))
        shown = ", ".join(f"`{case}` ({count})" for case, count in cases.most_common(SHOWN)) or "–"
        more = f", {len(cases) - SHOWN} others" if len(cases) > SHOWN else ""
        seconds = [one["seconds"] for one in mine.values()]
        took = f"{min(seconds):.0f} to {max(seconds):.0f}" if seconds else "–"
        lines.append(f"| `{defect.name}` | {len(mine)} | {len(_caught(mine))} | {shown}{more} | {took} |")
    return "\n".join(lines) + "\n"


def _caught(runs: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in runs.values() if one["kills"]]


def _by(result: dict[str, Any]) -> str:
    return str(result["kills"][0]["case"]) if result["kills"] else f"NOBODY ({result['ending']})"
