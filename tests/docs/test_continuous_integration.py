"""The page on continuous integration: its baseline fits its HAL, and its job is YAML."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_cuda2hal.baseline_reading import parse_entries

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "continuous-integration.md").read_text(encoding="utf-8")


def blocks(language):
    """The texts of a language on the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


BASELINE = next(text for text in blocks("toml") if "version" in text)
INI = blocks("ini")[-1]


@pytest.fixture
def conformance(tmp_path):
    """The folder that the page makes; the function runs pytest in it."""
    (tmp_path / "imperfect_hal.py").write_bytes((DOCS / "examples" / "imperfect_hal.py").read_bytes())
    (tmp_path / "hal-baseline.toml").write_text(BASELINE, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(INI, encoding="utf-8")

    def run(*options):
        suite = [f"pytest_cuda2hal.cts.{name}" for name in ("failures.test_failed_for_good", "transfers.test_limits")]
        return subprocess.run(
            [
                *(sys.executable, "-P", "-m", "pytest", "--pyargs", *suite),
                *("--effort=quick", "-q", "-p", "no:cacheprovider", *options),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_baseline_of_the_page_can_be_read():
    entries = parse_entries(BASELINE, "hal-baseline.toml")
    assert [entry.outcome.value for entry in entries] == ["fail", "fail", "fail", "crash"]


def test_the_hal_of_the_page_deviates_as_the_baseline_says(conformance):
    done = conformance()
    assert done.returncode == 0, done.stdout
    assert re.search(r"6 fail, 2 crash, .*\(8 known, see the baseline\)", done.stdout)


def test_without_the_baseline_the_run_fails(conformance):
    done = conformance("-o", "hal_baseline=", "-k", "first_failure_wins")
    assert done.returncode == 1, done.stdout
    assert "1 fail" in done.stdout


def test_the_jobs_are_yaml():
    yaml = pytest.importorskip("yaml")
    jobs = [yaml.safe_load(text) for text in blocks("yaml")]
    github, gitlab = jobs
    assert list(github["jobs"]) == ["shard", "whole"]
    assert list(gitlab) == ["conformance", "whole"]
