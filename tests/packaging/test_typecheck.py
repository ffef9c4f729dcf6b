"""The type checker sees the folders that install inside the package, under the names that they install as."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: The import means something only where this is a module of ``pytest_cuda2hal.<folder>``; the last line is wrong.
MISTAKE = '''\
"""Wrong on purpose."""

from ..hal import VALUE_LIMIT

answer: str = VALUE_LIMIT
'''
REPORT = 'error: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]'


@pytest.fixture
def repository(tmp_path):
    """A copy of what `make lint` gives to the type checker, without the tests."""
    for folder in ("pytest_cuda2hal", "backends", "cts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "typecheck.py", tmp_path / "tools")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_a_type_error_in_a_mapped_folder_is_reported_where_it_is(repository):
    for folder in ("backends", "cts"):
        (repository / folder / "mistake.py").write_text(MISTAKE, encoding="utf-8")

    check = subprocess.run(
        [sys.executable, "tools/typecheck.py"], cwd=repository, capture_output=True, text=True, check=False
    )

    assert check.returncode == 1, check.stdout + check.stderr
    reported = [line for line in check.stdout.splitlines() if "mistake.py" in line]
    assert sorted(reported) == [f"backends/mistake.py:5: {REPORT}", f"cts/mistake.py:5: {REPORT}"]
