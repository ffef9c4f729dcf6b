"""One pytest run: its settings, its backends and what they answered, for every part of the plugin that asks.

Imported with the plugin, so it imports the standard library and pytest only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from . import settings as _settings

if TYPE_CHECKING:
    from .baseline import Baseline, Facts
    from .probe import Probe
    from .registry import Registry, Resolved
    from .selection import Selection
    from .verdicts import Verdicts

RUN = pytest.StashKey["Run"]()
#: Options of pytest with which no case runs.
_LISTING_OPTIONS = (
    *("collectonly", "help", "version", "markers", "cacheshow"),
    *("showfixtures", "show_fixtures_per_test", "setupplan", "setuponly"),
)
#: The attribute of a configuration under which a supervised process finds what its supervisor tells it.
CHILD_INPUT = "hal_child_input"
#: What a controlling process tells its workers about the backends, so that they need not ask.
PROBES_INPUT = "hal_probes"


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

            told = _told(self.config).get(PROBES_INPUT, [])
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


def run_of(config: pytest.Config) -> Run:
    """Return the run that a configuration belongs to."""
    return config.stash[RUN]
