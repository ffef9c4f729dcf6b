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
#: A case in a process of its own may take so many times the deadline of a wait, by effort.
CASE_DEADLINES = {"quick": 4, "full": 4, "soak": 60}


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
    #: Whether cases run in a process of their own; ``None``: those of native backends do.
    isolate: bool | None
    #: Whether the calls of cases in a process of their own are kept where a crash does not take them.
    journal: bool
    #: Seconds for a whole case in a process of its own.
    case_deadline: float
    #: The profile that every backend is judged by; ``None``: each by the one it declares.
    profile: str | None
    #: The seed of a random order; ``None``: in the order of definition.
    order_seed: int | None
    baseline: str | None
    write_baseline: str | None
    shard: str | None
    shard_durations: str | None

    @property
    def needs_reading(self) -> bool:
        """Whether there is an option whose value takes more than a look to be understood."""
        texts = (self.profile, self.baseline, self.shard, self.shard_durations)
        return bool(self.clauses) or any(text is not None for text in texts)

    @property
    def writes(self) -> bool:
        """Whether the run is to write a file."""
        return bool(self.report or self.write_baseline)

    @property
    def settle_seconds(self) -> float:
        """How long settling watches."""
        return SETTLE_SECONDS[self.effort.name]


#: Under which a pytest-xdist worker is told the seed of the run's order, which all of them must have.
ORDER_INPUT = "hal_order_seed"
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
        (
            "--hal-isolate",
            "--isolate",
            {
                "action": "store_true",
                "default": None,
                "help": "run each case in a supervised process, which a crash or a hang costs (default: for backends "
                "in native code)",
            },
        ),
        (
            "--hal-no-isolate",
            "--no-isolate",
            {"dest": "hal_isolate", "action": "store_false", "help": "run the cases of every backend in this process"},
        ),
        (
            "--hal-no-journal",
            "--no-journal",
            {
                "dest": "hal_journal",
                "action": "store_false",
                "default": True,
                "help": "keep no journal of the calls of isolated cases, which is faster: a crash, or a hang that "
                "costs the process, is told without the last operations and what waited for what",
            },
        ),
        (
            "--hal-case-deadline",
            None,
            {
                "metavar": "SECONDS",
                "help": "a case in a process of its own is ended after this time (default: 4 times --hal-deadline; "
                "60 times at effort soak)",
            },
        ),
        (
            "--hal-profile",
            "--profile",
            {"metavar": "NAME", "help": "judge every backend by this profile instead of the one it declares"},
        ),
        (
            "--hal-order",
            "--order",
            {"metavar": "ORDER", "help": "definition (default), random, or random:SEED: the order of the cases"},
        ),
        (
            "--hal-baseline",
            "--baseline",
            {
                "metavar": "FILE",
                "help": "known deviations (TOML): they do not fail the run as long as they are as listed; also ini "
                "hal_baseline",
            },
        ),
        (
            "--hal-write-baseline",
            "--write-baseline",
            {"metavar": "FILE", "help": "write a baseline that lists the deviations of this run"},
        ),
        (
            "--hal-shard",
            "--shard",
            {"metavar": "I/N", "help": "run the I-th of N parts of the cases; merge their reports afterwards"},
        ),
        (
            "--hal-shard-durations",
            None,
            {
                "metavar": "FILE",
                "help": "a report of an earlier run, to balance the shards by (default: one of reference)",
            },
        ),
    ]


def _destination(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def add_options(parser: pytest.Parser) -> None:
    """Declare every option under its long name, which nobody else uses."""
    group = parser.getgroup("hal", "HAL conformance (pytest-cuda2hal)")
    for name, _, details in _options():
        group.addoption(name, **{"dest": _destination(name), **details})
    parser.addini("hal_backend", "backends to test (specs, as for --backend)", type="args")
    parser.addini("hal_effort", "see --effort")
    parser.addini("hal_deadline", "see --hal-deadline")
    parser.addini("hal_case_deadline", "see --hal-case-deadline")
    parser.addini("hal_baseline", "see --hal-baseline")


def add_aliases(parser: pytest.Parser) -> None:
    """Declare the short aliases that nobody else has taken."""
    group = parser.getgroup("hal")
    for name, alias, details in _options():
        # pytest before 9 notices a second option of one name only while parsing, too late to step back: so ask the
        # parser. Refusing to read it means that it is somebody else's, too.
        with contextlib.suppress(pytest.UsageError):
            if alias and f"{alias}=" in parser.parse_known_and_unknown_args([f"{alias}="])[1]:
                group.addoption(alias, **{"dest": _destination(name), **details, "help": f"short for {name}"})


def read_settings(config: pytest.Config) -> Settings:
    """Collect the settings. Raises :class:`pytest.UsageError` for a value that cannot be read."""
    # Words, in the environment and in ini files: a comma beside a blank separates once.
    words = os.environ.get(BACKEND_VARIABLE, "").split() or config.getini("hal_backend")
    texts: list[str] = config.getoption("hal_backend") or [text for word in words if (text := word.strip(","))]
    effort = config.getoption("hal_effort") or config.getini("hal_effort") or "full"
    if effort not in SETTLE_SECONDS:
        raise pytest.UsageError(f"ini value hal_effort is '{effort}'; use one of {', '.join(SETTLE_SECONDS)}")
    deadline = _seconds("--hal-deadline", config.getoption("hal_deadline") or config.getini("hal_deadline") or "10")
    case_deadline = config.getoption("hal_case_deadline") or config.getini("hal_case_deadline")
    return Settings(
        specs=tuple(texts or ["reference"]),
        explicit=bool(texts),
        effort=Effort(effort),
        deadline=deadline,
        strict_quality=config.getoption("hal_strict_quality"),
        report=config.getoption("hal_report"),
        clauses=tuple(id.strip() for text in config.getoption("hal_clause") or () for id in text.split(",")),
        isolate=config.getoption("hal_isolate"),
        journal=config.getoption("hal_journal"),
        case_deadline=(
            _seconds("--hal-case-deadline", case_deadline) if case_deadline else deadline * CASE_DEADLINES[effort]
        ),
        profile=config.getoption("hal_profile"),
        order_seed=getattr(config, "workerinput", {}).get(
            ORDER_INPUT, _order_seed(config.getoption("hal_order") or "definition")
        ),
        baseline=_given(config, "hal_baseline"),
        write_baseline=config.getoption("hal_write_baseline"),
        shard=config.getoption("hal_shard"),
        shard_durations=config.getoption("hal_shard_durations"),
    )


def _given(config: pytest.Config, name: str) -> str | None:
    """Return a file that the command line names, or the ini file, from whose folder the latter counts."""
    text: str | None = config.getoption(name)
    if text is None and (named := config.getini(name)):
        folder = config.inipath.parent if config.inipath is not None else config.rootpath
        text = str(folder / named)
    return text


def _seconds(option: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise pytest.UsageError(f"{option} takes seconds above 0 and below 86400, not '{text}'")
    return seconds


def _order_seed(text: str) -> int | None:
    """Return the seed that a random order is made from, a new one where none is given."""
    if text == "definition":
        return None
    kind, colon, seed = text.partition(":")
    if kind != "random" or (colon and not seed.isdecimal()):
        raise pytest.UsageError(f"--hal-order is definition, random or random:SEED (a number), not '{text}'")
    return int(seed) if colon else int.from_bytes(os.urandom(3), "big")
