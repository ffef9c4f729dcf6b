"""What a run was asked to do: options, environment and ini values, in that order of precedence.

Imported by every pytest run of an environment. Named tuples, because making a dataclass takes longer than all else.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, NamedTuple

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


def _options() -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return every option: its name, its short alias if it has one, and what argparse wants to know."""
    return [
        (
            "--hal-backend",
            "--backend",
            {
                "action": "append",
                "metavar": "SPEC",
                "help": "backend to test: NAME[:VARIANT][:KEY=VALUE]… or package.module:Factory; repeatable, comma "
                f"lists; also ini hal_backend and ${BACKEND_VARIABLE} (default: reference)",
            },
        ),
        (
            "--hal-list-backends",
            "--list-backends",
            {"action": "store_true", "help": "list the backends, what is missing and what to install; then exit"},
        ),
        (
            "--hal-effort",
            "--effort",
            {
                "choices": list(SETTLE_SECONDS),
                "help": "how often loops run and how long settling watches; never what is checked (default: full)",
            },
        ),
        (
            "--hal-deadline",
            None,
            {
                "metavar": "SECONDS",
                "help": "a wait without a timeout of its own counts as hanging after this time (default: 10)",
            },
        ),
        (
            "--hal-strict-quality",
            "--strict-quality",
            {"action": "store_true", "help": "let a broken quality clause fail the run"},
        ),
        (
            "--hal-clause",
            None,
            {
                "metavar": "ID",
                "action": "append",
                "help": "run only cases that check this clause; repeatable, comma lists",
            },
        ),
        ("--hal-report", None, {"metavar": "FILE", "help": "write the verdicts as JSON to FILE"}),
    ]


def _destination(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def add_options(parser: pytest.Parser) -> None:
    """Declare every option under its long name, which nobody else uses."""
    group = parser.getgroup("hal", "HAL conformance (pytest-cuda2hal)")
    for name, _, details in _options():
        group.addoption(name, dest=_destination(name), **details)
    parser.addini("hal_backend", "backends to test (specs, as for --backend)", type="args")
    parser.addini("hal_effort", "see --effort")
    parser.addini("hal_deadline", "see --hal-deadline")


def add_aliases(parser: pytest.Parser) -> None:
    """Declare the short aliases that nobody else has taken."""
    group = parser.getgroup("hal")
    for name, alias, details in _options():
        # pytest before 9 notices a second option of one name only while parsing, too late to step back: so ask the
        # parser. Refusing to read it means that it is somebody else's, too.
        with contextlib.suppress(pytest.UsageError):
            if alias and f"{alias}=" in parser.parse_known_and_unknown_args([f"{alias}="])[1]:
                group.addoption(alias, dest=_destination(name), **details | {"help": f"short for {name}"})


def read_settings(config: pytest.Config) -> Settings:
    """Collect the settings. Raises :class:`pytest.UsageError` for a value that cannot be read."""
    # Words, in the environment and in ini files: a comma beside a blank separates once.
    words = os.environ.get(BACKEND_VARIABLE, "").split() or config.getini("hal_backend")
    texts: list[str] = config.getoption("hal_backend") or [text for word in words if (text := word.strip(","))]
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
