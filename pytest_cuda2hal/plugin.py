"""The pytest plugin: options, the session header, clause markers, evidence and the summary.

This module is imported by every pytest run of an environment in which the package is installed, so it imports the
standard library and pytest only, and does nothing until a run asks for a backend or collects a case.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from . import settings as _settings
from .run import PROBES_INPUT, RUN, Run

if TYPE_CHECKING:
    from .running import CaseRunner

#: The fixture whose use makes an item a case; every other fixture of ours that touches a HAL needs it.
_BACKEND_FIXTURE = "hal_backend"
_FIXTURES_MODULE = "pytest_cuda2hal.fixtures"
#: The attribute of a report under which a case's data travels with it, also between processes.
CASE_DATA = "hal_case"


def pytest_addoption(parser: pytest.Parser) -> None:
    _settings.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from . import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Generator[None, Any, Any]:
    """Add the short aliases last, when every other plugin and conftest has had its turn, and only if they are free."""
    result = yield
    _settings.add_aliases(parser)
    return result


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "hal_clause(*ids): the clauses of the HAL contract that the case checks")
    config.addinivalue_line("markers", "hal_requires(*capabilities): capabilities without which the case cannot run")
    run = config.stash[RUN] = Run(config)
    session = _Session(run, run.spec_texts())
    config.pluginmanager.register(session, "cuda2hal-session")
    if not run.is_child and run.settings.needs_reading:
        from .choices import read_choices

        read_choices(run)
    if "hal_devices" in getattr(config, "workerinput", {}):
        from .spreading import choose_here

        choose_here(config, run.spec_texts())
    if run.settings.explicit and not run.only_lists and not run.is_worker:
        session.prepare()
        run.probes()


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if not config.getoption("hal_list_backends"):
        return None
    from .listing import print_backends

    print_backends(Run(config).registry)
    return int(pytest.ExitCode.OK)


def is_case(item: pytest.Item) -> bool:
    """Whether an item runs on one of our backends: its `hal_backend` is ours, not an overriding one."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or _BACKEND_FIXTURE not in callspec.params:
        return False
    # pytest has no public way from an item to the definitions of its fixtures. The last one overrides those before it,
    # unless it asks for them by the same name.
    for definition in reversed(item._fixtureinfo.name2fixturedefs.get(_BACKEND_FIXTURE, ())):  # type: ignore[attr-defined]
        if definition.func.__module__ == _FIXTURES_MODULE:
            return True
        if _BACKEND_FIXTURE not in definition.argnames:
            break
    return False


class _Session:
    """The hooks of a running session."""

    def __init__(self, run: Run, specs: list[str]) -> None:
        self._run = run
        self._specs = specs
        self._runner: CaseRunner | None = None

    def _make_runner(self) -> CaseRunner:
        if self._runner is None:
            from .running import CaseRunner

            self._runner = CaseRunner(self._run)
        return self._runner

    def prepare(self) -> None:
        """Let the first process for isolated cases start while the backends are probed."""
        run = self._run
        # To know whether a backend that is given as package.module:Factory is native takes its import, which only a
        # probe should risk.
        from .registry import parse_spec

        if all(parse_spec(spec).name in run.registry.names() for spec in self._specs):
            with suppress(pytest.UsageError):  # the probes say it better
                if spec := self._isolated_here(run.config):
                    self._make_runner().prepare(spec)

    def pytest_unconfigure(self) -> None:
        """End what was started, and is not used because the run has come to nothing."""
        if self._runner is not None:
            self._runner.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a pytest-xdist worker what the probes said, and which of several devices it may use."""
        from .spreading import tell_worker

        node.workerinput[_settings.ORDER_INPUT] = self._run.settings.order_seed
        if (self._run.settings.explicit or self._run.baseline) and not self._run.only_lists:
            tell_worker(node, self._run, PROBES_INPUT)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Learn from a worker which cases there are: the controlling process of pytest-xdist collects none."""
        from .selection import NOTES_OUTPUT, SELECTION_OUTPUT, Selection

        output = getattr(node, "workeroutput", {})
        if told := output.get(SELECTION_OUTPUT):
            self._run.selection = Selection(**told)
        self._run.notes += output.get(NOTES_OUTPUT, [])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        from . import fixtures

        manager = session.config.pluginmanager
        manager.register(fixtures, "cuda2hal-fixtures")
        manager.register(fixtures.backend_fixture(self._specs, self._run.resolve), "cuda2hal-backend-fixture")

    def pytest_report_header(self) -> list[str]:
        run = self._run
        return run.header() if run.settings.explicit and not run.only_lists and not run.is_worker else []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Let the first process for isolated cases collect at the same time as this one."""
        if not (spec := self._isolated_here(session.config)):
            return (yield)
        runner = self._make_runner()
        wanted: list[pytest.Item] = []
        try:
            runner.begin(spec)
            result = yield
            if not session.testsfailed or session.config.option.continue_on_collection_errors:
                wanted = session.items
        finally:
            runner.keep_what_was_begun(wanted)
        return result

    def _isolated_here(self, config: pytest.Config) -> str:
        """Return the first backend that was asked for whose cases this process is going to have isolated, or nothing.

        The workers of pytest-xdist keep the processors busy as it is, and need not get a case. Where nothing is
        captured, what two processes print as they collect would be mixed.
        """
        run = self._run
        if not run.settings.explicit or run.is_worker or config.getoption("capture", None) == "no":
            return ""
        if getattr(config.option, "dist", "no") != "no":
            return ""
        return next((spec for spec in self._specs if run.isolates(spec)), "")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
        """See every case before anybody deselects, and select last."""
        collected = [item for item in items if is_case(item)]
        yield
        self._check_and_select(config, items)
        if collected and not self._run.is_child:
            from .selection import choose

            choose(self._run, config, items, collected)
            config.pluginmanager.register(self._make_runner(), "cuda2hal-runner")

    def _check_and_select(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        cases = [item for item in items if is_case(item)]
        if cases:
            from .collection import check_markers, mind_threads, select_clauses

            mind_threads(cases)

            try:
                check_markers(cases)
            except pytest.UsageError as error:
                if not self._run.is_worker:
                    raise
                # xdist takes a worker that ends here for a crash; a failed collection it reports, once for all workers.
                text = "\n".join(map(str, error.args))
                config.hook.pytest_collectreport(report=pytest.CollectReport("", "failed", text, []))
                items.clear()
            if self._run.settings.clauses:
                select_clauses(config, items, self._run.settings.clauses)

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        run = self._run
        if run.settings.explicit or run.only_lists or not any(is_case(item) for item in items):
            return []
        return run.header()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if is_case(item):
            from .evidence import complete_report

            complete_report(item, call, report)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A report about a case whose xdist worker died comes from xdist itself and carries nothing of ours.
        of_ours = str(report.when) == "???" or CASE_DATA in report.__dict__
        if of_ours and not self._run.is_worker:
            self._run.verdicts.add(report)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        # The process that cases ran in has come to its end while other plugins did what they do here.
        try:
            if self._runner is not None:
                self._runner.close()
        finally:  # also where Ctrl-C cut that short
            if self._run.has_verdicts:
                from .summary import print_summary

                print_summary(terminalreporter, self._run)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._runner is not None and self._run.is_worker:
            self._runner.close()  # what is to be said of its end goes to who controls this process, now or never
        if self._run.has_verdicts or self._run.settings.writes:
            from .finishing import finish

            finish(self._run, session)
