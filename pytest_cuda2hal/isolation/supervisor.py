"""The supervisor: gives cases to a child, one at a time, and makes a report of whatever becomes of it."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ..identity import case_id, case_key
from ..outcome import Outcome
from ..plugin import run_of
from .child import WATCHDOG_DELAY
from .process import START_DEADLINE, ChildEnded, ChildProcess, ending
from .stacks import native_stacks

#: Seconds by which the supervisor is later than the child's own watchdog.
KILL_DELAY = 3.0
#: Seconds until a process whose connection broke has ended.
_ENDING = 5.0
#: A child that ends before it is ready is started anew so often before the cases left are given up.
MOST_STARTS_IN_VAIN = 2


@dataclass(slots=True)
class Ended:
    """How a case ended its process, or would not let it go on: what the supervisor saw from outside."""

    outcome: Outcome
    #: One line: ``the process crashed (SIGSEGV)``.
    what: str
    #: A signal's name, ``exit code 3``, or nothing where there was no end.
    ending: str = ""
    #: The phase during which it happened: setup, call or teardown.
    when: str = "call"
    python_stacks: str = ""
    native_stacks: str = ""
    stdout: str = ""
    stderr: str = ""
    #: Where the journal of the case's operations can be read, until the process is forgotten.
    journal: str = ""
    last_healthy: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Run:
    """What came of a case: the reports that its process sent, and how it ended if that was not as it should."""

    reports: list[pytest.TestReport] = field(default_factory=list)
    ended: Ended | None = None
    stdout: str = ""
    stderr: str = ""
    #: Whether the child said that it began.
    begun: bool = False
    #: The case before, if its process turned out to have ended after it, and how.
    before: tuple[pytest.Item, Ended] | None = None


class Supervisor:
    """Runs items in children of a pytest run.

    :param limit: seconds that a case may take.
    """

    def __init__(self, config: pytest.Config, limit: float) -> None:
        self._config = config
        self._limit = limit
        self._child: ChildProcess | None = None
        self._spec = ""
        #: A child that is not ready yet, and its backend.
        self._begun: tuple[str, ChildProcess] | None = None
        self._known: set[str] = set()
        self._vain = 0
        #: The id of the newest case of this backend that passed, or nothing.
        self.last_healthy = ""
        #: The case that ended last in the child.
        self._last: pytest.Item | None = None
        #: Lines about processes that did not end as they should after their last case.
        self.notes: list[str] = []
        #: How many processes were started.
        self.started = 0

    def begin(self, spec: str) -> None:
        """Start a child for a backend before it is needed; what is wrong with it shows when it is."""
        with contextlib.suppress(OSError):
            self._begun = spec, self._launch(spec)

    def dismiss(self, *, unless: str = "") -> None:
        """End a child that was started and is not needed, unless it is of a backend that is."""
        if self._begun is not None and self._begun[0] != unless:
            _, child = self._begun
            self._begun = None
            child.kill()
            child.close()

    def run(self, item: pytest.Item, spec: str, following: pytest.Item | None) -> Run:
        """Run an item of a backend; ``following`` is the case of this backend that will come next, if one does."""
        begin = time.monotonic()
        limit = min(self._limit, _own_limit(item) or self._limit)
        try:
            child = self._ready_child(spec)
        except _NotReady as trouble:
            return Run(ended=Ended(Outcome.ERROR, str(trouble), when="setup", seconds=time.monotonic() - begin))
        key = case_key(item)
        if key not in self._known:
            what = f"the supervised process did not collect {item.nodeid}; collect the same cases in each process"
            return Run(ended=Ended(Outcome.ERROR, what, when="setup"))
        begin = time.monotonic()
        run = Run()
        replace = ""
        try:
            after = case_key(following) if following is not None else ""
            child.send({"run": key, "next": after, "limit": limit})
            replace = self._follow(child, run, begin + limit)
        except ChildEnded:
            if not run.begun:
                return self._after_an_end_between(item, spec, following)
            run.ended = self._examine(child, "", limit)
        except _Hangs as hang:
            run.ended = self._examine(child, hang.native, limit)
        except _Trouble as trouble:
            run.ended = Ended(Outcome.ERROR, str(trouble), stderr=self._end_in_trouble(child))
        except BaseException:  # Ctrl-C: nobody will ask for this child again
            self._forget(kill=True)
            raise
        if run.ended is not None:
            run.ended.when = _next_phase(run.reports)
            run.ended.seconds = time.monotonic() - begin
            run.ended.last_healthy = self.last_healthy
            return run
        run.stdout, run.stderr = child.output(ended=False)
        self._last = item
        if replace:
            self._forget(kill=True)  # what spoilt it may well keep it from its end
        if all(report.passed for report in run.reports):
            self.last_healthy = case_id(item)
        return run

    def _after_an_end_between(self, item: pytest.Item, spec: str, following: pytest.Item | None) -> Run:
        """The child ended after the case before and before this one began: that is no fault of this one."""
        child = self._child
        assert child is not None
        ended = self._examine(child, "", self._limit)
        self._forget(kill=True)
        before, self._last = self._last, None
        if before is None:  # there is no case to blame
            return Run(ended=Ended(Outcome.ERROR, f"{ended.what} before its first case began", when="setup"))
        ended.what += f", after {case_id(before)} had ended"
        ended.when = "teardown"
        run = self.run(item, spec, following)
        run.before = (before, ended)
        return run

    def _end_in_trouble(self, child: ChildProcess) -> str:
        """End a child whose pytest session is broken; return what it printed on standard error."""
        child.wait(1.0)
        child.kill()
        return child.output(ended=True)[1]

    def close(self) -> None:
        """End the child; if it does not end as it should, a note says so."""
        self.dismiss()
        self._forget()

    def forget_examined(self) -> None:
        """Let go of a child that ended: its journal has been read."""
        self._forget(kill=True)

    # --- the child

    def _ready_child(self, spec: str) -> ChildProcess:
        if self._child is not None and self._spec != spec:
            self._forget()
            self.last_healthy = ""
        if self._child is None:
            if self._vain >= MOST_STARTS_IN_VAIN:
                raise _NotReady("the process for the cases of this run does not start; see the first such case")
            self._vain += 1
            self._child, self._spec = self._start(spec), spec
            self._vain = 0
        return self._child

    def _start(self, spec: str) -> ChildProcess:
        """Return a child of a backend that is ready: the one that was begun, if it is of this one, or a new one."""
        self.dismiss(unless=spec)
        if self._begun is None:
            try:
                self._begun = spec, self._launch(spec)
            except OSError as error:
                raise _NotReady(f"the process for the cases of this run cannot be started: {error}") from None
        child = self._begun[1]
        if self._config.option.basetemp:
            _make_basetemp(self._config)
        trouble: list[str] = []
        deadline = time.monotonic() + START_DEADLINE
        try:
            while (message := child.receive(deadline - time.monotonic())) is not None:
                if "ready" in message:
                    self._known = set(message["ready"])
                    self._begun = None
                    child.keep_files()
                    return child
                if "warning" in message:
                    continue  # of the collection: this process has given it already
                trouble.append(message.get("trouble", ""))
        except ChildEnded:
            pass
        status = child.wait(1.0)
        child.kill()
        out, err = child.output(ended=True)
        self.dismiss()
        how = "it was not ready in time" if status is None else f"it ended before it was ready ({ending(status)})"
        printed = "\n".join(part for part in (*trouble, out, err) if part.strip())
        raise _NotReady(f"the process for the cases of this run: {how}\n{printed[-4000:]}".rstrip())

    def _launch(self, spec: str) -> ChildProcess:
        """Start a child, which goes on to collect by itself."""
        config = self._config
        number = self.started + 1
        arguments = {
            "arguments": [str(argument) for argument in config.invocation_params.args],
            "input": {"hal_probes": [dataclasses.asdict(answer) for answer in run_of(config).probes()]},
            "options": _seeds(config),
            "basetemp": _basetemp(config, number),
            "captures": config.getoption("capture", None) is not None,
        }
        child = ChildProcess(
            arguments,
            environment=self._environment(spec),
            folder=str(config.invocation_params.dir),
            echo=config.getoption("capture", None) == "no",
        )
        self.started = number
        return child

    def _environment(self, spec: str) -> dict[str, str]:
        from ..spreading import environment_for

        return {**os.environ, **environment_for(self._config, spec)}

    def _forget(self, *, kill: bool = False) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if kill:
            child.kill()
        else:
            status = child.end()
            if status is None:
                self.notes.append(f"{self._spec}: a process did not end after its last case and was killed")
            elif status:
                self.notes.append(f"{self._spec}: a process ended with {ending(status)} after its last case")
        child.close()

    # --- a case

    def _follow(self, child: ChildProcess, run: Run, end: float) -> str:
        """Take what the child says of a case, to its end; return why the child should be replaced, or nothing."""
        while True:
            message = child.receive(end - time.monotonic())
            if message is None:
                self._insist(child, end)
            elif "begun" in message:
                run.begun = True
            elif "trouble" in message:
                raise _Trouble(message["trouble"])
            elif "missing" in message:
                raise _Trouble(f"the supervised process does not know {message['missing']}")
            elif "exit" in message:
                pytest.exit(message["exit"], message["code"])
            elif "report" in message:
                run.reports.append(_report(self._config, message["report"]))
            elif "warning" in message:
                pass_on_warning(self._config, message)
            elif "done" in message:
                return str(message["replace"])

    def _insist(self, child: ChildProcess, over: float) -> None:
        """The time is over: look where everything is, let the child's watchdog write its stacks, and end it.

        :raises _Hangs: always.
        """
        native = native_stacks(child.pid)
        end = max(over + WATCHDOG_DELAY, time.monotonic()) + KILL_DELAY
        while time.monotonic() < end and child.wait(0.05) is None:
            pass
        raise _Hangs(native)

    def _examine(self, child: ChildProcess, native: str, limit: float) -> Ended:
        """Say how a case ended its process. The child stays until :meth:`forget_examined`, for its journal's sake."""
        status = child.wait(_ENDING)
        stubborn = status is None
        status = child.kill()
        out, err = child.output(ended=True)
        stacks = child.written_stacks()
        if native or stubborn or stacks.startswith("Timeout ("):
            what = f"the case did not end within {limit:g} s, and its process had to be ended"
            outcome, how = Outcome.HANG, ""
        else:
            how = ending(status)
            what = f"the process crashed ({how})" if status < 0 else f"the process ended itself ({how})"
            outcome = Outcome.CRASH
        return Ended(outcome, what, how, "call", stacks, native, out, err, str(child.journal))


