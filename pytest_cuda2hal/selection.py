"""Which cases there are, which of them this run is about, and in which order they come."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .identity import case_id, suite_folder

if TYPE_CHECKING:
    from .run import Run

#: Under which a pytest-xdist worker tells its controller.
SELECTION_OUTPUT = "hal_selection"
NOTES_OUTPUT = "hal_notes"


@dataclass(slots=True)
class Selection:
    """The cases of a run, by their ids."""

    #: Every case that was collected, selected or not.
    collected: list[str]
    #: Whether the whole suite was collected, or nothing of it: then what a baseline lists must be there.
    whole: bool
    #: Which shard this run is, as a result file says it.
    shard: dict[str, Any] | None


def choose(run: Run, config: pytest.Config, items: list[pytest.Item], collected: list[pytest.Item]) -> None:
    """Keep the shard's cases, order them, and remember what there was."""
    from .plugin import is_case

    ids = sorted({case_id(item) for item in collected})
    selection = Selection(ids, _is_whole(config, collected), None)
    if run.settings.shard is not None and not run.is_child:
        selection.shard = _keep_shard(run, config, items)
    if run.settings.order_seed is not None and not run.is_child:
        _shuffle(items, [item for item in items if is_case(item)], run.settings.order_seed)
    run.selection = selection
    if run.is_worker:
        getattr(config, "workeroutput", {})[SELECTION_OUTPUT] = asdict(selection)


def _is_whole(config: pytest.Config, cases: list[pytest.Item]) -> bool:
    suite = suite_folder()
    seen = {item.path.resolve() for item in cases}
    of_suite = {path for path in seen if path.is_relative_to(suite)}
    if not of_suite:  # somebody's own cases: to name a file or a case is to leave out others
        return all((config.invocation_params.dir / argument).is_dir() for argument in config.args)
    return of_suite >= {path.resolve() for path in suite.rglob("test_*.py")}


def _keep_shard(run: Run, config: pytest.Config, items: list[pytest.Item]) -> dict[str, Any]:
    from .plugin import is_case
    from .sharding import digest, durations, parse_shard, select

    assert run.settings.shard is not None
    shard = parse_shard(run.settings.shard)
    given = run.settings.shard_durations
    ids = {item: case_id(item) for item in items if is_case(item)}
    mine = select(set(ids.values()), shard, durations(Path(given) if given else None))
    left = [item for item, id in ids.items() if id not in mine]
    leave = set(left)
    items[:] = [item for item in items if item not in leave]
    config.hook.pytest_deselected(items=left)
    return {
        "index": shard.index,
        "count": shard.count,
        "selected": len(set(ids.values())),
        "digest": digest(ids.values()),
        "cases": sorted(mine),
    }


def _shuffle(items: list[pytest.Item], cases: list[pytest.Item], seed: int) -> None:
    """Put the cases of each backend in a random order; the backends, and what is no case, keep their places."""
    from .running import spec_of

    by_spec: dict[str, list[pytest.Item]] = {}
    for item in cases:
        by_spec.setdefault(spec_of(item), []).append(item)
    shuffled: dict[str, list[pytest.Item]] = {}
    for spec, mine in by_spec.items():
        shuffled[spec] = sorted(mine, key=lambda item: item.nodeid)
        random.Random(f"{seed} {spec}").shuffle(shuffled[spec])
    chosen = set(cases)
    items[:] = [shuffled[spec_of(item)].pop() if item in chosen else item for item in items]
