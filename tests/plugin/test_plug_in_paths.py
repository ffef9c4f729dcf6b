"""The three ways to plug in a HAL of one's own, shown with the smallest adapter."""

from __future__ import annotations

import json

import pytest

#: A small part of the suite: what needs no capability, and what needs some that the adapter lacks.
CLAUSES = "--hal-clause=TL-1,Q-1,T-1,W-1"
ARGUMENTS = ("--pyargs", "pytest_cuda2hal.cts", "--effort=quick", CLAUSES, "--hal-report=report.json", "-q")


def check(suite, result, spec):
    report = json.loads((suite.pytester.path / "report.json").read_text())
    cases = report["cases"]
    assert result.ret == 0, result.stdout.str()
    assert {case["backend"] for case in cases} == {spec}
    outcomes = {case["outcome"] for case in cases}
    assert outcomes == {"pass", "unsupported"}
    for case in cases:
        if case["outcome"] == "unsupported":
            assert case["message"].startswith("unsupported: capability "), case
    assert any("capability async-submit is absent" in case["message"] for case in cases)
    result.stdout.fnmatch_lines(
        [f"{spec}: * pass, * unsupported", "  unsupported (*): capability async-submit is absent"]
    )


def test_by_module_and_factory(suite):
    spec = "minimal_backend:HostDevice"
    check(suite, suite.run_child(*ARGUMENTS, f"--backend={spec}"), spec)


def test_by_hook(suite):
    check(suite, suite.hooked().run(*ARGUMENTS, "--backend=minimal"), "minimal")


def test_by_entry_point(suite, monkeypatch):
    suite.installed("[pytest_cuda2hal.backends]\ntiny = minimal_backend:HostDevice\n", monkeypatch)
    check(suite, suite.run_child(*ARGUMENTS, "--backend=tiny"), "tiny")


def test_module_beside_the_tests_needs_no_installation(suite, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    suite.pytester.makepyfile(mine="from pytest_cuda2hal.backends.reference import open_reference as open_mine")
    suite.case("def test_it(hal_device): assert hal_device.queue_count == 3")
    suite.run_child("--backend=mine:open_mine:queues=3").assert_outcomes(passed=1)


@pytest.mark.parametrize("spec", ["incomplete", "own-incomplete"])
def test_backend_of_a_hook_under_xdist(suite, spec):
    pytest.importorskip("xdist")
    suite.hooked().case("def test_it(hal_backend): assert hal_backend.backend.own == ('own' in hal_backend.spec.text)")
    suite.run_child("-n", "1", f"--backend={spec}").assert_outcomes(passed=1)
