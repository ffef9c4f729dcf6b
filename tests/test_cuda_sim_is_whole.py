"""The CUDA backend keeps the whole contract on its simulated driver: every case passes, and none is skipped.

The order in which streams go on is drawn from a seed of the commit, so that each commit tries another one and each can
be tried again: ``pytest --pyargs pytest_cuda2hal.cts --backend=cuda-sim:seed=...``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def seed() -> int:
    """Return a number that is the commit's; 0 where there is no git."""
    command = ["git", "rev-parse", "--short=8", "HEAD"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
        return int(answer.stdout.strip()[:8], 16)
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


SIMULATED = f"cuda-sim:seed={seed()}"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the suite in a process of its own."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", "pytest_cuda2hal.cts", "-p", "no:cacheprovider", "-q"),
            *("--effort=quick", "--tb=short", *arguments),
        ],
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def cases_of_the_reference(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many cases the suite has for a backend that keeps all of the contract."""
    collected = run(tmp_path_factory.mktemp("reference"), "--backend=reference", "--collect-only")
    assert collected.returncode == pytest.ExitCode.OK, collected.stdout + collected.stderr
    return sum("::" in line for line in collected.stdout.splitlines())


@pytest.mark.parametrize(
    "spec",
    [
        SIMULATED,
        f"{SIMULATED}:completion=host-function",
        f"{SIMULATED}:queues=4",
        f"{SIMULATED}:event_pool_capacity=1",
    ],
)
def test_every_case_passes_and_none_is_skipped(spec: str, cases_of_the_reference: int, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = run(tmp_path, f"--backend={spec}", f"--hal-report={report}")
    assert result.returncode == pytest.ExitCode.OK, f"--backend={spec}\n{result.stdout}{result.stderr}"
    outcomes = {outcome: n for outcome, n in json.loads(report.read_text())["counts"][spec].items() if n}
    assert set(outcomes) == {"pass"}, (spec, outcomes)
    assert outcomes["pass"] == cases_of_the_reference, spec
