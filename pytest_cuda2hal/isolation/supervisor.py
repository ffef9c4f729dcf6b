"""The supervisor: gives cases to a child, at most one ahead, and makes a report of whatever becomes of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ..identity import case_id, case_key
from ..observation.journal import JournalContent, read_journal
from ..outcome import Outcome
from ..run import run_of
from .child import WATCHDOG_DELAY
from .messages import pass_on_warning, report_of
from .options import basetemp, make_basetemp, own_limit, seeds, stop_timer
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
    #: What the journal says; empty where no case ran, or none was kept.
    journal: JournalContent = field(default_factory=JournalContent)
    last_healthy: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Ahead:
    """The case that pytest is sure to ask for next, and the one of its backend after that, if one comes."""

    item: pytest.Item
    following: pytest.Item | None


@dataclass(slots=True)
class Attempt:
    """What came of a case: the reports that its process sent, and how it ended if that was not as it should."""

    reports: list[pytest.TestReport] = field(default_factory=list)
    ended: Ended | None = None
    stdout: str = ""
    stderr: str = ""
    #: When it began, on ``time.monotonic``, if the child said that it did; ahead of the question for it, perhaps.
    begun: float = 0.0
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
        #: A child that is not ready yet, perhaps not even instructed, and its backend.
        self._begun: tuple[str, ChildProcess] | None = None
        self._known: set[str] = set()
        self._vain = 0
        #: The id of the newest case of this backend that passed, or nothing.
        self.last_healthy = ""
        #: The case that ended last in the child.
        self._last: pytest.Item | None = None
        #: What the child was told to run before anybody asked for it.
        self._ahead: dict[str, Any] | None = None
        #: Lines about processes that did not end as they should after their last case.
        self.notes: list[str] = []
        #: How many processes were started.
        self.started = 0

    def prepare(self, spec: str) -> None:
        """Start a process for a backend before anything else is known; what is wrong with it shows when it is used."""
        with contextlib.suppress(OSError):
            self._begun = spec, self._launch(spec)

    def begin(self, spec: str) -> None:
        """Let a process for a backend collect before it is needed; what is wrong with it shows when it is used."""
        with contextlib.suppress(OSError):
            self._begin(spec)

    def _begin(self, spec: str) -> ChildProcess:
        """Return the process that was begun for a backend, or a new one; it collects."""
        self.dismiss(unless=spec)
        if self._begun is not None:
            child = self._begun[1]
            # What plugins have set since belongs into its environment, where it has not begun to use it.
            is_stale = (child.environment, child.path) != (self._environment(spec), sys.path)
            if is_stale and not child.is_instructed:
                self.dismiss()
        if self._begun is None:
            self._begun = spec, self._launch(spec)
        child = self._begun[1]
        if not child.is_instructed:
            self._instruct(child)
        return child

    def dismiss(self, *, unless: str = "") -> None:
        """End a child that was started and is not needed, unless it is of a backend that is."""
        if self._begun is not None and self._begun[0] != unless:
            _, child = self._begun
            self._begun = None
            child.kill()
            child.close()

    def run(self, item: pytest.Item, spec: str, following: pytest.Item | None, ahead: Ahead | None = None) -> Attempt:
        """Run an item of a backend; ``following`` is the case of this backend that will come next, if one does.

        With ``ahead`` the child goes on to that case by itself if nothing was wrong with this one, so that it does not
        stand still while the reports are dealt with.
        """
        begin = time.monotonic()
        stop_timer(item)
        request = self._request(item, following)
        limit = request["limit"]
        try:
            child = self._ready_child(spec, request)
        except _NotReady as trouble:
            self._forget(kill=True)
            return Attempt(ended=Ended(Outcome.ERROR, str(trouble), when="setup", seconds=time.monotonic() - begin))
        if request["run"] not in self._known:
            self._forget(kill=True)
            what = f"the supervised process did not collect {item.nodeid}; collect the same cases in each process"
            return Attempt(ended=Ended(Outcome.ERROR, what, when="setup"))
        begin = time.monotonic()
        run = Attempt()
        replace = ""
        try:
            if self._ahead is None:
                child.send(request)
            self._ahead = None
            if ahead is not None:
                self._send_ahead(child, ahead)
            replace = self._follow(child, run, begin + limit, limit)
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
            run.ended.seconds = time.monotonic() - (run.begun or begin)
            run.ended.last_healthy = self.last_healthy
            self._forget(kill=True)
            return run
        run.stdout, run.stderr = child.output(ended=False)
        self._last = item
        if replace:
            self._forget(kill=True)  # what spoilt it may well keep it from its end
        if all(report.passed for report in run.reports):
            self.last_healthy = case_id(item)
        return run

    def _request(self, item: pytest.Item, following: pytest.Item | None) -> dict[str, Any]:
        limit = min(self._limit, own_limit(item) or self._limit)
        return {"run": case_key(item), "next": "" if following is None else case_key(following), "limit": limit}

    def _send_ahead(self, child: ChildProcess, ahead: Ahead) -> None:
        request = self._request(ahead.item, ahead.following)
        if request["run"] in self._known:
            with contextlib.suppress(ChildEnded):  # which shows as soon as the child is listened to
                child.send({**request, "ahead": True})
                self._ahead = request

    def _after_an_end_between(self, item: pytest.Item, spec: str, following: pytest.Item | None) -> Attempt:
        """The child ended after the case before and before this one began: that is no fault of this one."""
        child = self._child
        assert child is not None
        ended = self._examine(child, "", self._limit)
        self._forget(kill=True)
        before, self._last = self._last, None
        if before is None:  # there is no case to blame
            return Attempt(ended=Ended(Outcome.ERROR, f"{ended.what} before its first case began", when="setup"))
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

    def begin_to_close(self) -> None:
        """Let the child come to its end."""
        if self._child is not None and self._ahead is None:
            self._child.ask_to_end()

    def close(self) -> None:
        """End the child; if it does not end as it should, a note says so."""
        self.dismiss()
        self._forget()

    # --- the child

    def _ready_child(self, spec: str, request: dict[str, Any]) -> ChildProcess:
        if self._child is not None and self._spec != spec:
            self._forget()
            self.last_healthy = ""
        if self._ahead not in (None, request):  # some plugin has other plans than pytest had
            self._forget(kill=True)
        if self._child is None:
            if self._vain >= MOST_STARTS_IN_VAIN:
                raise _NotReady("the process for the cases of this run does not start; see the first such case")
            self._vain += 1
            self._child, self._spec = self._start(spec), spec
            self._vain = 0
        return self._child

    def _start(self, spec: str) -> ChildProcess:
        """Return a child of a backend that is ready: the one that was begun, if it is of this one, or a new one."""
        try:
            child = self._begin(spec)
        except OSError as error:
            raise _NotReady(f"the process for the cases of this run cannot be started: {error}") from None
        if self._config.option.basetemp:
            make_basetemp(self._config)
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
        child = ChildProcess(
            environment=self._environment(spec),
            folder=str(self._config.invocation_params.dir),
            echo=self._config.getoption("capture", None) == "no",
            journal=run_of(self._config).settings.journal,
        )
        self.started += 1
        return child

    def _instruct(self, child: ChildProcess) -> None:
        """Let a child begin, which goes on to collect by itself."""
        config = self._config
        child.instruct(
            {
                "arguments": [str(argument) for argument in config.invocation_params.args],
                "input": {"hal_probes": [dataclasses.asdict(answer) for answer in run_of(config).probes()]},
                "options": seeds(config),
                "basetemp": basetemp(config, self.started),
                "captures": config.getoption("capture", None) is not None,
            }
        )

    def _environment(self, spec: str) -> dict[str, str]:
        from ..spreading import environment_for

        return {**os.environ, **environment_for(self._config, spec)}

    def _forget(self, *, kill: bool = False) -> None:
        child, self._child = self._child, None
        # A run that was ended early, as by --maxfail, does not wait for what nobody will ask for.
        kill, self._ahead = kill or self._ahead is not None, None
        if child is None:
            return
        try:
            if kill:
                child.kill()
                return
            status = child.end()
            if status is None:
                self.notes.append(f"{self._spec}: a process did not end after its last case and was killed")
            elif status:
                self.notes.append(f"{self._spec}: a process ended with {ending(status)} after its last case")
        except BaseException:  # Ctrl-C: nobody knows it any more
            child.kill()
            raise
        finally:
            child.close()

    # --- a case

    def _follow(self, child: ChildProcess, run: Attempt, end: float, limit: float) -> str:
        """Take what the child says of a case, to its end; return why the child should be replaced, or nothing."""
        while True:
            message = child.receive(end - time.monotonic())
            if message is None:
                self._insist(child, end)
            elif "begun" in message:
                run.begun = message["begun"]
                end = min(end, run.begun + limit)
            elif "trouble" in message:
                raise _Trouble(message["trouble"])
            elif "missing" in message:
                raise _Trouble(f"the supervised process does not know {message['missing']}")
            elif "exit" in message:
                pytest.exit(message["exit"], message["code"])
            elif "warning" in message:
                pass_on_warning(self._config, message)
            else:
                if "report" in message:
                    run.reports.append(report_of(self._config, message["report"]))
                if "done" in message:
                    if not message["goes_on"]:
                        self._ahead = None
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
        """Say how a case ended its process, while that can be read: the next child may have the same descriptors."""
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
        return Ended(outcome, what, how, "call", stacks, native, out, err, read_journal(child.journal))


class _NotReady(Exception):
    """There is no child to run cases in."""


class _Trouble(Exception):
    """The child's pytest session is broken."""


class _Hangs(Exception):
    """A case did not end in time."""

    def __init__(self, native: str) -> None:
        super().__init__(native)
        self.native = native or "(nothing can be said of the process's native stacks here)"


def _next_phase(reports: Sequence[pytest.TestReport]) -> str:
    if not reports:
        return "setup"
    return "call" if reports[-1].when == "setup" and reports[-1].passed else "teardown"
