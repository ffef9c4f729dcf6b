"""What a case can come to: each outcome in the report, in the summary and in the exit code, wherever the case runs."""

from __future__ import annotations

import pytest
from imperfect_backends import report_of, run_way

CASES = """
    import pytest
    from pytest_cuda2hal.hal import Capability

    def test_pass(hal_device): ...

    def test_fail(hal_device):
        assert hal_device.create_semaphore(3).query() == 4

    @pytest.mark.hal_requires(Capability.HOLD)
    def test_unsupported(hal_device): ...

    def test_variation(hal_variation):
        hal_variation("overtaken-signal").check("fails")

    def test_unknown_answer(hal_variation):
        hal_variation("overtaken-signal").check("dances")

    def test_hang(hal_semaphores):
        hal_semaphores(1)[0].wait(1)

    def test_device_lost(hal_device):
        hal_device.allocate_buffer(13)

    def test_error(hal_variation):
        hal_variation("no-such-point")

    def test_skip(hal_device):
        pytest.skip("not today")

    def test_expected(hal_device):
        pytest.xfail("not today")
"""
#: Function -> what it comes to, and what its message says.
EXPECTED = {
    "test_pass": ("pass", ""),
    "test_fail": ("fail", "assert 3 == 4"),
    "test_unsupported": ("unsupported", "unsupported: capability hold is absent"),
    "test_variation": ("variation", "seen      fails"),
    "test_unknown_answer": ("fail", "seen      dances (an answer that nobody is known to give)"),
    "test_hang": ("hang", "which never came"),
    "test_device_lost": ("device lost", "the device fell off the bus"),
    "test_error": ("error", "no-such-point"),
    "test_skip": ("set aside", "not today"),
    "test_expected": ("set aside", "not today"),
}
BACKEND = ("--backend=imperfect_backends:Breaks", "--hal-deadline=0.3", "--hal-report=report.json")


@pytest.mark.parametrize("way", ["alone", "both"])
def test_each_outcome_has_its_name(suite, way):
    result = run_way(suite.case(CASES), way, *BACKEND)
    assert result.ret == 1
    document, cases = report_of(suite)
    seen = {name.removeprefix("test_it::"): (one["outcome"], one["message"]) for name, one in cases.items()}
    assert {name: outcome for name, (outcome, _) in seen.items()} == {name: one[0] for name, one in EXPECTED.items()}
    for name, (_, says) in EXPECTED.items():
        assert says in seen[name][1]
    result.stdout.fnmatch_lines(
        [
            "*:Breaks: 1 pass, 2 fail, 1 variation, 1 hang, 1 device lost, 1 error, 1 unsupported, 2 set aside",
            "  unsupported (1): capability hold is absent",
            "  variation overtaken-signal: dances, fails; profile strict says no-op",
        ]
    )
    for line in ("  hang: test_it::test_hang: *", "  device lost: test_it::test_device_lost: *", "  error: test_it::*"):
        result.stdout.fnmatch_lines([line])
    assert document["counts"]["imperfect_backends:Breaks"]["device lost"] == 1


@pytest.mark.parametrize("name", EXPECTED)
def test_exit_code_of_each_outcome(suite, name):
    """What the HAL lacks, or the case sets aside, fails no run; everything else but a pass does."""
    result = suite.case(CASES).run(*BACKEND, "--no-isolate", "-k", f"{name} and not {name}_")
    outcome = EXPECTED[name][0]
    assert result.ret == int(outcome not in ("pass", "unsupported", "set aside"))
    assert report_of(suite)[0]["exitcode"] == result.ret
    assert {one["outcome"] for one in report_of(suite)[1].values()} == {outcome}


