"""``python -m pytest_cuda2hal matrix`` and ``probe``: what the exit status depends on, and what ends a run."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from pytest_cuda2hal import matrix, registry
from pytest_cuda2hal.__main__ import main

#: Stands in for the suite: it is as right or wrong as the backend's name asks for.
CASES = """
    import time

    def test_it(hal_backend):
        assert "failing" not in hal_backend.spec.text
        if "endless" in hal_backend.spec.text:
            time.sleep(600)

    def test_that_passes(hal_backend): ...
"""

MODULE = """
    from minimal_backend import HostDevice
    from odd_backends import unavailable
    from pytest_cuda2hal.hal import Backend

    SOUND_OWN = Backend("sound-own", "", HostDevice, own=True)
    FAILING_OWN = Backend("failing-own", "", HostDevice, own=True)
    FAILING = Backend("failing", "", HostDevice)
    ENDLESS_OWN = Backend("endless-own", "", HostDevice, own=True)
    MISSING_OWN = Backend("missing-own", "", unavailable, own=True)
"""

ENTRY_POINTS = """[pytest_cuda2hal.backends]
sound-own = some_backends:SOUND_OWN
failing-own = some_backends:FAILING_OWN
failing = some_backends:FAILING
endless-own = some_backends:ENDLESS_OWN
missing-own = some_backends:MISSING_OWN
broken = no_such_module:BACKEND
"""


@pytest.fixture
def installed(suite, monkeypatch):
    """These backends are installed, and the suite is one case."""
    suite.case(CASES)
    suite.installed(ENTRY_POINTS, monkeypatch)
    site = suite.pytester.path / "site"
    suite.pytester.makepyfile(**{str(site / "some_backends"): MODULE})
    command = matrix._command

    def short(answer, effort, report):
        words = command(answer, effort, report)
        where = words.index("--pyargs")
        words[where : where + 2] = [str(suite.pytester.path / "test_it.py")]
        return [*words, "-p", "no:hypothesispytest", "-p", "no:randomly"]

    monkeypatch.setattr(matrix, "_command", short)
    return suite


def rows(output):
    """Return backend -> verdict of the printed table."""
    lines = output.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("backend "))
    return {line.split()[0]: line.split()[1] for line in lines[start + 1 :] if len(line.split()) == 8}


@pytest.mark.parametrize(
    ("specs", "status", "verdicts"),
    [
        ("sound-own,failing", 0, {"sound-own": "conforms", "failing": "deviates"}),
        ("failing-own", 1, {"failing-own": "deviates"}),
        ("missing-own", 0, {"missing-own": "unavailable"}),
    ],
)
def test_status_is_that_of_the_projects_own(installed, capsys, specs, status, verdicts):
    output = installed.pytester.path / "results"
    assert main(["matrix", f"--backend={specs}", "--effort=quick", f"--output={output}"]) == status
    printed = capsys.readouterr().out
    assert rows(printed) == verdicts
    for spec, verdict in verdicts.items():
        assert (output / f"{spec}.json").exists() == (verdict != "unavailable")


def test_run_that_never_ends_is_ended(installed, capsys):
    began = time.monotonic()
    assert main(["matrix", "--backend=endless-own", "--timeout=3", "--output=results"]) == 1
    assert time.monotonic() - began < 60
    printed = capsys.readouterr().out
    assert rows(printed) == {"endless-own": "incomplete"}
    assert "endless-own: ended after 3 s; see " in printed


def test_without_a_word_it_takes_every_backend_and_a_broken_registration_is_one_row(installed, capsys, monkeypatch):
    known = registry._entry_points
    monkeypatch.setattr(
        registry, "_entry_points", lambda: tuple(p for p in known() if p.name in ("broken", "sound-own"))
    )
    assert main(["matrix", "--output=results"]) == 0
    printed = capsys.readouterr().out
    assert rows(printed) == {"sound-own": "conforms", "broken": "unavailable"}
    assert "broken: backend 'broken' cannot be loaded: there is no module 'no_such_module'" in printed


def test_backend_beside_the_caller_is_found(installed, capsys, monkeypatch):
    installed.pytester.makepyfile(mine="from minimal_backend import HostDevice as Mine")
    monkeypatch.syspath_prepend(str(installed.pytester.path))
    assert main(["matrix", "--backend=mine:Mine", "--output=results"]) == 0
    assert rows(capsys.readouterr().out) == {"mine:Mine": "conforms"}


@pytest.mark.parametrize("spec", ["refrence", "reference:colour=red", "a,,b"])
def test_unknown_spec(spec, capsys):
    assert main(["matrix", f"--backend={spec}"]) == 4
    error = capsys.readouterr().err
    assert error.startswith("ERROR: ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("spec", "status", "says"),
    [
        ("minimal_backend:HostDevice", 0, "hal: minimal_backend:HostDevice: host memory, synchronous (minimal 1.0)"),
        ("odd_backends:unavailable", 4, "ERROR: backend 'odd_backends:unavailable' is not available: libodd.so"),
        ("refrence", 4, "ERROR: unknown backend 'refrence'; did you mean 'reference'?"),
    ],
)
def test_probe(spec, status, says):
    done = subprocess.run(
        [sys.executable, "-m", "pytest_cuda2hal", "probe", spec],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )
    assert done.returncode == status
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
