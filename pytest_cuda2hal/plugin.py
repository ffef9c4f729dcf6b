"""The pytest plugin: options, the session header, clause markers, evidence and the summary.

This module is imported by every pytest run of an environment in which the package is installed, so it imports the
standard library and pytest only, and does nothing until a run asks for a backend or collects a case.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from . import settings as _settings

if TYPE_CHECKING:
    from .probe import Probe
    from .registry import Registry, Resolved
    from .verdicts import Verdicts

_RUN = pytest.StashKey["Run"]()
#: The fixture whose use makes an item a case; every other fixture of ours that touches a HAL needs it.
_BACKEND_FIXTURE = "hal_backend"
_FIXTURES_MODULE = "pytest_cuda2hal.fixtures"
#: Options of pytest with which no case runs.
_LISTING_OPTIONS = (
    *("collectonly", "help", "version", "markers", "cacheshow"),
    *("showfixtures", "show_fixtures_per_test", "setupplan"),
)
#: The user property under which a case's data travels with its report, also between processes.
PROPERTY = "pytest_cuda2hal"


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


class Run:
    """One pytest run: what was asked for, the registry, and what the probes answered. Everything is made on demand."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings = config.stash[_settings.SETTINGS] = _settings.read_settings(config)
        self._registry: Registry | None = None
        self._resolved: dict[str, Resolved] = {}
        self._probes: list[Probe] | None = None
        self._verdicts: Verdicts | None = None

    @property
    def is_worker(self) -> bool:
        """Whether this is a pytest-xdist worker: the controlling process probes, prints and judges."""
        return hasattr(self.config, "workerinput")

    @property
    def only_lists(self) -> bool:
        """Whether nothing will run."""
        return any(getattr(self.config.option, name, False) for name in _LISTING_OPTIONS)

    @property
    def registry(self) -> Registry:
        if self._registry is None:
            from .registry import Registry

            given = self.config.hook.pytest_hal_backends(config=self.config)
            # One backend instead of a list of one is a likely slip, and its meaning is clear.
            lists = (backends if isinstance(backends, Iterable) else [backends] for backends in given if backends)
            self._registry = Registry(backend for backends in lists for backend in backends)
        return self._registry

    @property
    def verdicts(self) -> Verdicts:
        if self._verdicts is None:
            from .verdicts import Verdicts

            self._verdicts = Verdicts(self.spec_texts())
        return self._verdicts

    @property
    def has_verdicts(self) -> bool:
        """Whether a case has been judged; until then this run is none of our business."""
        return self._verdicts is not None

    def resolve(self, text: str) -> Resolved:
        """Find the backend of a spec in this process; the first device makes it load what it needs."""
        from .registry import SpecError, parse_spec

        if text not in self._resolved:
            try:
                self._resolved[text] = self.registry.resolve(parse_spec(text))
            except SpecError as error:
                raise pytest.UsageError(str(error)) from None
        return self._resolved[text]

    def spec_texts(self) -> list[str]:
        """Return the specs, one text each."""
        if not self.settings.explicit:
            return list(self.settings.specs)
        from .registry import SpecError, parse_specs

        try:
            return [spec.text for spec in parse_specs(self.settings.specs)]
        except SpecError as error:
            raise pytest.UsageError(str(error)) from None

    def probes(self) -> list[Probe]:
        """Ask every backend, each in a process of its own; :class:`pytest.UsageError` if one cannot be used."""
        if self._probes is None:
            from .probe import probe, probe_in_process
            from .registry import parse_spec

            answers: list[Probe] = []
            for text in self.spec_texts():
                spec = parse_spec(text)
                if self.registry.has_hook_backend(spec.name):
                    # Known in this process alone: a child could not find it.
                    answers.append(probe_in_process(self.resolve(text)))
                else:
                    answers.append(probe(spec))
            self._probes = answers
        problems = [answer.problem for answer in self._probes if answer.problem]
        if problems:
            raise pytest.UsageError(*problems)
        return self._probes

    def header(self) -> list[str]:
        """Return what the session header says: the backends, and against what they are judged."""
        from . import __version__
        from .contract import CLAUSES, CONTRACT_VERSION

        lines = [line for answer in self.probes() for line in answer.lines()]
        lines.append(
            f"hal: suite {__version__}, contract {CONTRACT_VERSION} ({len(CLAUSES)} clauses), effort "
            f"{self.settings.effort.name}, deadline {self.settings.deadline:g} s"
        )
        return lines


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "hal_clause(*ids): the clauses of the HAL contract that the case checks")
    config.addinivalue_line("markers", "hal_requires(*capabilities): capabilities without which the case cannot run")
    run = config.stash[_RUN] = Run(config)
    config.pluginmanager.register(_Session(run, run.spec_texts()), "cuda2hal-session")
    if run.is_worker:
        return
    if run.settings.clauses:
        from .collection import wanted_clauses

        wanted_clauses(run.settings.clauses)
    if run.settings.explicit and not run.only_lists:
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

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        from . import fixtures

        manager = session.config.pluginmanager
        manager.register(fixtures, "cuda2hal-fixtures")
        manager.register(fixtures.backend_fixture(self._specs, self._run.resolve), "cuda2hal-backend-fixture")

    def pytest_report_header(self) -> list[str]:
        run = self._run
        return run.header() if run.settings.explicit and not run.only_lists and not run.is_worker else []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        cases = [item for item in items if is_case(item)]
        if cases:
            from .collection import check_markers, select_clauses

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
        of_ours = str(report.when) == "???" or any(pair[0] == PROPERTY for pair in report.user_properties)
        if of_ours and not self._run.is_worker:
            self._run.verdicts.add(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._run.has_verdicts:
            self._run.verdicts.print_summary(terminalreporter)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        run = self._run
        if run.settings.report and not run.is_worker and not run.only_lists:
            from .report import write_report

            try:
                write_report(run.settings.report, run.probes(), run.verdicts, run.settings.effort.name)
            except (OSError, pytest.UsageError) as error:
                session.config.get_terminal_writer().line(f"\nERROR: --hal-report: {error}", red=True)
                session.exitstatus = pytest.ExitCode.USAGE_ERROR
