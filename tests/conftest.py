"""For the project's own tests."""

from __future__ import annotations

import re

import hypothesis
import pytest

pytest_plugins = ["pytester"]

# How long an example takes is the machine's affair: with much else to do one took 0.4 s, of 0.2 that are allowed.
hypothesis.settings.register_profile("any pace", deadline=None)
hypothesis.settings.load_profile("any pace")

#: Variants that `make test` leaves to `make test-whole`: the same promises in other ways of running, and what is slow.
LEFT_OUT = re.compile(
    r"/plugin/test_(baseline_option|write_baseline_option|flaky_entries|shard_option|order_option|profile_option|outcomes"
    r"|spreading)\.py.*[\[-](both|xdist|isolated)[\]-]"
    r"|/plugin/test_isolation.*(Flood\]|method=thread|loadscope|-n 2\])"
    r"|/plugin/test_same_names.*-n 2"
    r"|/zoo/test_fault_loop.*(leaks|hangs|resumed)"
    r"|/zoo/test_zoo.*the_slow_ones"
    r"|/test_reference_is_whole.*-soak\]"
)

#: Tests that take a minute each. They come first, since at the end all workers but one wait for the last of them.
LONG = re.compile(r"/test_(cuda_sim|reference)_is_whole\.py|/packaging/|/zoo/test_zoo.*the_suite_catches")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="run every variant of the project's own tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.search(item.nodeid) is None)
    if config.getoption("--whole"):
        return
    left = [item for item in items if LEFT_OUT.search(item.nodeid)]
    config.hook.pytest_deselected(items=left)
    leave = set(left)
    items[:] = [item for item in items if item not in leave]