class _NotReady(Exception):
    """There is no child to run cases in."""


class _Trouble(Exception):
    """The child's pytest session is broken."""


class _Hangs(Exception):
    """A case did not end in time."""

    def __init__(self, native: str) -> None:
        super().__init__(native)
        self.native = native or "(nothing can be said of the process's native stacks here)"


def _report(config: pytest.Config, data: dict[str, Any]) -> pytest.TestReport:
    """Make a report of what came as JSON, which knows no tuples."""
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=data)
    if isinstance(report.longrepr, list):
        report.longrepr = tuple(report.longrepr)
    path, line, name = report.location
    report.location = (path, line, name)
    report.sections = [(name, text) for name, text in report.sections]
    report.user_properties = [(name, value) for name, value in report.user_properties]
    return report


def pass_on_warning(config: pytest.Config, told: dict[str, Any]) -> None:
    """Give a warning of the child's to this process's summary."""
    found = getattr(builtins, told["category"], None) or getattr(pytest, told["category"], None)
    category = found if isinstance(found, type) and issubclass(found, Warning) else UserWarning
    location = told["location"]
    config.hook.pytest_warning_recorded.call_historic(
        kwargs={
            "warning_message": warnings.WarningMessage(
                category(told["warning"]), category, told["filename"], told["line"]
            ),
            "when": told["when"],
            "nodeid": told["nodeid"],
            "location": tuple(location) if location else None,
        }
    )


