"""Checks of collected cases: their clause ids exist, and the backend has what they require."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from .case import CaseState
from .contract import CLAUSES, UnknownClause, clause
from .hal import Capability
from .identity import case_id
from .observation import ObservedDevice

#: The fixtures that open a device, and end the case where it lacks something that is required.
OPENING = frozenset({"hal_device", "hal_open_device"})


def check_markers(cases: Iterable[pytest.Item]) -> None:
    """Refuse to run when a case names a clause or a capability that does not exist, or requires one that nobody minds.

    :raises pytest.UsageError: one line for each.
    """
    problems: list[str] = []
    for item in cases:
        for mark in item.iter_markers("hal_clause"):
            for name in mark.args:
                try:
                    clause(name)
                except UnknownClause as error:
                    problems.append(f"{case_id(item)}: {error}")
        for mark in item.iter_markers("hal_requires"):
            problems += [
                f"{case_id(item)}: {name!r} is no Capability" for name in mark.args if not isinstance(name, Capability)
            ]
            if not OPENING.intersection(getattr(item, "fixturenames", ())):
                problems.append(
                    f"{case_id(item)}: what it requires is looked for where a device is opened, and it asks for "
                    "neither hal_device nor hal_open_device"
                )
    if problems:
        raise pytest.UsageError(*dict.fromkeys(problems))


def mind_threads(cases: Iterable[pytest.Item]) -> None:
    """Let an exception that a thread of the HAL does not catch fail the case, whatever the run does with warnings."""
    for item in cases:
        item.add_marker(pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"), append=False)


def wanted_clauses(wanted: tuple[str, ...]) -> set[str]:
    """Return the ids of ``--hal-clause``.

    :raises pytest.UsageError: there is no such clause.
    """
    try:
        ids = {clause(name).id for name in wanted}
    except UnknownClause as error:
        raise pytest.UsageError(f"--hal-clause: {error}") from None
    return ids


def select_clauses(config: pytest.Config, items: list[pytest.Item], wanted: tuple[str, ...]) -> None:
    """Keep only the cases that check one of the wanted clauses."""
    ids = wanted_clauses(wanted)
    kept = [item for item in items if ids.intersection(CaseState.of(item).clauses)]
    keep = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = kept


def check_requirements(item: pytest.Item, device: ObservedDevice) -> None:
    """End a case, as unsupported, if the backend lacks a capability that it or every one of its clauses requires."""
    for mark in item.iter_markers("hal_requires"):
        for capability in mark.args:
            device.need(capability)
    gates = [set(CLAUSES[name].requires) for name in CaseState.of(item).clauses if name in CLAUSES]
    if gates:
        for capability in sorted(set.intersection(*gates), key=str):
            device.need(capability)
