"""Known deviations of a HAL: which entry of a baseline speaks of a case, and what a run makes of it.

The file itself is read by :mod:`pytest_cuda2hal.baseline_reading` and written by :mod:`pytest_cuda2hal.baseline_file`.
Nothing here asks the machine, and only :meth:`Baseline.load` asks the clock: the facts and the day are handed in.
"""

from __future__ import annotations

import enum
import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from .outcome import Outcome

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

#: What counts as too improbable to be chance, when a flaky case is judged.
IMPROBABLE = 0.01
#: The most runs that a flaky case gets unless its entry asks for more.
MOST_DEFAULT_RUNS = 100
#: How the reason begins that nobody has written yet.
TODO = "TODO"
#: Keys of ``when`` that are globs over a fact of the same name; ``python`` and all other keys are version ranges.
GLOB_CONDITIONS = ("system", "machine", "device")
_CORRECT = "correct the entry"


class BaselineError(ValueError):
    """A baseline that cannot be read or written: one line for each problem, which says where and what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """The lines, in the order of the file."""
        return self.args

    def __str__(self) -> str:
        return "\n".join(self.args)


@dataclass(frozen=True, slots=True)
class Facts:
    """What conditions are checked against, for one backend of a run."""

    #: The spec, as the user wrote it.
    backend: str
    device: str
    #: What the backend reports about its components.
    versions: Mapping[str, str] = field(hash=False)
    #: As ``platform.system()``, ``platform.machine()`` and ``platform.python_version()`` say.
    system: str
    machine: str
    python: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed deviation. The reader of the file has checked it; the constructor does not."""

    #: Its place in the file, from 1.
    number: int
    case: str
    outcome: Outcome
    reason: str
    backend: str = "*"
    issue: str | None = None
    expires: date | None = None
    when: Mapping[str, str] = field(default_factory=dict, hash=False)
    rate: float | None = None
    #: As the file gives it; :attr:`run_count` is how often the case really runs.
    runs: int | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"entry {self.number} ({one_line(self.case)})"

    @property
    def flaky(self) -> bool:
        """Whether its cases deviate in some runs only."""
        return self.rate is not None

    @property
    def run_count(self) -> int:
        """How often a case that it lists is run; 1 unless it is flaky."""
        if self.rate is None:
            return 1
        return min(runs_to_notice_a_fix(self.rate), MOST_DEFAULT_RUNS) if self.runs is None else self.runs

    def expired(self, today: date) -> bool:
        """Tell whether its last day is over."""
        return self.expires is not None and today > self.expires

    def applies_to(self, facts: Facts) -> bool:
        """Tell whether it speaks of this backend, here: its backend matches and its whole condition holds."""
        return glob_matches(self.backend, facts.backend) and all(
            _holds(key, wanted, facts) for key, wanted in self.when.items()
        )

    def matches(self, case: str, facts: Facts) -> bool:
        """Tell whether it speaks of this case on this backend, whatever the day."""
        return glob_matches(self.case, case) and self.applies_to(facts)


