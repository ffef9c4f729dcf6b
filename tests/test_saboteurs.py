"""Every clause can be broken so that a case marked with it fails and names it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from saboteurs import saboteurs

from pytest_cuda2hal.contract import CLAUSES

TESTS = Path(__file__).parent
#: Seconds after which a wait of a sabotaged case counts as hanging; what never comes is told apart from slow machines.
DEADLINE = 2.0


def test_every_clause_with_cases_has_a_saboteur() -> None:
    without_case = {id for id, clause in CLAUSES.items() if clause.unobserved}
    assert set(saboteurs()) == set(CLAUSES) - without_case


def run_cases(clause: str, folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run cases on the saboteur of a clause; return pytest's status, what the report says of each case, the output."""
    report = folder / "report.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", *arguments),
            *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:hypothesispytest", "-q"),
            *(f"--backend=saboteurs:open_saboteur:clause={clause}", "--no-isolate"),
            *("--effort", "quick", "--hal-deadline", str(DEADLINE), "--strict-quality", "--hal-report", str(report)),
        ],
        env={**os.environ, "PYTHONPATH": str(TESTS), "PYTHONSAFEPATH": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = run.stdout + run.stderr
    return run.returncode, json.loads(report.read_text())["cases"] if report.exists() else [], output


def test_ignored_wait_lists_fail_many_cases_that_say_so(tmp_path: Path) -> None:
    """A HAL that ignores its wait lists fails at least ten cases; each names a clause and says what was seen."""
    folder = "pytest_cuda2hal.cts.submissions"
    modules = [f"{folder}.{name}" for name in ("test_order", "test_joins", "test_fans")]
    status, cases, output = run_cases("Q-1", tmp_path, *modules)
    assert status == pytest.ExitCode.TESTS_FAILED, output
    failed = [case for case in cases if case["outcome"] in ("fail", "hang", "variation", "device lost")]
    assert len(failed) >= 10, output
    for case in failed:
        for clause in case["clauses"]:
            assert f"{clause}  {CLAUSES[clause].text}" in case["evidence"]
        assert re.search("seen|never came|differ|expected|assert", case["evidence"]), case["evidence"]


@pytest.mark.parametrize("clause", sorted(saboteurs()))
def test_a_case_convicts_the_saboteur(clause: str, tmp_path: Path) -> None:
    status, cases, output = run_cases(clause, tmp_path, "pytest_cuda2hal.cts", "-x", "--hal-clause", clause)
    assert status == pytest.ExitCode.TESTS_FAILED, output
    convictions = [case for case in cases if case["outcome"] in ("fail", "hang", "variation", "device lost")]
    assert any(clause in case["clauses"] and clause in case["evidence"] for case in convictions), output
