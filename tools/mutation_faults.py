"""How the fault loop judges a mutant: the suite on a driver whose calls fail, of which some trials are run."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutation_judge import NOT_DONE, TRIES, run_suite
from mutation_page import FAULT


def fault_command(copy: Path, folder: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs the fault loop on a copy, and its environment; what it finds goes to ``folder``."""
    path = os.pathsep.join([str(copy), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": ""}
    loop = str(Path(__file__).with_name("fault_loop.py"))
    return [sys.executable, loop, f"--output={folder}", *arguments], environment


def judge_by_faults(copy: Path, trials: Sequence[Sequence[Any]], *, limit: float) -> dict[str, Any]:
    """Run trials of the fault loop until one finds something; return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "trials.json"), Path(folder, "faults.json")
        given.write_text(json.dumps(trials), encoding="utf-8")
        command, environment = fault_command(copy, folder, f"--from={given}", "--first", "--jobs=1")
        status, output = run_suite(command, folder, environment, limit)
        if status is None:
            return {"outcome": NOT_DONE, "message": f"not done after {limit:g} s"}
        findings = json.loads(found.read_text(encoding="utf-8"))["findings"] if found.exists() else []
        if findings:
            trial = findings[0]["trial"]
            return {"outcome": FAULT, "case": trial[0], "message": findings[0]["problem"][:200], "trial": trial}
        if status == 0:
            return {"outcome": "survived"}
        return {"outcome": NOT_DONE, "message": f"exit code {status}: {output.strip()[-200:]}"}


def _finds_again(copy: Path, original: Path, trial: Sequence[Any], *, limit: float) -> bool | None:
    """Whether a trial finds something in a mutant again, and nothing in the original; ``None`` where nobody can say."""
    for which, expected in ((copy, FAULT), *[(original, "survived")] * TRIES):
        outcome = judge_by_faults(which, [trial], limit=limit)["outcome"]
        if outcome != expected:
            return None if outcome == NOT_DONE else False
    return True


def judge_surely_by_faults(
    copy: Path, original: Path, trials: Sequence[Sequence[Any]], *, limit: float
) -> dict[str, Any]:
    """The same as :func:`judge_by_faults`; a trial that finds something is run again, and must find nothing in the
    ``original``, however often.

    Most of what the loop finds did not come in time, which a slow machine may cause.
    """
    left = [list(trial) for trial in trials]
    while left:
        result = judge_by_faults(copy, left, limit=limit)
        if result["outcome"] != FAULT:
            return result
        is_again = _finds_again(copy, original, result["trial"], limit=limit)
        if is_again:
            return result
        if is_again is None:
            return {"outcome": NOT_DONE, "message": f"{result['case']}, once: {result['message']}"}
        left.remove(result["trial"])  # the others are run again: which of them came before it, the loop decides
    return {"outcome": "survived"}