@pytest.mark.parametrize("way", ["isolated", "both"])
@pytest.mark.parametrize(
    ("line", "ending"), [("os.abort()", "SIGABRT"), ("os._exit(3)", "exit code 3"), ("ctypes.string_at(0)", "SIGSEGV")]
)
def test_crash_is_an_outcome_of_its_own(suite, line, ending, way):
    suite.case(f"import ctypes, os\ndef test_it(hal_device):\n    {line}\ndef test_next(hal_device): ...\n")
    result = run_way(suite, way, *BACKEND)
    assert result.ret == 1
    cases = report_of(suite)[1]
    assert cases["test_it::test_next"]["outcome"] == "pass"
    crashed = cases["test_it::test_it"]
    assert (crashed["outcome"], crashed["details"]["ending"]) == ("crash", ending)
    result.stdout.fnmatch_lines(["*: 1 pass, 1 crash", f"  crash: test_it::test_it: *({ending})"])


def test_crash_of_a_worker_is_a_crash_without_isolation_too(suite):
    suite.case("import os\ndef test_it(hal_device):\n    os._exit(3)\ndef test_next(hal_device): ...\n")
    result = run_way(suite, "xdist", *BACKEND)
    assert result.ret == 1
    cases = report_of(suite)[1]
    assert {name: one["outcome"] for name, one in cases.items()} == {
        "test_it::test_it": "crash",
        "test_it::test_next": "pass",
    }


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_outcome_of_a_case_is_that_of_the_phase_that_deviated(suite, way):
    suite.case(
        """
        import pytest

        @pytest.fixture
        def broken(hal_device):
            assert not hal_device, "broken from the start"

        @pytest.fixture
        def breaking(hal_device):
            yield
            assert not hal_device, "broken at the end"

        def test_setup(broken): ...

        def test_teardown(breaking): ...

        def test_close(hal_device):
            hal_device.allocate_buffer(13)
        """
    )
    arguments = ("--backend=imperfect_backends:DoesNotClose", *BACKEND[1:])
    assert run_way(suite, way, *arguments).ret == 1
    found = {name: (one["outcome"], one["details"]["stage"]) for name, one in report_of(suite)[1].items()}
    assert found == {
        "test_it::test_setup": ("fail", "setup"),
        "test_it::test_teardown": ("fail", "teardown"),
        "test_it::test_close": ("fail", "teardown"),
    }


@pytest.mark.parametrize(
    ("text", "source"),
    [(text, source) for text in ("0", "-1", "nan", "x", "inf", "86400") for source in ("option", "ini")],
)
def test_deadline_of_a_case_that_cannot_be_read(suite, text, source):
    suite.hooked().case(CASES)
    arguments = [f"--hal-case-deadline={text}"] if source == "option" else []
    if source == "ini":
        suite.pytester.makeini(f"[pytest]\nhal_case_deadline = {text}\n")
    error = suite.one_line_error(suite.run("--backend=minimal", *arguments))
    assert error == f"ERROR: --hal-case-deadline takes seconds above 0 and below 86400, not '{text}'"


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        (("--hal-case-deadline=7",), "7"),
        (("--hal-deadline=2",), "8"),
        (("--hal-deadline=2", "--effort=soak"), "120"),
        (("--hal-deadline=2", "--effort=soak", "--hal-case-deadline=7.5"), "7.5"),
    ],
)
def test_header_says_how_long_a_case_may_take(suite, arguments, seconds):
    result = suite.case("def test_it(hal_device): ...").run("--backend=reference", "--isolate", *arguments)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"     in processes of their own, {seconds} s for each case: reference"])


def test_case_that_takes_longer_than_its_deadline_hangs(suite):
    suite.case("import threading\ndef test_it(hal_device):\n    threading.Event().wait()\n")
    result = suite.run_child("--backend=reference", "--isolate", "--hal-case-deadline=0.5", "--hal-report=report.json")
    assert result.ret == 1
    assert report_of(suite)[1]["test_it::test_it"]["outcome"] == "hang"
    result.stdout.fnmatch_lines(["  hang: test_it::test_it: the case did not end within 0.5 s, *"])
