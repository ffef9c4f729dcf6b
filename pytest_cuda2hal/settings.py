"""What a run was asked to do: options, environment and ini values, in that order of precedence.

Imported by every pytest run of an environment. Named tuples, because making a dataclass takes longer than all else.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest

#: Seconds for which :class:`~pytest_cuda2hal.observation.settle.Settle` watches, by effort.
SETTLE_SECONDS = {"quick": 0.02, "full": 0.1, "soak": 0.1}
BACKEND_VARIABLE = "PYTEST_HAL_BACKEND"


class Effort(NamedTuple):
    """How often loops run: ``effort.loops(20, 200, 2000)``."""

    name: str

    def loops(self, quick: int, full: int, soak: int | None = None) -> int:
        """Return the number for this effort; ``soak`` defaults to ten times ``full``."""
        return {"quick": quick, "full": full, "soak": full * 10 if soak is None else soak}[self.name]


class Settings(NamedTuple):
    """The options of one run."""

    specs: tuple[str, ...]
    #: Whether somebody asked for these backends, on the command line, in the ini file or by the environment.
    explicit: bool
    effort: Effort
    deadline: float
    strict_quality: bool
    report: str | None
    #: Run only the cases that check one of these clauses; empty for all.
    clauses: tuple[str, ...]

    @property
    def settle_seconds(self) -> float:
        """How long settling watches."""
        return SETTLE_SECONDS[self.effort.name]


#: Where a run keeps its settings.
SETTINGS = pytest.StashKey[Settings]()


def add_options(parser: pytest.Parser) -> None:
    """Declare every option but the short ``--backend``, which comes later and only if it is free."""
    group = parser.getgroup("hal", "HAL conformance (pytest-cuda2hal)")
    add_backend_option(group, "--hal-backend")
    group.addoption(
        "--list-backends", action="store_true", help="list the backends, what is missing and what to install; then exit"
    )
    group.addoption(
        "--effort",
        dest="hal_effort",
        choices=list(SETTLE_SECONDS),
        help="how often loops run and how long settling watches; never what is checked (default: full)",
    )
    group.addoption(
        "--hal-deadline",
        metavar="SECONDS",
        help="a wait without a timeout of its own counts as hanging after this time (default: 10)",
    )
    group.addoption(
        "--strict-quality",
        dest="hal_strict_quality",
        action="store_true",
        help="let a broken quality clause fail the run",
    )
    group.addoption(
        "--hal-clause",
        metavar="ID",
        action="append",
        help="run only cases that check this clause; repeatable, comma lists",
    )
    group.addoption("--hal-report", metavar="FILE", help="write the verdicts as JSON to FILE")
    parser.addini("hal_backend", "backends to test (specs, as for --backend)", type="args")
    parser.addini("hal_effort", "see --effort")
    parser.addini("hal_deadline", "see --hal-deadline")


def add_backend_option(group: pytest.OptionGroup, name: str) -> None:
    """Declare ``--hal-backend`` or its short form."""
    group.addoption(
        name,
        dest="hal_backend",
        action="append",
        metavar="SPEC",
        help="backend to test: NAME[:VARIANT][:KEY=VALUE]… or package.module:Factory; repeatable, comma lists; "
        f"also ini hal_backend and ${BACKEND_VARIABLE} (default: reference)",
    )


def read_settings(config: pytest.Config) -> Settings:
    """Collect the settings. Raises :class:`pytest.UsageError` for a value that cannot be read."""
    texts: list[str] = (
        config.getoption("hal_backend") or os.environ.get(BACKEND_VARIABLE, "").split() or config.getini("hal_backend")
    )
    effort = config.getoption("hal_effort") or config.getini("hal_effort") or "full"
    if effort not in SETTLE_SECONDS:
        raise pytest.UsageError(f"ini value hal_effort is '{effort}'; use one of {', '.join(SETTLE_SECONDS)}")
    text = config.getoption("hal_deadline") or config.getini("hal_deadline") or "10"
    try:
        deadline = float(text)
    except ValueError:
        deadline = 0.0
    if not 0 < deadline < 86400:
        raise pytest.UsageError(f"--hal-deadline takes seconds above 0 and below 86400, not '{text}'")
    return Settings(
        specs=tuple(texts or ["reference"]),
        explicit=bool(texts),
        effort=Effort(effort),
        deadline=deadline,
        strict_quality=config.getoption("hal_strict_quality"),
        report=config.getoption("hal_report"),
        clauses=tuple(id.strip() for text in config.getoption("hal_clause") or () for id in text.split(",")),
    )
