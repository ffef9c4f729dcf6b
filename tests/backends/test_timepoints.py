"""A timepoint has a value that a timeline can have, by whatever way it was made."""

from __future__ import annotations

from contextlib import closing

import pytest

from pytest_cuda2hal.backends.reference import open_reference
from pytest_cuda2hal.hal import Timepoint


@pytest.mark.parametrize("value", [-5, 2.5, True, "1", None, 2**64])
@pytest.mark.parametrize(
    "make",
    [
        lambda semaphore, value: semaphore @ value,
        Timepoint,
        lambda semaphore, value: (semaphore @ 1)._replace(value=value),
        lambda semaphore, value: Timepoint._make([semaphore, value]),
    ],
    ids=["matmul", "Timepoint", "_replace", "_make"],
)
def test_what_is_no_value_of_a_timeline_is_refused(make, value):
    with closing(open_reference()) as device, pytest.raises((TypeError, ValueError), match="a timeline value"):
        make(device.create_semaphore(), value)


def test_a_copy_with_another_value():
    with closing(open_reference()) as device:
        semaphore = device.create_semaphore()
        assert (semaphore @ 1)._replace(value=7) == semaphore @ 7
