"""The first process for isolated cases: it starts before the run collects, and leaves nothing where none is needed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

#: The supervisor does not end its collection before the other process has begun, up to a limit; at its own end it
#: says whether that process is still there.
CONFTEST = """
    import os, time
    from pathlib import Path

    def pytest_configure(config):
        global supervises
        supervises = not hasattr(config, "hal_child_input")
        if not supervises:
            Path("begun").mkdir(exist_ok=True)
            Path("begun", str(os.getpid())).touch()

    def pytest_collection_modifyitems():
        deadline = time.monotonic() + 20
        while supervises and time.monotonic() < deadline and not Path("begun").exists():
            time.sleep(0.01)
        if supervises and Path("begun").exists():
            Path("together").touch()
        if supervises and Path("interrupt").exists():
            raise KeyboardInterrupt

    def pytest_unconfigure():
        if supervises and any(Path("/proc", one.name).exists() for one in Path("begun").glob("*")):
            Path("left").touch()
"""
CASES = "def test_it(hal_device): ...\ndef test_too(hal_device): ...\n"


@pytest.fixture
def temporary(suite, monkeypatch):
    """Where the processes of a run put what is temporary; also makes the conftest."""
    suite.pytester.makeconftest(CONFTEST)
    folder = Path(tempfile.mkdtemp(dir=suite.pytester.path))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_both_processes_collect_at_the_same_time(suite, temporary):
    suite.case(CASES)
    result = suite.run_child("--backend=reference", "--isolate")
    result.assert_outcomes(passed=2)
    here = suite.pytester.path
    assert (here / "together").exists()
    assert not (here / "left").exists()
    assert not list(temporary.glob("pytest-cuda2hal-*"))


@pytest.mark.parametrize(
    ("what", "arguments", "code"),
    [
        ("nothing is selected", ("-k", "nothing"), 5),
        ("the collection fails", (), 2),
        ("the user interrupts", (), 2),
        ("the first case needs another process", ("-k", "alloca"), 0),
    ],
)
def test_a_process_that_is_not_needed_leaves_nothing(suite, temporary, what, arguments, code):
    suite.case(CASES)
    here = suite.pytester.path
    if what == "the collection fails":
        suite.case("1 / 0\n", name="test_broken")
    elif what == "the user interrupts":
        (here / "interrupt").touch()
    result = suite.run_child("--backend=reference", "--backend=faulty:alloca-blocks", "--isolate", *arguments)
    assert result.ret == code
    assert (here / "begun").exists(), "there was none"
    assert not (here / "left").exists()
    assert not result.stderr.str().strip()
    assert "note:" not in result.stdout.str()
    assert not list(temporary.glob("pytest-cuda2hal-*"))


def test_the_process_starts_before_the_backends_are_probed(suite):
    """A backend of a hook is probed in the process of the run: its first opening sees the other process."""
    suite.pytester.makeconftest(
        """
        import os
        from pathlib import Path

        from minimal_backend import HostDevice
        from pytest_cuda2hal.hal import Backend

        def open_it():
            if not Path("children").exists():
                Path("children").write_text(Path(f"/proc/self/task/{os.getpid()}/children").read_text())
            return HostDevice()

        def pytest_hal_backends(config):
            return [Backend(name="hooked", summary="", open=open_it, native=True)]
        """
    )
    suite.case(CASES)
    suite.run_child("--backend=hooked").assert_outcomes(passed=2)
    assert len((suite.pytester.path / "children").read_text().split()) == 1


def test_a_failed_probe_leaves_no_process(suite):
    suite.pytester.makeconftest(
        """
        import os
        from pathlib import Path

        import pytest

        @pytest.hookimpl(trylast=True)
        def pytest_unconfigure():
            Path("children").write_text(Path(f"/proc/self/task/{os.getpid()}/children").read_text())
        """
    )
    suite.case(CASES)
    result = suite.run_child("--backend=reference", "--backend=cuda:device=99", "--isolate")
    assert result.ret == 4
    assert (suite.pytester.path / "children").read_text() == ""


def test_what_plugins_set_before_the_collection_reaches_the_process(suite):
    suite.pytester.makeconftest(
        """
        import os

        def pytest_sessionstart(session):
            if not hasattr(session.config, "hal_child_input"):
                os.environ["SET_LATE"] = "yes"
        """
    )
    suite.case("import os\ndef test_it(hal_device):\n    assert os.environ['SET_LATE'] == 'yes'\n")
    suite.run_child("--backend=reference", "--isolate").assert_outcomes(passed=1)


@pytest.mark.parametrize("arguments", [("--no-isolate",), ("--isolate", "--collect-only"), ("--isolate", "-s")])
def test_no_process_begins_early(suite, arguments):
    """There will be none, or what it prints would be seen."""
    suite.case("print('collected', 'once')\n" + CASES)
    suite.pytester.makeconftest(CONFTEST.replace("+ 20", "+ 3"))
    result = suite.run_child("--backend=reference", "-k", "nothing", *arguments)
    assert result.ret == 5
    assert not (suite.pytester.path / "begun").exists()
    assert result.stdout.str().count("collected once") == ("-s" in arguments)


def test_a_given_folder_for_temporary_ones_is_not_made_for_nothing(suite):
    suite.case(CASES)
    result = suite.run_child("--backend=reference", "--isolate", "-k", "nothing", "--basetemp=base")
    assert result.ret == 5
    assert not (suite.pytester.path / "base").exists()
