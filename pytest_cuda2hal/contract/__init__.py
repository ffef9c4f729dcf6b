"""The contract as data: its parts, clauses and words, the variation points, and the profiles that answer them.

This is the one place where the contract lives; the cases, the docs and the reports read it from here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from ..hal import PROFILES, VARIATION_POINTS
from .clauses import EVERY_CLAUSE
from .model import Clause, Part, Unobserved

#: Grows when a clause or an answer changes its meaning, not when it is reworded or when a clause is added.
CONTRACT_VERSION = "1"

#: The parts, in the order of the contract.
PARTS: tuple[Part, ...] = (
    Part("TL", "The timeline", "timeline"),
    Part("W", "Host waits (of semaphores that do not fail meanwhile)", "waits"),
    Part("F", "Failure", "failures"),
    Part("Q", "Submissions", "submissions"),
    Part("C", "Command lists", "commands"),
    Part("A", "Asynchronous allocation", "allocation"),
    Part("T", "Transfers", "transfers"),
    Part("H", "Host calls", "host_calls"),
    Part("L", "Lifetime", "lifetime"),
    Part("D", "Declarations", "declarations"),
)

#: Id -> clause, in the order of the contract.
CLAUSES: Mapping[str, Clause] = MappingProxyType({clause.id: clause for clause in EVERY_CLAUSE})

#: The words that the clauses use, and what they mean.
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "semaphore": "A 64-bit timeline whose value only grows.",
        "timepoint": "The moment at which a semaphore s reaches a value v, written s@v.",
        "submission": "Work given to a queue with a list of timepoints to wait for and a list to signal.",
        "reached": "Of a timepoint: the value is at least the timepoint's.",
        "failed": "Carrying a failure status for good.",
        "held": "Kept running by a latch.",
    }
)

#: What every case keeps to unless it is about a variation point.
LEGAL_PROGRAMS = (
    "Cases that are not about a variation point issue only programs that are legal everywhere: each host signal is "
    "above the value and below every pending signal; signals of one semaphore are ordered by dependencies; "
    "differences stay within max-difference; memory is initialised before it is compared; nothing is pending at close."
)


class UnknownClause(KeyError):
    """The contract has no clause of that id; ``nearest`` holds the ids that look most like it."""

    def __init__(self, asked: str) -> None:
        super().__init__(asked)
        self.asked = asked
        folded = {known.casefold(): known for known in CLAUSES}
        found = difflib.get_close_matches(asked.casefold(), folded, n=3, cutoff=0.5)
        self.nearest: tuple[str, ...] = tuple(folded[name] for name in found)

    def __str__(self) -> str:
        if self.nearest:
            return f"the contract has no clause '{self.asked}'; nearest: {', '.join(self.nearest)}"
        letters = ", ".join(part.id for part in PARTS)
        return f"the contract has no clause '{self.asked}'; ids are a part ({letters}), a hyphen, a number, as in W-9"


def clause(name: str) -> Clause:
    """Return the clause whose id is ``name``.

    :raises UnknownClause: there is none; the message names the nearest ids.
    """
    try:
        return CLAUSES[name]
    except KeyError:
        raise UnknownClause(name) from None


def clauses_of(part: Part | str) -> tuple[Clause, ...]:
    """Return the clauses of a part, given itself or by its letters, in the order of the contract.

    :raises KeyError: there is no such part.
    """
    letters = part.id if isinstance(part, Part) else part
    if all(known.id != letters for known in PARTS):
        raise KeyError(letters)
    return tuple(clause for clause in CLAUSES.values() if clause.part == letters)


__all__ = [
    "CLAUSES",
    "CONTRACT_VERSION",
    "LEGAL_PROGRAMS",
    "PARTS",
    "PROFILES",
    "VARIATION_POINTS",
    "WORDS",
    "Clause",
    "Part",
    "UnknownClause",
    "Unobserved",
    "clause",
    "clauses_of",
]
