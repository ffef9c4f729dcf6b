"""Cases in processes of their own: a HAL in native code may do its worst, and each case still has its verdict."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from pytest_cuda2hal.isolation.supervisor import Supervisor

CASES = """
    import pytest

    @pytest.mark.hal_clause("TL-1")
    @pytest.mark.parametrize("size", [1, 13, 2])
    def test_it(hal_device, hal_semaphores, size):
        (s,) = hal_semaphores(1)
        hal_device.queue_execute([], signal=[s @ 1])
        s.wait(1)
        hal_device.allocate_buffer(size)
        hal_device.queue_execute([], signal=[s @ 2])
        s.wait(2)

    def test_after(hal_device): ...
"""
#: Seconds that a case may take here, and those after which a run with one that hangs must be over.
CASE_DEADLINE, BOUND = 3, 60


def verdicts(suite, backend, *arguments, cases=CASES):
    """Run the cases on a hostile backend; return the result, and what the report says by case."""
    suite.case(cases)
    begin = time.monotonic()
    limit = 40 if backend == "Flood" else CASE_DEADLINE
    result = suite.run_child(
        *(f"--backend=hostile_backends:BACKENDS.{backend}", "--hal-report=report.json", "--hal-deadline=1"),
        *(f"--hal-case-deadline={limit}", *arguments),
    )
    assert time.monotonic() - begin < BOUND
    document = json.loads((suite.pytester.path / "report.json").read_text())
    return result, {case["case"]: case for case in document["cases"]}


#: What becomes of the case that asks for 13 bytes: outcome, ending, and what its evidence says among other things.
HOSTILE = {
    "SegmentationFault": ("crash", "SIGSEGV", ["MainThread is in allocate_buffer(13)", "about to read address 0"]),
    "Abort": ("crash", "SIGABRT", ["terminate called after throwing", "in turn", "last operations"]),
    "Exit": ("crash", "exit code 3", ["the process ended itself (exit code 3)"]),
    "QuietExit": ("crash", "exit code 0", ["the process ended itself (exit code 0)"]),
    "EndlessLoop": ("hang", None, ["did not end within 3 s", "MainThread is in allocate_buffer(13)", "in turn"]),
    "NoWatchdog": ("hang", None, ["did not end within 3 s", "MainThread is in allocate_buffer(13)"]),
    "DeadlockOnClose": ("hang", None, ["did not end within 3 s", "is in close()"]),
    "ThreadRaises": ("fail", None, ["lost in a thread of the HAL"]),
    "Flood": ("pass", None, []),
    "Lost": ("device lost", None, ["the device fell off the bus"]),
    "CrashAtExit": ("pass", None, []),
}


@pytest.mark.parametrize("backend", HOSTILE)
def test_each_case_has_its_verdict(suite, backend):
    outcome, ending, evidence = HOSTILE[backend]
    result, cases = verdicts(suite, backend)
    assert {name: case["outcome"] for name, case in cases.items()} == {
        "test_it::test_it[1]": "pass",
        "test_it::test_it[13]": outcome,
        "test_it::test_it[2]": "pass",
        "test_it::test_after": "pass",
    }
    bad = cases["test_it::test_it[13]"]
    if outcome == "pass":
        assert result.ret == 0
    else:
        assert result.ret == 1
        for text in ("TL-1  A new semaphore", "replay    pytest 'test_it.py::test_it[hostile", *evidence):
            assert text in bad["evidence"], bad["evidence"]
        assert bad["details"]["last_healthy"] == "test_it::test_it[1]"
    assert bad["details"].get("ending") == ending
    if backend == "CrashAtExit":
        result.stdout.fnmatch_lines(["note: *CrashAtExit: a process ended with SIGSEGV after its last case"])


@pytest.mark.parametrize(("backend", "outcome"), [("Abort", "crash"), ("EndlessLoop", "hang")])
@pytest.mark.parametrize("option", ["--no-journal", "--hal-no-journal"])
def test_without_a_journal_the_verdict_is_the_same(suite, backend, outcome, option):
    """Only what the journal would have told is missing, and the evidence says so."""
    _, cases = verdicts(suite, backend, option)
    assert [case["outcome"] for case in cases.values()] == ["pass", outcome, "pass", "pass"]
    bad = cases["test_it::test_it[13]"]
    assert "last operations and what waited for what are not known: --no-journal" in bad["evidence"]
    assert "allocate_buffer" in bad["details"]["python_stacks"]
    assert "operations" not in bad["details"]
    assert "waits" not in bad["details"]


def test_output_is_kept_from_both_ends(suite):
    """Ten gigabytes go by; a report has room for some."""
    cases = CASES.replace(
        "hal_device.allocate_buffer(size)", "hal_device.allocate_buffer(size)\n        assert size != 13"
    )
    _, found = verdicts(suite, "Flood", cases=cases)
    printed = found["test_it::test_it[13]"]["details"]["stdout"]
    assert 60_000 < len(printed) < 80_000
    assert "bytes left out" in printed
    assert printed.startswith("all work and no play")


def test_a_crash_of_a_thread_of_the_hal_is_the_running_cases(suite):
    """The call that began it has returned; the case goes on until it happens."""
    cases = CASES.replace("s.wait(2)", "s.wait(2)\n        hal_poll(lambda: size != 13)")
    cases = cases.replace(", size)", ", size, hal_poll)")
    _, found = verdicts(suite, "LateCrash", cases=cases)
    assert {name: case["outcome"] for name, case in found.items()} == {
        "test_it::test_it[1]": "pass",
        "test_it::test_it[13]": "crash",
        "test_it::test_it[2]": "pass",
        "test_it::test_after": "pass",
    }
    crashed = found["test_it::test_it[13]"]
    assert crashed["details"]["ending"] == "SIGSEGV"
    assert crashed["details"]["last_healthy"] == "test_it::test_it[1]"


def test_warnings_are_shown(suite):
    suite.case("import warnings\ndef test_it(hal_device):\n    warnings.warn('mind the gap', RuntimeWarning)\n")
    result = suite.run_child("--backend=reference", "--isolate")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*RuntimeWarning: mind the gap*"])


@pytest.mark.parametrize("arguments", [(), ("-n", "2"), ("-x",), ("--maxfail=1",)], ids=" ".join)
def test_other_options_of_pytest(suite, arguments):
    if "-n" in arguments:
        pytest.importorskip("xdist")
    result, cases = verdicts(suite, "Abort", "--junitxml=junit.xml", *arguments)
    assert cases["test_it::test_it[13]"]["outcome"] == "crash"
    assert len(cases) == (2 if arguments in (("-x",), ("--maxfail=1",)) else 4)
    junit = (suite.pytester.path / "junit.xml").read_text()
    assert '<property name="hal_outcome" value="crash"' in junit
    assert '<property name="hal_clauses" value="TL-1"' in junit
    assert "SIGABRT" in junit
    assert junit.count("<testcase") == len(cases)
    assert result.ret in (1, 2)


def test_off_and_on(suite):
    """A backend in native code is isolated unless it is said otherwise; another one is not."""
    suite.case(
        """
        import os

        def test_it(hal_device):
            assert os.getppid() == int(os.environ["RUN"])

        def test_too(hal_device): ...
        """
    )
    for backend, arguments, isolated in (
        ("hostile_backends:BACKENDS.Abort", (), True),
        ("hostile_backends:BACKENDS.Abort", ("--no-isolate",), False),
        ("reference", (), False),
        ("reference", ("--isolate",), True),
        ("reference", ("--hal-isolate",), True),
        ("hostile_backends:BACKENDS.Abort", ("--hal-no-isolate",), False),
    ):
        suite.pytester.makeconftest("import os\nos.environ.setdefault('RUN', str(os.getpid()))\n")
        result = suite.run_child(f"--backend={backend}", *arguments)
        assert ("in processes of their own" in result.stdout.str()) == isolated
        result.assert_outcomes(passed=2 if isolated else 1, failed=0 if isolated else 1)


ORDERS = [("-n", "2"), ("--order=random:3",), ("-n", "2", "--dist=loadscope")]


@pytest.mark.parametrize("arguments", ORDERS, ids=" ".join)
def test_fixtures_of_several_modules_in_any_order(suite, arguments):
    """A child is told which case really comes next, and leaves nothing of a module set up for another one."""
    for name in "abcd":
        suite.case(
            """
            import pytest

            @pytest.fixture(scope="module", autouse=True)
            def of_the_module():
                yield

            @pytest.mark.parametrize("number", range(6))
            def test_it(hal_device, number): ...
            """,
            name=f"test_{name}",
        )
    result = suite.run_child("--backend=reference", "--isolate", *arguments)
    result.assert_outcomes(passed=24)


def test_fixtures_of_a_wider_scope_are_made_once_in_a_process(suite):
    suite.case(
        """
        import pytest

        made = []

        @pytest.fixture(scope="module")
        def once():
            made.append(1)
            yield
            print("torn down", len(made))

        @pytest.mark.parametrize("number", range(3))
        def test_it(hal_device, once, number):
            assert len(made) == 1
        """
    )
    result = suite.run_child("--backend=reference", "--isolate", "-s")
    result.assert_outcomes(passed=3)
    assert result.stdout.str().count("torn down 1") == 1


def test_a_child_that_does_not_start_is_an_error_of_the_harness(suite):
    suite.case("def test_it(hal_device): ...\ndef test_b(hal_device): ...\ndef test_c(hal_device): ...\n")
    suite.pytester.makeconftest(
        "import os\n"
        "def pytest_sessionstart(session):\n"
        "    if hasattr(session.config, 'hal_child_input'):\n"
        "        raise RuntimeError('not in a child')\n"
    )
    result = suite.run_child("--backend=reference", "--isolate", "--hal-report=report.json")
    assert result.ret == 1
    report = json.loads((suite.pytester.path / "report.json").read_text())
    assert {case["outcome"] for case in report["cases"]} == {"error"}
    result.stdout.fnmatch_lines(["*not in a child*"])


def is_gone(process):
    """Wait until a process has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":  # nobody here waits for the children of a process that was killed
            return
        time.sleep(0.01)
    pytest.fail("the child is still there")


