"""Isolated cases on a backend with nothing wrong: what cases, plugins and their process do, and whose fault it is."""

from __future__ import annotations

import json
import time

import pytest


def outcomes(suite, source, *arguments):
    """Run cases in a process of their own; return the result, and the outcome of each."""
    suite.case(source)
    result = suite.run_child(
        *("--backend=reference", "--isolate", "--hal-report=report.json", "--hal-case-deadline=20", *arguments)
    )
    cases = json.loads((suite.pytester.path / "report.json").read_text())["cases"]
    return result, {case["case"].partition("::")[2]: case for case in cases}


def test_what_no_journal_would_have_told_is_not_missed(suite):
    """The process ended before there was a case."""
    suite.pytester.makeconftest(
        """
        import os

        def pytest_collection_finish(session):
            if hasattr(session.config, "hal_child_input"):
                os._exit(3)
        """
    )
    _, cases = outcomes(suite, "def test_it(hal_device): ...", "--no-journal")
    assert cases["test_it"]["outcome"] == "error"
    assert "are not known" not in cases["test_it"]["evidence"]


@pytest.mark.parametrize("more", [(), ("-p", "no:terminal")], ids=["as-usual", "no-terminal"])
def test_plugins_may_ask_for_the_terminal_to_the_end(suite, more):
    """They are not asked for a summary, which nobody would see."""
    suite.pytester.makeconftest(
        """
        import os, pathlib

        def note(config, what):
            if hasattr(config, "hal_child_input"):
                with open(pathlib.Path(__file__).with_name("noted"), "a") as file:
                    print(what, file=file)

        def pytest_terminal_summary(config):
            note(config, "summary")

        def pytest_sessionfinish(session):
            reporter = session.config.pluginmanager.get_plugin("terminalreporter")
            note(session.config, sorted(reporter.stats) if reporter else "no reporter")

        def pytest_unconfigure(config):
            if config.pluginmanager.get_plugin("terminalreporter"):
                config.get_terminal_writer().line("here")
            note(config, "end")
        """
    )
    result, cases = outcomes(suite, "def test_it(hal_device): ...", *more)
    assert cases["test_it"]["outcome"] == "pass"
    assert "after its last case" not in result.stdout.str() + result.stderr.str()
    noted = (suite.pytester.path / "noted").read_text().splitlines()
    assert noted == (["no reporter", "end"] if more else ["['', 'passed']", "end"])


def test_every_warning_may_be_an_error(suite, monkeypatch):
    """The process of the cases has imported this package before pytest is there to rewrite it, which is no news.

    Pytest looks for such modules where a distribution lists its files, which one that is installed in place does not.
    """
    suite.installed("[pytest11]\nodd = odd_backends\n", monkeypatch)
    record = suite.pytester.path / "site" / "odd_backends-1.0.dist-info" / "RECORD"
    record.write_text("pytest_cuda2hal/__init__.py,,\nodd_backends.py,,\n")
    suite.pytester.makeini("[pytest]\nfilterwarnings = error\n")
    _, cases = outcomes(suite, "def test_it(hal_device): ...", "-W", "error")
    assert (cases["test_it"]["outcome"], cases["test_it"]["message"]) == ("pass", "")


def test_a_crash_is_a_crash_also_where_the_hal_has_forked(suite):
    """A process that the HAL started has inherited the connection, and keeps it open."""
    begin = time.monotonic()
    _, cases = outcomes(
        suite,
        """
        import ctypes, os, time

        def test_it(hal_device):
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            ctypes.string_at(0)

        def test_after(hal_device): ...
        """,
    )
    assert time.monotonic() - begin < 20
    assert (cases["test_it"]["outcome"], cases["test_it"]["details"]["ending"]) == ("crash", "SIGSEGV")
    assert cases["test_after"]["outcome"] == "pass"


