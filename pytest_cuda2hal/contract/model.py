"""What a clause is made of."""

from __future__ import annotations

from dataclasses import dataclass

from ..hal import Capability


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the contract: the letters its clause ids begin with, its title, its cases' folder below ``cts``."""

    id: str
    title: str
    folder: str


@dataclass(frozen=True, slots=True)
class Unobserved:
    """Why a clause has no case: the observation that is missing, and the simulator test that stands in for it."""

    missing: str
    stand_in: str


@dataclass(frozen=True, slots=True)
class Clause:
    """One promise.

    ``requires`` gates it: a HAL without one of these capabilities natively is not judged by it. ``quality`` clauses are
    reported with a figure and fail a run only for this project's own backends or with ``--strict-quality``.
    ``variations`` are the variation points on which what it says depends.
    """

    id: str
    text: str
    quality: bool = False
    requires: tuple[Capability, ...] = ()
    variations: tuple[str, ...] = ()
    unobserved: Unobserved | None = None

    @property
    def part(self) -> str:
        """The letters that the id begins with."""
        return self.id.partition("-")[0]
