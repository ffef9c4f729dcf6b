"""A backend that cannot be used: one line, exit code 4, no traceback."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pytest_cuda2hal.probe import probe
from pytest_cuda2hal.registry import parse_spec

CASE = "def test_it(hal_device): ..."


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("refrence", "unknown backend 'refrence'; did you mean 'reference'? known: "),
        ("no_such_module:Factory", "there is no module 'no_such_module' (asked for by 'no_such_module:Factory')"),
        ("odd_backends:Nothing", "module 'odd_backends' has no 'Nothing'; check the name"),
        ("odd_backends:an_attribute", "is str; a Device class, a Backend or a function is needed"),
        ("odd_backends:raises", "failed to open: ValueError: the first line (odd_backends.py:"),
        ("odd_backends:gives_a_number", "returned int; its factory must return a Device"),
        ("odd_backends:BadProfile", "declares profile 'stirct'; known profiles: strict, seed, iree, vulkan"),
        ("odd_backends:BadCapability", "declares 'hold' as a capability; use members of Capability"),
        ("odd_backends:TwiceDeclared", "declares host-fail as native and as emulated; it can be one of the two"),
        ("odd_backends:NoInfo", "has an info that is NoneType; use DeviceInfo(name, versions)"),
        ("odd_backends:ClosesBadly", "cannot be asked what it is, or closed: OSError: close went wrong"),
        ("odd_backends:unavailable", "is not available: libodd.so was not found. Install odd, or do without"),
        ("odd_backends:aborts", "backend 'odd_backends:aborts' crashed (SIGABRT) while it was opened"),
        ("odd_backends:quits", "ended its process (exit code 3) while it was opened"),
        ("reference:profile=none", "no profile 'none'; known profiles: "),
        ("reference:queues=0", "option 'queues' must be at least 1, not 0"),
    ],
)
def test_backend_that_cannot_be_used(suite, spec, says):
    assert says in suite.one_line_error(suite.case(CASE).run(f"--backend={spec}"))


def test_backend_of_a_hook_that_cannot_be_used(suite):
    error = suite.one_line_error(suite.hooked().case(CASE).run("--backend=closes-badly"))
    assert "backend 'closes-badly' opened, but cannot be asked what it is, or closed: OSError" in error


def test_backend_that_hangs_while_it_opens(suite, monkeypatch):
    monkeypatch.setenv("PYTEST_HAL_PROBE_DEADLINE", "1.5")
    error = suite.one_line_error(suite.case(CASE).run("--backend=odd_backends:hangs"))
    assert "did not open within 1.5 s ($PYTEST_HAL_PROBE_DEADLINE); it hangs" in error
    assert "python -m pytest_cuda2hal probe odd_backends:hangs" in error


def test_backend_whose_process_does_not_end_has_answered(monkeypatch):
    monkeypatch.setenv("PYTEST_HAL_PROBE_DEADLINE", "2")
    answer = probe(parse_spec("odd_backends:leaves_a_process"))
    assert answer.available, answer.problem


@pytest.mark.parametrize("value", ["soon", "0", "nan", "1e9"])
def test_deadline_of_probes_that_cannot_be_read(suite, monkeypatch, value):
    monkeypatch.setenv("PYTEST_HAL_PROBE_DEADLINE", value)
    error = suite.one_line_error(suite.case(CASE).run("--backend=minimal_backend:HostDevice"))
    assert error == f"ERROR: $PYTEST_HAL_PROBE_DEADLINE takes seconds above 0 and below 86400, not '{value}'"


def test_what_a_backend_prints_is_not_taken_for_its_answer(suite):
    result = suite.case(CASE).run("--backend=odd_backends:prints_much")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["hal: odd_backends:prints_much: host memory, synchronous (minimal 1.0)*"])


def test_each_unusable_backend_has_its_line(suite):
    result = suite.case(CASE).run("--backend=odd_backends:unavailable,reference,odd_backends:raises")
    assert result.ret == 4
    assert [" ".join(line.split()[:3]) for line in result.errlines if line] == [
        "ERROR: backend 'odd_backends:unavailable'",
        "ERROR: backend 'odd_backends:raises'",
    ]


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_iree_cuda_without_a_gpu(suite):
    error = suite.one_line_error(suite.case(CASE).run_child("--backend=iree:cuda"))
    assert error.startswith("ERROR: backend 'iree:cuda' is not available: ")
    installed = importlib.util.find_spec("iree") is not None
    assert ("Install the NVIDIA driver" if installed else "pip install 'pytest-cuda2hal[iree]'") in error


@pytest.mark.parametrize("spec", ["refrence", "odd_backends:unavailable"])
def test_with_xdist_the_error_appears_once(suite, spec):
    pytest.importorskip("xdist")
    result = suite.case(CASE).run_child("-n", "2", f"--backend={spec}")
    assert spec in suite.one_line_error(result)
