"""The pytest plugin: options, the session header, clause markers, evidence and the summary.

This module is imported by every pytest run of an environment in which the package is installed, so it imports the
standard library and pytest only, and does nothing until a run asks for a backend or collects a case.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from . import settings as _settings

if TYPE_CHECKING:
    from .baseline import Baseline, Facts
    from .probe import Probe
    from .registry import Registry, Resolved
    from .running import CaseRunner
    from .selection import Selection
    from .verdicts import Verdicts

_RUN = pytest.StashKey["Run"]()
#: The fixture whose use makes an item a case; every other fixture of ours that touches a HAL needs it.
_BACKEND_FIXTURE = "hal_backend"
_FIXTURES_MODULE = "pytest_cuda2hal.fixtures"
#: Options of pytest with which no case runs.
_LISTING_OPTIONS = (
    *("collectonly", "help", "version", "markers", "cacheshow"),
    *("showfixtures", "show_fixtures_per_test", "setupplan", "setuponly"),
)
#: The attribute of a report under which a case's data travels with it, also between processes.
CASE_DATA = "hal_case"
#: The attribute of a configuration under which a supervised process finds what its supervisor tells it.
CHILD_INPUT = "hal_child_input"
#: What a controlling process tells its workers about the backends, so that they need not ask.
_PROBES_INPUT = "hal_probes"


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


def _told(config: pytest.Config) -> dict[str, Any]:
    """Return what a controlling process has told this one."""
    told: dict[str, Any] = getattr(config, CHILD_INPUT, None) or getattr(config, "workerinput", {})
    return told


class Run:
    """One pytest run: what was asked for, the registry, and what the probes answered. Everything is made on demand."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings = config.stash[_settings.SETTINGS] = _settings.read_settings(config)
        self._registry: Registry | None = None
        self._resolved: dict[str, Resolved] = {}
        self._probes: list[Probe] | None = None
        self._verdicts: Verdicts | None = None
        #: The known deviations, where a baseline was given.
        self.baseline: Baseline | None = None
        #: Which cases there are, and which of them this run is about; known after the collection.
        self.selection: Selection | None = None
        #: Lines for the summary.
        self.notes: list[str] = []
        #: Lines about the baseline that fail the run.
        self.baseline_problems: list[str] = []
        self._facts: dict[str, Facts] = {}

    @property
    def is_worker(self) -> bool:
        """Whether another process controls this one: pytest-xdist's, or the supervisor of isolated cases."""
        return hasattr(self.config, "workerinput") or self.is_child

    @property
    def is_child(self) -> bool:
        """Whether this process runs the cases of a supervisor, one at a time."""
        return hasattr(self.config, CHILD_INPUT)

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
        if self._probes is None and self.is_worker:
            from .probe import Probe

            told = _told(self.config).get(_PROBES_INPUT, [])
            self._probes = [Probe(**answer) for answer in told]
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

    def facts(self, spec: str) -> Facts | None:
        """Return what the baseline's conditions are checked against; ``None`` for a backend that was not probed."""
        if spec not in self._facts:
            from .choices import facts_of

            for answer in self.probes():
                self._facts[answer.spec] = facts_of(answer)
        return self._facts.get(spec)

    def header(self) -> list[str]:
        """Return what the session header says: the backends, and against what they are judged."""
        from . import __version__
        from .contract import CLAUSES, CONTRACT_VERSION

        lines = [line for answer in self.probes() for line in answer.lines()]
        settings = self.settings
        lines.append(
            f"hal: suite {__version__}, contract {CONTRACT_VERSION} ({len(CLAUSES)} clauses), effort "
            f"{settings.effort.name}, deadline {settings.deadline:g} s"
        )
        isolated = [spec for spec in self.spec_texts() if self.isolates(spec)]
        if isolated:
            lines.append(
                f"     in processes of their own, {settings.case_deadline:g} s for each case: {', '.join(isolated)}"
            )
        if settings.profile is not None:
            lines.append(f"     judged by profile {settings.profile}, whatever the backends declare")
        if settings.order_seed is not None:
            lines.append(f"     in random order; again with --order=random:{settings.order_seed}")
        if settings.shard is not None:
            lines.append(f"     shard {settings.shard}; see 'python -m pytest_cuda2hal merge'")
        if self.baseline is not None:
            lines.append(f"     known deviations: {self.baseline.path}, {len(self.baseline.entries)} entries")
        return lines

    def isolates(self, spec: str) -> bool:
        """Whether the cases of a backend run in a process of their own."""
        wanted = self.settings.isolate
        # A debugger needs the terminal; elsewhere a process cannot be given a connection by descriptor.
        if (
            self.is_child
            or self.only_lists
            or os.name != "posix"
            or any(self.config.getoption(name, False) for name in ("usepdb", "trace"))
        ):
            return False
        return self.resolve(spec).backend.native if wanted is None else wanted


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "hal_clause(*ids): the clauses of the HAL contract that the case checks")
    config.addinivalue_line("markers", "hal_requires(*capabilities): capabilities without which the case cannot run")
    run = config.stash[_RUN] = Run(config)
    config.pluginmanager.register(_Session(run, run.spec_texts()), "cuda2hal-session")
    if not run.is_child and run.settings.needs_reading:
        from .choices import read_choices

        read_choices(run)
    if "hal_devices" in getattr(config, "workerinput", {}):
        from .spreading import choose_here

        choose_here(config, run.spec_texts())
    if run.settings.explicit and not run.only_lists and not run.is_worker:
        run.probes()


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if not config.getoption("hal_list_backends"):
        return None
    from .listing import print_backends

    print_backends(Run(config).registry)
    return int(pytest.ExitCode.OK)


def run_of(config: pytest.Config) -> Run:
    """Return the run that a configuration belongs to."""
    return config.stash[_RUN]


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

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a pytest-xdist worker what the probes said, and which of several devices it may use."""
        from .spreading import tell_worker

        node.workerinput[_settings.ORDER_INPUT] = self._run.settings.order_seed
        if (self._run.settings.explicit or self._run.baseline) and not self._run.only_lists:
            tell_worker(node, self._run, _PROBES_INPUT)

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
        from .running import CaseRunner

        runner = self._runner = CaseRunner(self._run)
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
        if config.pluginmanager.has_plugin("dsession"):
            return ""
        return next((spec for spec in self._specs if run.isolates(spec)), "")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
        """See every case before anybody deselects, and select last."""
        collected = [item for item in items if is_case(item)]
        yield
        self._check_and_select(config, items)
        if collected and not self._run.is_child:
            from .running import CaseRunner
            from .selection import choose

            choose(self._run, config, items, collected)
            config.pluginmanager.register(self._runner or CaseRunner(self._run), "cuda2hal-runner")

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

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        run = self._run
        if run.has_verdicts:
            from .summary import print_summary

            print_summary(terminalreporter, run)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._run.has_verdicts or self._run.settings.writes:
            from .finishing import finish

            finish(self._run, session)
