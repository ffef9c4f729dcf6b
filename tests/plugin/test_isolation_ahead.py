"""The process of isolated cases goes on with the next case by itself, where that is sure to be asked for."""

from __future__ import annotations

import json

import pytest
from imperfect_backends import entries

CASES = """
    from pathlib import Path

    def test_a(hal_device):
        Path("a").touch()

    def test_b(hal_device):
        Path("b").touch()

    def test_c(hal_device):
        Path("c").touch()
"""


def run(suite, source, *arguments):
    suite.case(source)
    result = suite.run_child(
        *("--backend=reference", "--isolate", "--hal-report=report.json", "--hal-case-deadline=20", *arguments)
    )
    cases = json.loads((suite.pytester.path / "report.json").read_text())["cases"]
    return result, {case["case"].partition("::")[2]: case["outcome"] for case in cases}


def hook(suite, body):
    """Let the supervisor do something when the reports of a case are out; ``appears(path)`` waits for a file."""
    suite.pytester.makeconftest(
        """
        import time
        from pathlib import Path

        def pytest_configure(config):
            global supervises
            supervises = not hasattr(config, "hal_child_input")

        def pytest_sessionstart(session):
            global the_session
            the_session = session

        def appears(path):
            deadline = time.monotonic() + 10
            while not Path(path).exists():
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
            return True

        def pytest_runtest_logfinish(nodeid):
            if supervises:
                after(nodeid)

        def after(nodeid):
        """
        + body
    )


def test_the_next_case_runs_while_the_reports_are_dealt_with(suite):
    hook(
        suite,
        """
            if "test_a" in nodeid:
                assert appears("b"), "the next case did not begin"
                time.sleep(0.2)
                assert not Path("c").exists(), "the next but one has begun"
        """,
    )
    result, cases = run(suite, CASES)
    assert cases == dict.fromkeys(("test_a", "test_b", "test_c"), "pass")
    assert result.ret == 0


def test_after_a_failure_nothing_runs_unasked(suite):
    source = CASES.replace('Path("a").touch()', "raise AssertionError")
    result, cases = run(suite, source, "-x")
    assert cases == {"test_a": "fail"}
    assert not (suite.pytester.path / "b").exists()
    assert result.ret == 1


def test_a_run_that_is_ended_early_does_not_wait_for_what_it_began(suite):
    hook(
        suite,
        """
            if "test_a" in nodeid:
                assert appears("b")
                the_session.shouldstop = "enough"
        """,
    )
    source = CASES.replace("def test_c", "    import time; time.sleep(60)\n\n    def test_c")
    result, cases = run(suite, source)
    assert cases == {"test_a": "pass"}
    result.stdout.no_fnmatch_line("*did not end*")  # for which it would have been asked, and waited for
    result.stdout.fnmatch_lines(["*enough*"])


def test_a_plugin_that_has_other_plans_gets_the_cases_that_it_asks_for(suite):
    """It takes the second case away, whose process has begun it by then."""
    suite.pytester.makeconftest(
        """
        import pytest

        class OtherPlans:
            @pytest.hookimpl(tryfirst=True)
            def pytest_runtest_protocol(self, item):
                return True if "test_b" in item.nodeid else None

        def pytest_collection_finish(session):  # late, to be asked before everybody else
            if not hasattr(session.config, "hal_child_input"):
                session.config.pluginmanager.register(OtherPlans())
        """
    )
    _, cases = run(suite, CASES)
    assert cases == {"test_a": "pass", "test_c": "pass"}


@pytest.mark.parametrize("repeated", ["test_a", "test_b", "test_c"])
def test_flaky_cases_run_as_often_as_they_should(suite, repeated):
    (suite.pytester.path / "known.toml").write_text(entries((f"test_it::{repeated}", "fail"), rate=0.5))
    source = CASES
    for name in "abc":
        source = source.replace(f'Path("{name}").touch()', f'Path("{name}").open("a").write("x")')
    run(suite, source, "--baseline=known.toml")
    written = {name: len((suite.pytester.path / name).read_text()) for name in "abc"}
    assert written == {name: 7 if repeated.endswith(name) else 1 for name in "abc"}


def test_a_hang_ahead_is_timed_from_its_beginning(suite):
    """The supervisor is busy with the reports of the case before, for longer than the next one may take."""
    hook(
        suite,
        """
            if "test_a" in nodeid:
                assert appears("b")
                time.sleep(1.5)
        """,
    )
    source = CASES.replace("def test_c", "    import time; time.sleep(60)\n\n    def test_c")
    suite.case(source)
    suite.run_child("--backend=reference", "--isolate", "--hal-report=report.json", "--hal-case-deadline=1")
    cases = {case["case"]: case for case in json.loads((suite.pytester.path / "report.json").read_text())["cases"]}
    assert cases["test_it::test_b"]["outcome"] == "hang"
    assert cases["test_it::test_b"]["seconds"] > 3.5  # the limit, and 3 s for the watchdog
    assert cases["test_it::test_c"]["outcome"] == "pass"


def test_a_failed_teardown_is_known_whatever_follows(suite):
    suite.pytester.makeconftest(
        """
        import os

        def pytest_runtest_logfinish(nodeid):
            if ending:
                os._exit(7)

        def pytest_configure(config):
            global ending
            ending = hasattr(config, "hal_child_input")
        """
    )
    result, _ = run(
        suite,
        """
        import pytest

        @pytest.fixture
        def thing():
            yield
            raise AssertionError("what the teardown saw")

        def test_it(hal_device, thing): ...
        """,
    )
    result.stdout.fnmatch_lines(["*what the teardown saw*"])
