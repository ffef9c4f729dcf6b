"""The cases on what is left in the memory convict what loses a little each time, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = "pytest_cuda2hal.cts.lifetime."
ONE = "test_process::test_submissions_on_one_timeline_leave_nothing"
WAITS = "test_memory::test_waits_that_expire_leave_nothing"
RELEASED = "test_memory::test_submissions_that_the_host_releases_leave_nothing"
FAILED = "test_memory::test_submissions_that_fail_leave_nothing"
UPDATES = "test_memory::test_updates_leave_nothing"

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="nothing tells the memory of a process")


@pytest.mark.parametrize(
    ("case", "backend", "kept"),
    [
        (ONE, "Counting", True),
        (ONE, "Grows", True),
        (ONE, "Malloc", False),
        (ONE, "Objects", False),
        (ONE, "GivesBack", False),
        (WAITS, "Waits", False),
        (WAITS, "Signals", True),
        (RELEASED, "Signals", False),
        (RELEASED, "Failures", True),
        (FAILED, "Failures", False),
        (FAILED, "Updates", True),
        (UPDATES, "Updates", False),
        (UPDATES, "Forgets", True),
    ],
)
def test_who_is_convicted(tmp_path: Path, case: str, backend: str, kept: bool) -> None:
    run = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "--pyargs",
                CASES + case,
                "-p",
                "no:cacheprovider",
                "-p",
                "no:hypothesispytest",
            ),
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
    [told] = json.loads((tmp_path / "report.json").read_text())["cases"]
    [figure] = told["quality"]
    assert figure["kept"] is kept, figure
    assert "resident" in figure["figure"]
