"""The CUDA backend's pages: the program runs and prints what is shown, and the table of options is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_cuda2hal.backends.cuda import CUDA, CUDA_SIM

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROGRAM = DOCS / "examples" / "timeline_semaphores.py"


def test_the_program_runs_on_the_simulated_driver_and_prints_what_is_shown():
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), "--simulate"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    shown = (DOCS / "captured" / "library.txt").read_text(encoding="utf-8")
    assert shown == f"$ python docs/examples/{PROGRAM.name} --simulate\n{done.stdout}"


@pytest.mark.parametrize(("backend", "column"), [(CUDA, 1), (CUDA_SIM, 2)], ids=["cuda", "cuda-sim"])
def test_every_option_is_in_the_table_with_its_default(backend, column):
    page = (DOCS / "cuda.md").read_text(encoding="utf-8")
    table = page.partition("\n## Options\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| `.*", table, re.MULTILINE)
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in lines]
    options = backend.options()
    for key, parameter in options.items():
        default = "none" if parameter.default is None else str(parameter.default)
        assert [row[column] for row in rows if row[0] == key] == [default], key
    for row in rows:
        assert (row[0] in options) is (row[column] != "–"), row[0]
