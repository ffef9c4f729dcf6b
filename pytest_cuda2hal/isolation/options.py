"""What a child must know of the options of this pytest run, its own and those of other plugins."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest


def seeds(config: pytest.Config) -> dict[str, Any]:
    """Return the options of other plugins that a child must have as this process has them by now."""
    seed = getattr(config.option, "randomly_seed", None)
    return {"randomly_seed": seed} if isinstance(seed, int) else {}


def stop_timer(item: pytest.Item) -> None:
    """Stop the timer that pytest-timeout has started for a case: it would end this process instead."""
    if hasattr(item.config.hook, "pytest_timeout_cancel_timer"):
        item.config.hook.pytest_timeout_cancel_timer(item=item)


def own_limit(item: pytest.Item) -> float | None:
    """Return the seconds that pytest-timeout gives a case."""
    config = item.config
    if not hasattr(config.hook, "pytest_timeout_cancel_timer"):
        return None
    mark = item.get_closest_marker("timeout")
    given = (mark.args[0] if mark.args else mark.kwargs.get("timeout")) if mark is not None else None
    for text in (given, config.getoption("timeout", None), config.getini("timeout")):
        with contextlib.suppress(ValueError):
            if (seconds := float(text or 0)) > 0:
                return seconds
    return None


def basetemp(config: pytest.Config, number: int) -> str | None:
    """Return a folder for a child's temporary ones, below this process's where that is given."""
    if not config.option.basetemp:
        return None
    return str(config.invocation_params.dir / config.option.basetemp / f"hal-child-{number}")


def make_basetemp(config: pytest.Config) -> None:
    """Make the folder for temporary ones that is given, if this process has not: a child's is to be in it."""
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is not None:
        factory.getbasetemp()
