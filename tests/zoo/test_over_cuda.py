"""The faulty variants of the CUDA backend: each says where it comes from, and works as long as it does not strike."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.backends.faulty import ZOO, Chance
from pytest_cuda2hal.contract import CLAUSES

DEFECTS = {name: one for name, one in ZOO.items() if name.startswith("cuda-")}


def test_there_are_as_many_as_promised() -> None:
    assert sum("-1-in-" not in name for name in DEFECTS) >= 25


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_says_what_where_and_against_which_clauses(name: str) -> None:
    one = DEFECTS[name]
    assert one.happened
    assert one.text.endswith(".")
    assert set(one.clauses) <= set(CLAUSES)


@pytest.mark.parametrize("name", [name for name in DEFECTS if "-1-in-" not in name])
def test_a_defect_that_does_not_strike_is_none(name: str) -> None:
    """With a chance of next to nothing every variant is a CUDA backend that works, and closes."""
    device = DEFECTS[name].open(Chance(2**40))
    done, buffer = device.create_semaphore(0), device.allocate_buffer(64)
    device.queue_fill(buffer, 7, signal=[done @ 1])
    device.queue_execute([], wait=[done @ 1], signal=[done @ 2], queue=1)
    done.wait(2, 5)
    assert buffer.read() == bytes([7] * 64)
    device.close()
