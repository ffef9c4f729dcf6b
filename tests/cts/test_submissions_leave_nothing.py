"""The case on what submissions leave in the memory convicts what loses a little each time, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASE = "pytest_cuda2hal.cts.lifetime.test_process::test_submissions_on_one_timeline_leave_nothing"

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="nothing tells the memory of a process")


@pytest.mark.parametrize(
    ("backend", "kept"),
    [("Counting", True), ("Grows", True), ("Malloc", False), ("Objects", False), ("GivesBack", False)],
)
def test_who_is_convicted(tmp_path: Path, backend: str, kept: bool) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", CASE, "-p", "no:cacheprovider", "-p", "no:hypothesispytest"),
            *(f"--backend=leaking_backends:{backend}", "--no-isolate", "--hal-report=report.json"),
        ],
        env={**os.environ, "PYTHONPATH": str(HERE), "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    [case] = json.loads((tmp_path / "report.json").read_text())["cases"]
    [figure] = case["quality"]
    assert figure["kept"] is kept, figure
    assert "after 4000" in figure["figure"]