def test_what_a_plugin_does_wrong_is_an_error_and_no_crash(suite):
    suite.pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            report.timings = {("phase", call.when): 1.0}  # no JSON has such keys
            if "broken" in item.name:
                raise RuntimeError("a hook is broken")
            return report
        """
    )
    result, cases = outcomes(suite, "def test_it(hal_device): ...\ndef test_broken(hal_device): ...\n")
    assert cases["test_it"]["outcome"] == "pass"
    assert cases["test_broken"]["outcome"] == "error"
    assert "a hook is broken" in cases["test_broken"]["evidence"] + result.stdout.str()


def test_pytest_exit_ends_the_run(suite):
    suite.case("import pytest\ndef test_it(hal_device):\n    pytest.exit('no more GPUs today', returncode=77)\n")
    result = suite.run_child("--backend=reference", "--isolate")
    assert result.ret == 77
    result.stdout.fnmatch_lines(["*no more GPUs today*"])


def test_an_end_between_cases_is_no_fault_of_the_next(suite):
    suite.pytester.makeconftest(
        """
        import os, time
        from pathlib import Path

        def pytest_configure(config):
            global supervises
            supervises = not hasattr(config, "hal_child_input")

        def lives(process):
            try:
                return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                return False

        def pytest_runtest_logfinish(nodeid):  # in the supervisor, where the case is over now
            if supervises and "culprit" in nodeid:
                Path("over").touch()
                deadline = time.monotonic() + 10
                while lives(Path("child").read_text()) and time.monotonic() < deadline:
                    time.sleep(0.01)
        """
    )
    result, cases = outcomes(
        suite,
        """
        import os, threading, time
        from pathlib import Path

        def test_culprit(hal_device):
            Path("child").write_text(str(os.getpid()))
            hal_device.queue_execute([], signal=[hal_device.create_semaphore(111) @ 112])

            def late():
                while not os.path.exists("over"):
                    time.sleep(0.01)
                os.abort()

            threading.Thread(target=late, daemon=True).start()

        def test_innocent(hal_device):
            hal_device.queue_execute([], signal=[hal_device.create_semaphore(221) @ 222])
        """,
        "-s",  # so that the child does not go on by itself
    )
    assert {name: case["outcome"] for name, case in cases.items()} == {"test_culprit": "crash", "test_innocent": "pass"}
    assert "after test_it::test_culprit had ended" in cases["test_culprit"]["message"]
    operations = "\n".join(cases["test_culprit"]["details"]["operations"])
    assert "112" in operations
    assert "222" not in operations
    assert result.ret == 1


def test_an_ascii_terminal_may_be_shown_anything(suite, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    source = """
        import sys

        def test_a(hal_device):
            sys.stdout.buffer.write("ger\\u00e4t".encode())

        def test_b(hal_device):
            print("b")
        """
    _, cases = outcomes(suite, source, "-s")
    assert {case["outcome"] for case in cases.values()} == {"pass"}


def test_temporary_folders_below_a_given_one(suite):
    source = "def test_a(hal_device, tmp_path):\n    assert 'base' in str(tmp_path)\n"
    _, cases = outcomes(suite, source, "--basetemp=base")
    assert cases["test_a"]["outcome"] == "pass"


def test_nothing_runs_in_a_setup_only_run(suite):
    (suite.pytester.path / "b.toml").write_text(
        'version = 1\n[[deviation]]\ncase = "*"\noutcome = "fail"\nreason = "it is so"\n'
    )
    suite.case("def test_it(hal_device): ...\n")
    result = suite.run_child("--backend=reference", "--isolate", "--setup-only", "--baseline=b.toml")
    assert "INTERNALERROR" not in result.stdout.str()


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("import json\n    json.loads('{')", "error"),
        ("1 / 0", "error"),
        ("with pytest.raises(HalError, match='other'):\n        raise HalError(StatusCode.INTERNAL, 'this')", "fail"),
        ("assert 1 == 2", "fail"),
        ("hal_device.inner.query_nothing()", "error"),
    ],
)
def test_whose_error_it_is(suite, body, outcome):
    source = (
        f"import pytest\nfrom pytest_cuda2hal.hal import HalError, StatusCode\ndef test_it(hal_device):\n    {body}\n"
    )
    _, cases = outcomes(suite, source, "--no-isolate")
    assert cases["test_it"]["outcome"] == outcome


@pytest.mark.parametrize(
    ("then", "outcome", "stage"),
    [
        ("", "crash", "teardown"),
        ("kept = [[] for _ in range(30000)]", "crash", "teardown"),
        ("import gc; gc.collect()", "crash", "teardown"),
        ("assert False, 'as it is a case that fails'", "fail", "call"),
    ],
    ids=["young", "promoted", "collected", "failed"],
)
def test_what_a_case_leaves_in_a_cycle_is_destroyed_in_its_own_time(suite, then, outcome, stage):
    """A destructor that crashes, or hangs, is the doing of the case that left the object, not of the next one."""
    result, cases = outcomes(
        suite,
        f"""
        import os

        class Handle:
            def __init__(self):
                self.itself = self

            def __del__(self):
                os._exit(7)

        def test_leaves_a_handle(hal_device):
            handle = Handle()
            {then}

        def test_leaves_nothing(hal_device):
            pass
        """,
    )
    left = cases["test_leaves_a_handle"]
    assert (left["outcome"], left["details"]["stage"]) == (outcome, stage)
    result.stdout.fnmatch_lines(["ERROR *::test_leaves_a_handle* - the process ended itself *"])
    assert cases["test_leaves_nothing"]["outcome"] == "pass"
