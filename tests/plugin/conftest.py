"""Small suites for tests of the harness to run, in this process or in one of its own."""

from __future__ import annotations

import os
from pathlib import Path

import odd_backends
import pytest

# A run in this process forgets what it imported, and would import it again each time.
import pytest_cuda2hal.evidence
import pytest_cuda2hal.fixtures
import pytest_cuda2hal.hookspecs
import pytest_cuda2hal.lifetime
import pytest_cuda2hal.observation.makers
import pytest_cuda2hal.observation.settle
import pytest_cuda2hal.probe
import pytest_cuda2hal.report  # noqa: F401

HERE = Path(__file__).parent
# Hypothesis imports all of itself at the end of every run.
QUIET = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch):
    """Nothing of the caller's environment counts; the backends of this folder can be imported in child processes."""
    for name in ("PYTEST_HAL_BACKEND", "PYTEST_HAL_PROBE_DEADLINE", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(HERE))


class Suite:
    """A suite in a folder of its own."""

    def __init__(self, pytester):
        self.pytester = pytester

    def case(self, source, name="test_it"):
        """Add a file of cases."""
        self.pytester.makepyfile(**{name: source})
        return self

    def hooked(self):
        """Register the backends of odd_backends by hook; they are opened in the process of the run."""
        self.pytester.makeconftest(
            "from odd_backends import BACKENDS\ndef pytest_hal_backends(config):\n    return BACKENDS\n"
        )
        return self

    def installed(self, entry_points, monkeypatch):
        """Pretend that a distribution with these entry points is installed."""
        info = self.pytester.path / "site" / "odd_backends-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-backends\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(info.parent)]))
        monkeypatch.syspath_prepend(info.parent)
        return self

    def run(self, *arguments):
        """Run it in this process."""
        return self.pytester.runpytest_inprocess(*QUIET, *arguments)

    def run_child(self, *arguments):
        """Run it in a process of its own."""
        return self.pytester.runpytest_subprocess(*QUIET, *arguments, timeout=120)

    def collected(self, *arguments):
        """Return the parameters of every collected case."""
        result = self.run("--collect-only", "-q", *arguments)
        assert result.ret == 0, result.stderr.str()
        return [line.partition("[")[2].removesuffix("]") for line in result.outlines if "::" in line]

    @staticmethod
    def one_line_error(result):
        """Return the only thing that a run with exit code 4 said."""
        everything = result.stdout.str() + result.stderr.str()
        assert result.ret == 4, everything
        assert "Traceback" not in everything
        assert "INTERNALERROR" not in everything
        lines = [line for line in (result.outlines + result.errlines) if line.startswith("ERROR: ")]
        assert len(lines) == 1, everything
        rest = [line for line in result.errlines if line.strip() and line not in lines]
        assert not rest, everything
        return lines[0]


@pytest.fixture
def suite(pytester):
    """An empty suite."""
    assert odd_backends.BACKENDS
    return Suite(pytester)
