"""Options whose values need more than a look to be understood: each is read, or refused, before anything runs."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .baseline import Facts
    from .probe import Probe
    from .run import Run


def read_choices(run: Run) -> None:
    """Read the clauses, profile, baseline and shard of a run.

    :raises pytest.UsageError: one of them cannot be understood; the text says what to write.
    """
    settings = run.settings
    if settings.clauses:
        from .collection import wanted_clauses

        wanted_clauses(settings.clauses)
    if settings.profile is not None:
        from .hal import PROFILES

        if settings.profile not in PROFILES:
            near = difflib.get_close_matches(settings.profile, PROFILES, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise pytest.UsageError(
                f"--hal-profile: there is no profile '{settings.profile}'; known: {', '.join(PROFILES)}{hint}"
            )
    if settings.baseline is not None:
        from .baseline import Baseline, BaselineError

        try:
            run.baseline = Baseline.load(settings.baseline)
        except BaselineError as error:
            raise pytest.UsageError(*(f"--hal-baseline: {problem}" for problem in error.problems)) from None
    if settings.shard is not None:
        from .sharding import ShardError, durations, parse_shard

        try:
            parse_shard(settings.shard)
            if settings.shard_durations is not None:
                from pathlib import Path

                durations(Path(settings.shard_durations))
        except ShardError as error:
            raise pytest.UsageError(f"--hal-shard: {error}") from None
    elif settings.shard_durations is not None:
        raise pytest.UsageError("--hal-shard-durations is for --hal-shard=I/N; give that too, or leave it out")


def facts_of(answer: Probe) -> Facts:
    """Return what a probe says that a baseline's conditions may ask for."""
    import platform

    from .baseline import Facts

    return Facts(
        backend=answer.spec,
        device=answer.device,
        versions=answer.versions,
        system=platform.system(),
        machine=platform.machine(),
        python=platform.python_version(),
    )
