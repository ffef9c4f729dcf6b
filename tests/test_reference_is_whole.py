"""The specification keeps its own contract: every case passes on `reference`, and none is skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("spec", "effort"), [("reference", "quick"), ("reference:seed=7", "quick"), ("reference", "soak")]
)
@pytest.mark.timeout(1200)
def test_every_case_passes_and_none_is_skipped(spec: str, effort: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", "pytest_cuda2hal.cts", "-p", "no:cacheprovider", "-q"),
            *(f"--backend={spec}", f"--effort={effort}", f"--hal-report={report}", "--tb=short"),
        ],
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.OK, run.stdout + run.stderr
    outcomes = {outcome: n for outcome, n in json.loads(report.read_text())["counts"][spec].items() if n}
    assert set(outcomes) == {"pass"}, outcomes