def _next_phase(reports: Sequence[pytest.TestReport]) -> str:
    if not reports:
        return "setup"
    return "call" if reports[-1].when == "setup" and reports[-1].passed else "teardown"


def _seeds(config: pytest.Config) -> dict[str, Any]:
    """Return the options of other plugins that a child must have as this process has them by now."""
    seed = getattr(config.option, "randomly_seed", None)
    return {"randomly_seed": seed} if isinstance(seed, int) else {}


def _own_limit(item: pytest.Item) -> float | None:
    """Return the seconds that pytest-timeout gives a case, and stop its timer, which would end this process instead."""
    config = item.config
    if not hasattr(config.hook, "pytest_timeout_cancel_timer"):
        return None
    config.hook.pytest_timeout_cancel_timer(item=item)
    mark = item.get_closest_marker("timeout")
    given = (mark.args[0] if mark.args else mark.kwargs.get("timeout")) if mark is not None else None
    for text in (given, config.getoption("timeout", None), config.getini("timeout")):
        with contextlib.suppress(ValueError):
            if (seconds := float(text or 0)) > 0:
                return seconds
    return None


def _basetemp(config: pytest.Config, number: int) -> str | None:
    """Return a folder for a child's temporary ones, below this process's where that is given."""
    if not config.option.basetemp:
        return None
    return str(config.invocation_params.dir / config.option.basetemp / f"hal-child-{number}")


def _make_basetemp(config: pytest.Config) -> None:
    """Make the folder for temporary ones that is given, if this process has not: a child's is to be in it."""
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is not None:
        factory.getbasetemp()
