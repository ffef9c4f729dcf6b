"""Which answers a backend was seen to give at variation points, and which profile gives most of the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .hal import PROFILES, Limit
from .hal.profiles import VARIATION_POINTS


def seen_answers(cases: Iterable[Mapping[str, Any]], spec: str) -> dict[str, list[str]]:
    """Collect what the cases of one backend saw, as written in a result file: variation point -> answers, sorted."""
    seen: dict[str, set[str]] = {}
    for case in cases:
        if case["backend"] == spec:
            for point, answer in case["variations"].items():
                seen.setdefault(point, set()).add(answer)
    return {point: sorted(seen[point]) for point in sorted(seen)}


def nearest_profile(seen: Mapping[str, Iterable[str]], declared: str) -> dict[str, Any] | None:
    """Return the profile that permits most of the answers seen: ``profile``, how many ``agree``, ``of`` how many.

    A profile that leaves a point undefined disagrees with every answer to it. Among equals the ``declared`` profile
    wins, then the first. Points that are not known, and limits, do not count; ``None`` if nothing is left to count.
    """
    pairs = [
        (point, answer)
        for point, answers in seen.items()
        if point in VARIATION_POINTS and not _is_limit(point)
        for answer in answers
    ]
    if not pairs:
        return None

    def agreement(name: str) -> int:
        return sum(answer in PROFILES[name].answer(point).permitted for point, answer in pairs)

    # max() keeps the first of equals.
    name = max(sorted(PROFILES, key=lambda name: name != declared), key=agreement)
    return {"profile": name, "agree": agreement(name), "of": len(pairs)}


def answers_of(cases: Iterable[Mapping[str, Any]], spec: str, declared: str) -> dict[str, Any]:
    """Return what a result file says of a backend's answers; ``declared`` is the profile that its adapter names."""
    seen = seen_answers(cases, spec)
    return {"seen": seen, "nearest": nearest_profile(seen, declared)}


def _is_limit(point: str) -> bool:
    return any(isinstance(answer, Limit) for answer in VARIATION_POINTS[point].answers.values())