class JudgementKind(enum.Enum):
    """How what a case came to compares with the baseline."""

    #: No entry speaks of it: the outcome alone decides.
    UNLISTED = "unlisted"
    #: As listed.
    KNOWN = "known"
    #: Listed, but it does not deviate any more.
    FIXED = "fixed"
    #: Listed with another outcome, or not judged at all.
    CHANGED = "changed"
    #: Flaky, and it deviates more often than its entry says.
    INCONSISTENT = "inconsistent"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the baseline says of a case."""

    kind: JudgementKind
    entry: Entry | None
    #: One line for people.
    text: str

    @property
    def fails(self) -> bool:
        """Whether the baseline makes the run fail. Never so for an unlisted case: there the outcome decides."""
        return self.kind in (JudgementKind.FIXED, JudgementKind.CHANGED, JudgementKind.INCONSISTENT)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The entries of a file, and the day for which they are asked."""

    path: str
    entries: tuple[Entry, ...]
    today: date

    @classmethod
    def load(cls, path: str | Path, *, today: date | None = None) -> Baseline:
        """Read a file.

        :param today: the day that decides what is expired; by default the current one.
        :raises BaselineError: it cannot be read, or something in it is wrong; every problem is named.
        """
        from .baseline_reading import read_entries

        return cls(str(path), read_entries(path), today or date.today())

    def entry_for(self, case: str, facts: Facts) -> Entry | None:
        """Return the first entry that speaks of a case on a backend; expired ones speak of none."""
        return next(
            (entry for entry in self.entries if not entry.expired(self.today) and entry.matches(case, facts)), None
        )

    def judge(self, case: str, facts: Facts, outcome: Outcome) -> Judgement:
        """Compare what a case came to with its entry; a flaky one is judged as after a single run."""
        entry = self.entry_for(case, facts)
        if entry is None:
            return Judgement(JudgementKind.UNLISTED, None, f"not listed in {self.path}")
        if entry.flaky:
            return self.judge_runs(entry, [outcome])
        listed = f"{self.path}, {entry.label}, lists {entry.outcome.value}"
        if outcome is entry.outcome:
            return Judgement(JudgementKind.KNOWN, entry, f"known: {listed}: {one_line(entry.reason)}")
        if outcome is Outcome.PASS:
            return Judgement(JudgementKind.FIXED, entry, f"it passes, but {listed}; {_how_to_remove(entry)}")
        if outcome.deviates:
            return Judgement(JudgementKind.CHANGED, entry, f"it came to {outcome.value}, but {listed}; {_CORRECT}")
        text = f"it was not judged ({outcome.value}), but {listed}; {_how_to_remove(entry)}"
        return Judgement(JudgementKind.CHANGED, entry, text)

    def judge_runs(self, entry: Entry, outcomes: Sequence[Outcome]) -> Judgement:
        """Judge a case of a flaky entry after its runs.

        :raises ValueError: the entry is not flaky, or there was no run.
        """
        if entry.rate is None:
            raise ValueError(f"{self.path}: {entry.label} has no rate; use judge() for it")
        if not outcomes:
            raise ValueError(f"{self.path}: {entry.label} cannot be judged without a run")
        counts = Counter(outcomes)
        total, deviated = len(outcomes), counts.pop(entry.outcome, 0)
        counts.pop(Outcome.PASS, None)
        listed = f"{self.path}, {entry.label}, lists {entry.outcome.value}"
        rate = f"deviated in {deviated} of {total} runs; declared rate {entry.rate}"
        if counts:
            others = ", ".join(
                f"{outcome.value if outcome.deviates else f'not judged ({outcome.value})'} in {counts[outcome]}"
                for outcome in Outcome
                if counts[outcome]
            )
            return Judgement(JudgementKind.CHANGED, entry, f"of {total} runs: {others}; but {listed}; {_CORRECT}")
        if probability_of_at_least(deviated, total, entry.rate) < IMPROBABLE:
            text = f"{rate}, which is too low; {listed}: look for what made it worse, or raise its rate"
            return Judgement(JudgementKind.INCONSISTENT, entry, text)
        if not deviated and _fix_shows(entry.rate, total):
            return Judgement(JudgementKind.FIXED, entry, f"{rate}; {listed}; {_how_to_remove(entry)}")
        return Judgement(JudgementKind.KNOWN, entry, f"{rate}; {listed}: {one_line(entry.reason)}")

    def problems(self, seen: Iterable[tuple[str, Facts]], today: date | None = None) -> list[str]:
        """Return one line for each entry that fails the run by itself: :meth:`expired`, then :meth:`unused`.

        :param seen: what ran.
        :param today: instead of the baseline's own day.
        """
        return self.expired(today) + self.unused(seen, today)

    def expired(self, today: date | None = None) -> list[str]:
        """Return one line for each entry that is expired, whether or not it applies here."""
        return [
            f"{self.path}: {entry.label} expired on {entry.expires}; "
            "fix the deviation and remove the entry, or give it a later date"
            for entry in self.entries
            if entry.expired(today or self.today)
        ]

    def unused(self, seen: Iterable[tuple[str, Facts]], today: date | None = None) -> list[str]:
        """Return one line for each entry that applies to a backend that ran, but spoke of no case.

        An entry does not apply if no backend of the run matches its backend and its condition; about such entries this
        run can say nothing. Expired entries are left out.
        """
        ran = _by_facts(seen)
        lines = []
        earlier: list[Entry] = []
        for entry in self.entries:
            if entry.expired(today or self.today):
                continue
            here = [(cases, facts) for cases, facts in ran if entry.applies_to(facts)]
            mine = [(case, facts) for cases, facts in here for case in cases if glob_matches(entry.case, case)]
            if here and not mine:
                lines.append(f"{self.path}: {entry.label} matches no case that ran; correct its 'case', or remove it")
            elif mine and all(any(other.matches(*one) for other in earlier) for one in mine):
                lines.append(
                    f"{self.path}: {entry.label} is never used, earlier entries list its cases; "
                    "move it before them, or remove it"
                )
            earlier.append(entry)
        return lines

    def notes(self, seen: Iterable[tuple[str, Facts]] = ()) -> list[str]:
        """Return one line for each thing to look at that fails nothing.

        That is a reason that nobody wrote, too few runs to notice a fix, and, for the backends in ``seen``, a version
        that a condition asks for and the backend does not report, or not as a version.
        """
        ran = _by_facts(seen)
        lines = []
        for entry in self.entries:
            where = f"{self.path}: {entry.label}"
            if entry.reason.startswith(TODO):
                lines.append(f"{where} has no reason yet; say why the case deviates")
            if entry.rate is not None and entry.expires is None and not _fix_shows(entry.rate, entry.run_count):
                needed = runs_to_notice_a_fix(entry.rate)
                lines.append(
                    f"{where}: {entry.run_count} runs cannot show that a deviation of rate {entry.rate} is fixed; "
                    f"set 'runs' to {needed}, or give it an 'expires'"
                )
            for _, facts in ran:
                if glob_matches(entry.backend, facts.backend):
                    lines += [f"{where}: {text}" for key in entry.when for text in _unreadable(key, facts)]
        return lines