def test_ctrl_c_leaves_nobody_behind(suite):
    suite.case(
        """
        import os, signal
        from pathlib import Path

        def test_it(hal_device):
            Path("child").write_text(str(os.getpid()))
            os.kill(os.getppid(), signal.SIGINT)
            while True:
                signal.pause()
        """
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background may ignore it
    try:
        result = suite.run_child("--backend=reference", "--isolate")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.ret == 2
    is_gone(int((suite.pytester.path / "child").read_text()))


def test_ctrl_c_while_the_process_is_ending_ends_it(pytestconfig, monkeypatch):
    """Nobody else knows the process by then."""
    done = []

    class Child:
        def end(self):
            raise KeyboardInterrupt

        def kill(self):
            done.append("kill")

        def close(self):
            done.append("close")

    supervisor = Supervisor(pytestconfig, 10.0)
    monkeypatch.setattr(supervisor, "_child", Child())
    with pytest.raises(KeyboardInterrupt):
        supervisor.close()
    assert done == ["kill", "close"]


def test_the_summary_is_printed_though_ctrl_c_cuts_the_end_of_the_process_short(suite):
    suite.pytester.makeconftest(
        """
        from pytest_cuda2hal.isolation.supervisor import Supervisor

        close = Supervisor.close

        def interrupted(self):
            close(self)
            raise KeyboardInterrupt

        Supervisor.close = interrupted
        """
    )
    suite.case("def test_it(hal_device): pass")
    result = suite.run_child("--backend=reference", "--isolate")
    result.stdout.fnmatch_lines(["*HAL conformance*", "reference: 1 pass"])
    assert result.ret != 0


def test_a_killed_run_leaves_nothing_behind(suite, monkeypatch):
    """Not even a child that holds the interpreter's lock, or a file."""
    temporary = suite.pytester.mkdir("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))
    suite.case(
        """
        import ctypes, os, signal
        from pathlib import Path

        def test_it(hal_device):
            Path("child").write_text(str(os.getpid()))
            ctypes.PyDLL(None).kill(os.getppid(), signal.SIGKILL)
            while True:
                ctypes.PyDLL(None).pause()
        """
    )
    suite.run_child("--backend=reference", "--isolate")
    is_gone(int((suite.pytester.path / "child").read_text()))
    assert not list(temporary.glob("pytest-cuda2hal-*"))


def test_a_case_that_fails_leaves_the_process_to_the_next_if_a_new_device_works(suite):
    suite.case(
        """
        import os
        from pathlib import Path

        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_it(hal_device, number):
            Path(f"pid{number}").write_text(str(os.getpid()))
            assert False
        """
    )
    suite.run_child("--backend=reference", "--isolate").assert_outcomes(failed=3)
    assert len({(suite.pytester.path / f"pid{number}").read_text() for number in range(3)}) == 1


SLEEPING = """
    import time

    def test_before(hal_device): ...

    def test_it(hal_device):
        time.sleep(600)

    def test_after(hal_device): ...
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--timeout=2",),
        ("--timeout=2", "--timeout-method=thread"),
        ("-o", "timeout=2"),
        ("-o", "faulthandler_timeout=2", "-o", "faulthandler_exit_on_timeout=true", "--hal-case-deadline=3"),
    ],
    ids=" ".join,
)
def test_other_watchdogs_end_a_case_and_not_the_run(suite, arguments):
    if "timeout=2" in arguments[-1] and "faulthandler" not in arguments[-1]:
        pytest.importorskip("pytest_timeout")
    if "faulthandler_exit_on_timeout=true" in arguments and pytest.version_tuple < (9,):
        arguments = arguments[-1:]
    suite.case(SLEEPING)
    result = suite.run_child("--backend=reference", "--isolate", "--hal-report=report.json", *arguments)
    assert result.ret == 1
    cases = json.loads((suite.pytester.path / "report.json").read_text())["cases"]
    assert {case["case"]: case["outcome"] for case in cases} == {
        "test_it::test_before": "pass",
        "test_it::test_it": "hang",
        "test_it::test_after": "pass",
    }
