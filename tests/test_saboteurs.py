"""Every clause can be broken so that a case marked with it fails and names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from saboteurs import saboteurs

from pytest_cuda2hal.contract import CLAUSES

TESTS = Path(__file__).parent
#: Seconds after which a wait of a sabotaged case counts as hanging; what never comes is told apart from slow machines.
DEADLINE = 2.0


def test_every_clause_with_cases_has_a_saboteur() -> None:
    without_case = {id for id, clause in CLAUSES.items() if clause.unobserved}
    assert set(saboteurs()) == set(CLAUSES) - without_case


@pytest.mark.parametrize("clause", sorted(saboteurs()))
def test_a_case_convicts_the_saboteur(clause: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", "pytest_cuda2hal.cts"),
            *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-q", "-x"),
            f"--backend=saboteurs:open_saboteur:clause={clause}",
            *("--hal-clause", clause, "--effort", "quick", "--hal-deadline", str(DEADLINE), "--strict-quality"),
            *("--hal-report", str(report)),
        ],
        env={**os.environ, "PYTHONPATH": str(TESTS), "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    convictions = [case for case in json.loads(report.read_text())["cases"] if case["outcome"] in ("fail", "hang")]
    assert any(clause in case["clauses"] and clause in case["evidence"] for case in convictions), run.stdout
