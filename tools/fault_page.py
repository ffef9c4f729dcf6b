"""What the fault loop tried and found, as a file of data and a page."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple


class Trial(NamedTuple):
    """One run of a case; it happened as written here, or is to."""

    case: str
    n: int
    error: str
    times: int

    def reproducer(self, backend: str) -> str:
        """Return the command that runs it again; ``n`` is 0 where no call failed."""
        fault = f" --n={self.n} --error={self.error} --times={self.times}" if self.n else " --trials=1"
        return f"python tools/fault_loop.py --select='{self.case}'{fault}" + (
            f" --backend={backend}" if backend else ""
        )


def trial_of(one: dict[str, Any]) -> Trial:
    """Return the trial that a line of the progress speaks of."""
    return Trial(*(one[name] for name in Trial._fields))


def read_progress(path: Path) -> list[dict[str, Any]]:
    """Return what was tried so far, each trial once, with its ``code``. A line that was cut short is tried again."""
    found: dict[Trial, dict[str, Any]] = {}
    code = ""
    for one in _lines(path):
        with suppress(KeyError, TypeError):
            if "code" in one:
                code = one["code"]
            else:
                found[trial_of(one)] = one | {"code": code}
    return list(found.values())


def code_tried_last(path: Path) -> str:
    """Return the code that the last trials were made with, as :func:`begin_progress` noted it."""
    return next((str(one["code"]) for one in reversed(_lines(path)) if "code" in one), "")


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError):
            one = json.loads(line)
            if isinstance(one, dict):
                found.append(one)
    return found


def begin_progress(path: Path, backend: str, *, keep_older: bool = False) -> str:
    """Note what is tried from here on; return what is to be said of the trials that were made of something else.

    The code is that of the CUDA backend, of the simulated driver, of what makes its calls fail, and of the loop.

    :param keep_older: those of earlier code stay, if they are of the same backend.
    """
    modules = [*Path(__file__).parent.glob("fault_*.py")]
    for package in ("pytest_cuda2hal.backends.cuda", "pytest_cuda2hal.backends.faulty"):
        for folder in map(Path, importlib.import_module(package).__path__):
            modules += folder.rglob("*.py")
    digest = hashlib.sha256(backend.encode())
    for module in sorted(modules, key=str):
        digest.update(module.name.encode() + module.read_bytes())
    now = {"code": digest.hexdigest()[:16], "backend": backend}
    before = [one for one in _lines(path) if "code" in one]
    is_other = path.exists() and path.stat().st_size > 0 and (not before or before[-1] != now)
    if before and (not is_other or (keep_older and before[-1].get("backend", backend) == backend)):
        with path.open("a") as file:  # the last line may have been cut short
            file.write("\n" + (json.dumps(now) + "\n" if is_other else ""))
        return "what was tried of earlier code is not tried again, unless it found something" if is_other else ""
    path.write_text(json.dumps(now) + "\n")
    return "what was tried before is of other code, or of another backend: everything begins anew" if is_other else ""


def summarize(folder: Path, extent: str, backend: str) -> dict[str, Any]:
    """Write what was found as ``faults.json`` and ``faults.md``.

    :param extent: how much was tried.
    :param backend: what was tried, if that is no matter of course.
    """
    progress = folder / "progress.jsonl"
    tried = read_progress(progress)
    reached = [one for one in tried if one["call"]]
    now = code_tried_last(progress)
    of_now = sum(one["code"] == now for one in reached)
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in tried:
        for problem in one["problems"]:
            kind = problem.partition(":")[0]
            call = one["call"][0] if one["call"] else "none"
            groups.setdefault((kind, call, one["error"]), []).append({**one, "problem": problem})
    findings = [
        {name: same[0][name] for name in ("call", "error", "problem")}
        | {
            "kind": kind,
            "count": len(same),
            "trial": list(trial),
            "again": trial.reproducer(backend),
        }
        for (kind, *_), same in sorted(groups.items(), key=lambda group: -len(group[1]))
        for trial in (Trial(*(same[0][name] for name in Trial._fields)),)
    ]
    result: dict[str, Any] = {
        "cases": len({one["case"] for one in tried}),
        "trials": len(reached),
        "of_earlier_code": len(reached) - of_now,
        "calls": dict(Counter(one["call"][0] for one in reached).most_common()),
        "errors": dict(Counter(f"{one['error']}, {'once' if one['times'] else 'for good'}" for one in reached)),
        "extent": extent,
        "findings": findings,
    }
    (folder / "faults.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = ["# Every driver call fails once", ""]
    lines += [f"{result['trials']} failing calls in {result['cases']} cases, on the simulated driver: {extent}.", ""]
    if older := result["of_earlier_code"]:
        lines += [f"Of these {older} were made with earlier code of the CUDA backend or the loop.", ""]
    lines += ["| Error | Calls failed |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in result["errors"].items()), ""]
    lines += ["| Call | Times |", "| --- | --- |", *(f"| `{k}` | {v} |" for k, v in result["calls"].items()), ""]
    well = "Nothing hung, leaked or was lost." if reached else "Nothing was tried."
    lines += ["## Findings", ""] if findings else [well]
    lines += [f"- {one['count']} x {one['problem']}\n  `{one['again']}`" for one in findings]
    (folder / "faults.md").write_text("\n".join(lines) + "\n")
    return result
