"""The child: pytest with the arguments of the run, which waits to be told which case to run."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import signal
import sys
import threading
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import pytest

from ..case import CaseState
from ..identity import case_key
from ..observation.journal import Journal, set_journal
from ..plugin import is_case
from ..report import plain
from ..run import CHILD_INPUT, run_of
from ..running import spec_of
from .output import marker

#: Seconds by which the C watchdog is later than the supervisor's deadline, who looks at the process first, unless it is
#: busy with the reports of the case before.
WATCHDOG_DELAY = 3.0
_PR_SET_PDEATHSIG = 1
#: Seconds that a device may take to show that the process is still good for the next case.
HEALTH_DEADLINE = 2.0


def main() -> None:
    """Entry point of the process: what it is to do comes first on its connection, as JSON."""
    descriptor, supervisor = map(int, sys.argv[2:])
    _die_with(supervisor)
    os.set_inheritable(descriptor, False)
    connection: Connection[Any, Any] = Connection(descriptor)
    os.register_at_fork(after_in_child=connection.close)
    try:
        settings: dict[str, Any] = json.loads(connection.recv_bytes())
    except (EOFError, OSError):
        sys.exit(0)  # it was started too early, and nobody needs it
    # Capturing is the supervisor's: what a process that dies had captured by itself would be lost.
    arguments = [*settings["arguments"], *(["--capture=no"] if settings["captures"] else [])]
    with open(settings["stacks"], "w", encoding="utf-8") as stacks:  # noqa: PTH123 - its descriptor is what counts
        child = Child(connection, settings, stacks)
        pytest.main(arguments, plugins=[child])
        with contextlib.suppress(OSError):
            connection.close()
    sys.exit(0)


def _die_with(supervisor: int) -> None:
    """Let Linux kill this process when its supervisor is killed, whatever a case is doing by then."""
    if sys.platform == "linux":
        with contextlib.suppress(Exception):  # another C library: the end of the connection ends the process, too
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            sys.exit(1)


def _promotions() -> int:
    """Count how often Python has taken what was young for old: a full collection does so as well."""
    return sum(generation["collections"] for generation in gc.get_stats()[1:])


class WithoutSummary:
    """A terminal reporter that has no hooks, for whoever asks for one when the cases are over.

    Nobody would see its summary, of which plugins are asked all the same, and some import all of themselves for that.
    """

    def __init__(self, reporter: object) -> None:
        self._reporter = reporter

    def __getattr__(self, name: str) -> Any:
        if name.startswith("pytest_"):
            raise AttributeError(name)
        return getattr(self._reporter, name)


class Child:
    """The plugin that turns a pytest session into one that is told what to run."""

    def __init__(self, connection: Connection[Any, Any], settings: dict[str, Any], stacks: IO[str]) -> None:
        self._connection = connection
        self._settings = settings
        self._stacks = stacks
        self._config: pytest.Config
        self._item: pytest.Item
        self._printed_to = sys.stdout
        self._marker = marker(settings["token"])
        self._nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open as long as the process
        self._limit = 0.0
        self._journal = Journal.create(Path(settings["journal"])) if settings["journal"] else None
        if self._journal is not None:
            os.register_at_fork(after_in_child=self._journal.leave)
        self._deviated: list[str] = []
        #: Whether the next case, which the supervisor may have sent already, is to follow without another word.
        self._goes_on = False
        #: The report of a teardown that went well, which goes with the news that the case is done: each message wakes
        #: somebody.
        self._kept: dict[str, Any] = {}

    # --- a session of this kind

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> None:
        """Write no files of a run and begin no workers: both are the supervisor's."""
        self._config = config
        config.__dict__[CHILD_INPUT] = self._settings["input"]
        quiet = {
            "numprocesses": None,
            "maxprocesses": None,
            "dist": "no",
            "tx": [],
            "distload": False,
            "looponfail": False,
            "usepdb": False,
            "maxfail": 0,
            "no_summary": True,  # nobody would see it, and what makes it up takes time
            "basetemp": self._settings["basetemp"],
            "xmlpath": None,
            "htmlpath": None,
            "json_report": False,
            "report_log": None,
            **self._settings["options"],
        }
        for name, value in quiet.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
        # For pytest's terminal reporter, which is made next: what reaches the real one is what the cases print.
        self._printed_to, sys.stdout = sys.stdout, self._nowhere

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        """Write stacks where they survive the process; pytest's own plugin has had its turn."""
        sys.stdout = self._printed_to
        more: dict[str, Any] = {"c_stack": True} if sys.version_info >= (3, 14) else {}
        faulthandler.enable(file=self._stacks, all_threads=True, **more)
        set_journal(self._journal)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look like a pytest-xdist worker to plugins that keep what a run came to, such as pytest's own cache."""
        if not hasattr(session.config, "workerinput"):
            session.config.__dict__["workerinput"] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run what the supervisor says until it says no more, or has gone."""
        items = {case_key(item): item for item in session.items if is_case(item)}
        self._tell({"ready": sorted(items)})
        while (command := self._next()) is not None and "end" not in command:
            if self._goes_on or "ahead" not in command:
                self._run(command, items)
        plugins = session.config.pluginmanager
        reporter = plugins.unregister(name="terminalreporter")
        if reporter is not None:
            plugins.register(WithoutSummary(reporter), "terminalreporter")
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Pass on what went wrong before there were cases."""
        if report.failed:
            self._tell({"trouble": str(report.longrepr)[-4000:]})

    def pytest_internalerror(self, excrepr: object) -> None:
        """The same, for a defect of a plugin."""
        self._tell_kept()
        self._tell({"trouble": str(excrepr)[-4000:]})

    def pytest_runtest_logstart(self) -> None:
        """Arm the watchdog here, inside of pytest's own, of which there can be but one; others have no say."""
        if hasattr(self._config.hook, "pytest_timeout_cancel_timer"):
            self._config.hook.pytest_timeout_cancel_timer(item=self._item)
        faulthandler.dump_traceback_later(self._limit + WATCHDOG_DELAY, exit=True, file=self._stacks)

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: object
    ) -> None:
        """Hand a warning over."""
        self._tell(
            {
                "warning": str(warning_message.message),
                "category": warning_message.category.__name__,
                "filename": warning_message.filename,
                "line": warning_message.lineno,
                "when": when,
                "nodeid": nodeid,
                "location": location,
            }
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hand a report over."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        outcome = getattr(report, "hal_case", {}).get("outcome", "")
        if report.failed and outcome:
            self._deviated.append(outcome)
        self._goes_on = self._goes_on and not report.failed
        self._tell_kept()  # if some plugin runs a case several times
        self._kept = {"report": data}
        if report.when != "teardown" or report.failed:
            self._tell_kept()

    # --- one case

    def _run(self, command: dict[str, Any], items: dict[str, pytest.Item]) -> None:
        item, following = items.get(command["run"]), items.get(command["next"])
        if item is None:
            self._goes_on = False
            self._tell({"missing": command["run"]})
            return
        self._limit = command["limit"]
        self._deviated.clear()
        self._goes_on = True
        CaseState.forget(item)  # a flaky case runs several times
        self._tell({"begun": time.monotonic()})
        before = _promotions()
        self._item = item
        if self._journal is not None:
            self._journal.begin_case(command["run"])
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except pytest.exit.Exception as error:
            self._goes_on = False
            self._tell_kept()
            self._tell({"exit": str(error.msg), "code": error.returncode})
            return
        self._collect_garbage(before)
        replace = self._spoilt(item) if self._deviated else ""
        faulthandler.cancel_dump_traceback_later()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # whatever a case made of them
                stream.flush()
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):
                os.write(descriptor, self._marker)
        self._tell_kept({"done": True, "goes_on": self._goes_on, "replace": replace})

    def _collect_garbage(self, promotions: int) -> None:
        """Let go of what the case left in cycles: a device may hang or crash as it is destroyed, in this case's time.

        What the case has made is young, unless it failed, which pytest remembers, or made so much that some of it was
        promoted. Only then the old is looked at, too: that takes longer than many a case.
        """
        remembered = [name for name in ("last_type", "last_value", "last_traceback", "last_exc") if hasattr(sys, name)]
        for name in remembered:
            delattr(sys, name)
        # From 3.14 on to collect the young may be to look at some of the old instead.
        is_young = _promotions() == promotions and sys.version_info < (3, 14)
        gc.collect(1 if is_young and not remembered and self._goes_on else 2)

    def _spoilt(self, item: pytest.Item) -> str:
        """Say why the next case should not run in this process, after one that deviated; empty if it may."""
        for outcome in ("hang", "device lost"):
            if outcome in self._deviated:
                return f"it had a case that ended as '{outcome}'"
        seen: list[str] = []

        def try_a_device() -> None:
            from ..lifetime import health

            try:
                seen.append(health(run_of(item.config).resolve(spec_of(item))))
            except Exception as error:  # noqa: BLE001 - whatever it is, a new process is the answer
                seen.append(f"no new device could be tried: {type(error).__name__}: {error}")

        thread = threading.Thread(target=try_a_device, name="health", daemon=True)
        thread.start()
        thread.join(HEALTH_DEADLINE)
        return seen[0] if seen else f"a new device did nothing within {HEALTH_DEADLINE:g} s"

    # --- messages

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            text = json.dumps(message, default=str)
        except (TypeError, ValueError, RecursionError):  # what other plugins put on reports may be anything
            text = json.dumps(plain(message))
        with contextlib.suppress(OSError):
            self._connection.send_bytes(text.encode())

    def _tell_kept(self, more: dict[str, Any] | None = None) -> None:
        message, self._kept = self._kept | (more or {}), {}
        if message:
            self._tell(message)

    def _next(self) -> dict[str, Any] | None:
        try:
            command: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            return None  # the supervisor has gone, and so shall we
        return command