def _how_to_remove(entry: Entry) -> str:
    return "narrow or remove the entry" if {"*", "?"} & set(entry.case + entry.backend) else "remove the entry"


def one_line(text: str) -> str:
    """Return a text with each run of white space made one space."""
    return " ".join(text.split())


def glob_matches(glob: str, text: str) -> bool:
    """Tell whether a glob matches a whole text: ``*`` is any characters, ``?`` is one, all else is itself."""
    return _pattern(glob).fullmatch(text) is not None


@functools.cache
def _pattern(glob: str) -> re.Pattern[str]:
    first, *rest = ["".join("." if sign == "?" else re.escape(sign) for sign in part) for part in glob.split("*")]
    if not rest:
        return re.compile(first, re.DOTALL)
    # What stands between stars is best taken where it first occurs; to try the other places would take for ever.
    between = "".join(f"(?>.*?{part})" for part in rest[:-1])
    return re.compile(f"{first}{between}.*{rest[-1]}", re.DOTALL)


def runs_to_notice_a_fix(rate: float) -> int:
    """Return the smallest number of runs that a case of this rate hardly passes without deviating once."""
    rate = max(rate, 1e-12)  # below that the number would be no use, and at last too large for a float
    runs = max(1, math.floor(math.log(IMPROBABLE) / math.log1p(-rate)))
    # The quotient of logarithms may be off by one where the power meets the limit.
    while not _fix_shows(rate, runs):
        runs += 1
    return runs


def _fix_shows(rate: float, runs: int) -> bool:
    return math.exp(runs * math.log1p(-rate)) < IMPROBABLE


def probability_of_at_least(count: int, runs: int, rate: float) -> float:
    """Return how probable ``count`` deviations or more are in so many runs: the exact binomial tail."""
    if count <= 0:
        return 1.0
    # Logarithms, because a binomial coefficient of a thousand runs is no float any more.
    return math.fsum(
        math.exp(
            math.lgamma(runs + 1)
            - math.lgamma(hits + 1)
            - math.lgamma(runs - hits + 1)
            + hits * math.log(rate)
            + (runs - hits) * math.log1p(-rate)
        )
        for hits in range(count, runs + 1)
    )


def _by_facts(seen: Iterable[tuple[str, Facts]]) -> list[tuple[list[str], Facts]]:
    groups: dict[Facts, list[str]] = {}
    for case, facts in seen:
        groups.setdefault(facts, []).append(case)
    return [(cases, facts) for facts, cases in groups.items()]


def _holds(key: str, wanted: str, facts: Facts) -> bool:
    if key in GLOB_CONDITIONS:
        return glob_matches(wanted.casefold(), str(getattr(facts, key)).casefold())
    found = _version(_reported(key, facts))
    # Whether a pre-release is meant is said by the range's own bounds, not by pip's habit of passing them over.
    return found is not None and _specifiers(wanted).contains(found, prereleases=True)


def _reported(key: str, facts: Facts) -> str | None:
    return facts.python if key == "python" else facts.versions.get(key)


def _unreadable(key: str, facts: Facts) -> list[str]:
    if key in GLOB_CONDITIONS:
        return []
    text = _reported(key, facts)
    if text is None:
        known = ", ".join(facts.versions) or "none"
        return [f"its condition '{key}' cannot hold: {facts.backend} reports no such version (it reports {known})"]
    if _version(text) is None:
        return [f"its condition '{key}' cannot hold: {facts.backend} reports '{text}', which is no PEP 440 version"]
    return []


@functools.cache
def _version(text: str | None) -> Version | None:
    from packaging.version import InvalidVersion, Version

    try:
        # Python built from a branch calls itself 3.12.1+.
        return None if text is None else Version(text.removesuffix("+"))
    except InvalidVersion:
        return None


@functools.cache
def _specifiers(text: str) -> SpecifierSet:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(text)
