"""Writing a baseline: what stays of the previous one, what is added, and the TOML of it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from .baseline import Baseline, BaselineError, Entry, Facts, one_line
from .baseline_reading import VERSION, identity, parse_entries
from .outcome import Outcome

#: The reason of an entry that was written by a run.
TODO_REASON = "TODO: say why"

_LONGEST_COMMENT = 200
_HEADER = f"""\
# Known deviations of a HAL from the contract of pytest-cuda2hal.
# Rewriting keeps entries and their order, but no comments: what must stay belongs into a reason.
version = {VERSION}
"""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A case that deviated, and what it said."""

    case: str
    backend: str
    outcome: Outcome
    message: str
    facts: Facts


def write_baseline(
    path: str | Path,
    deviations: Iterable[Deviation],
    *,
    previous: Baseline | None,
    today: date,
    seen: Iterable[tuple[str, Facts]] | None = None,
) -> Baseline:
    """Write a baseline that lists what deviated, and return it as it would be read.

    Each case that no entry of ``previous`` lists with its outcome gets an entry of its own, with a reason to be
    written. Entries of ``previous`` stay as they are, in their order, unless this run shows that they hold no more:

    - one that lists a deviation with its outcome stays, also when it is expired;
    - one that speaks of nothing that ran stays: it is about another backend or machine;
    - a flaky one stays, unless a case of it came to another deviation: that it passed may be chance.

    The file is replaced in one step, after its new text has been read back without a complaint.

    :param deviations: one for each case and backend; of several the first counts.
    :param seen: everything that ran. Without it, every case is taken to have run on the backends of ``deviations``.
    :raises BaselineError: the file cannot be written; an existing one is as it was.
    :raises ValueError: the outcome of a deviation is none that deviates.
    """
    by_case = {(one.case, one.backend): one for one in reversed(list(deviations))}
    for one in by_case.values():
        if not one.outcome.deviates:
            raise ValueError(f"{one.case} on {one.backend}: '{one.outcome.value}' is no deviation")
    ordered = [by_case[key] for key in sorted(by_case)]
    old = previous.entries if previous is not None else ()
    plan = _Plan(old, ordered, today, None if seen is None else list(seen))
    text = "\n".join([_HEADER, *plan.blocks()])
    entries = parse_entries(text, str(path))
    _replace_text(Path(path), text)
    return Baseline(str(path), entries, today)


class _Plan:
    """What is kept of a previous baseline, and where new entries go among it."""

    def __init__(
        self,
        old: tuple[Entry, ...],
        deviations: list[Deviation],
        today: date,
        seen: list[tuple[str, Facts]] | None,
    ) -> None:
        self._old = old
        self._today = today
        self._seen = seen
        self._facts = {one.facts for one in deviations}
        #: By number of the entry: the deviations that it lists, and those that it lists with another outcome.
        self._held: dict[int, list[Deviation]] = {}
        self._displacing: dict[int, list[Deviation]] = {}
        self._unlisted: list[Deviation] = []
        for one in deviations:
            entry = self._entry_for(one)
            if entry is None:
                self._unlisted.append(one)
            else:
                side = self._held if entry.outcome is one.outcome else self._displacing
                side.setdefault(entry.number, []).append(one)

    def _entry_for(self, one: Deviation) -> Entry | None:
        # As the baseline looks it up; but an expired entry still tells what is known of a case.
        matching = [entry for entry in self._old if entry.matches(one.case, one.facts)]
        valid = [entry for entry in matching if not entry.expired(self._today)]
        return next(iter(valid or matching), None)

    def blocks(self) -> list[str]:
        """Return the text of each entry.

        One that corrects an old entry goes before it, because the first one counts; it keeps its condition.
        """
        planned: list[tuple[Entry, str]] = []
        for entry in self._old:
            planned += [(_new(one, entry.when), one.message) for one in self._displacing.get(entry.number, ())]
            if self._stays(entry):
                planned.append((entry, self._remark(entry)))
        planned += [(_new(one), one.message) for one in self._unlisted]
        # Ids that TOML cannot hold may become one and the same glob.
        first = {identity(entry): (entry, remark) for entry, remark in reversed(planned)}
        return [_block(entry, remark) for entry, remark in planned if first[identity(entry)][0] is entry]

    def _remark(self, entry: Entry) -> str:
        if entry.expired(self._today):
            return "expired: give it a later date, or remove it"
        held = self._held.get(entry.number, ())
        return held[0].message if held and entry.reason == TODO_REASON else ""

    def _stays(self, entry: Entry) -> bool:
        if entry.number in self._held:
            return True
        if entry.flaky:
            return entry.number not in self._displacing
        if self._seen is None:
            return not any(entry.applies_to(facts) for facts in self._facts)
        return not any(entry.matches(case, facts) for case, facts in self._seen)


def _new(one: Deviation, when: Mapping[str, str] | None = None) -> Entry:
    return Entry(0, _as_glob(one.case), one.outcome, TODO_REASON, _as_glob(one.backend), when=when or {})


def _as_glob(text: str) -> str:
    """TOML cannot hold half of a surrogate pair, which an id may; in a glob any one character can stand for it."""
    return re.sub(r"[\ud800-\udfff]", "?", text)


def _block(entry: Entry, comment: str = "") -> str:
    """Return an entry as TOML, with the first line of a text above it."""
    lines = [f"# {shown}" for shown in [_comment(comment)] if shown]
    lines += ["[[deviation]]", f"case = {quoted(entry.case)}"]
    if entry.backend != "*":
        lines.append(f"backend = {quoted(entry.backend)}")
    lines += [f"outcome = {quoted(entry.outcome.value)}", f"reason = {quoted(entry.reason)}"]
    if entry.issue is not None:
        lines.append(f"issue = {quoted(entry.issue)}")
    if entry.expires is not None:
        lines.append(f"expires = {entry.expires.isoformat()}")
    if entry.when:
        pairs = ", ".join(f"{_key(name)} = {quoted(value)}" for name, value in entry.when.items())
        lines.append(f"when = {{ {pairs} }}")
    if entry.rate is not None:
        lines.append(f"rate = {entry.rate!r}")
    if entry.runs is not None:
        lines.append(f"runs = {entry.runs}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    # TOML forbids control characters in comments.
    shown = one_line("".join(sign if sign.isprintable() else " " for sign in first))
    return shown if len(shown) <= _LONGEST_COMMENT else shown[: _LONGEST_COMMENT - 1] + "…"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


def quoted(text: str) -> str:
    """Return a text as a TOML string on one line; half of a surrogate pair, which TOML cannot hold, becomes U+FFFD."""
    short = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(short.get(sign) or _escaped(sign) for sign in text) + '"'


def _escaped(sign: str) -> str:
    if "\ud800" <= sign <= "\udfff":
        return "\ufffd"
    # What does not print would be seen by nobody; TOML demands an escape for the first of these only.
    return sign if sign.isprintable() else f"\\U{ord(sign):08X}"


def _replace_text(path: Path, text: str) -> None:
    """Put a text in the place of a file, or of nothing; what goes wrong leaves that as it was."""
    try:
        target = path.resolve()  # a link stays one
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            with beside.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, beside)
            beside.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or no path at all
        reason = error.strerror if isinstance(error, OSError) else one_line(str(error))
        raise BaselineError(f"{path}: cannot be written: {reason}; name a file that can be") from error
