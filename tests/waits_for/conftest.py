"""Devices that hang soon, and journals."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.hal import PROFILES
from pytest_cuda2hal.observation import DeadlineExpired, ObservedDevice
from pytest_cuda2hal.observation.journal import Journal, set_journal


@pytest.fixture
def open_device():
    """Open reference devices; whatever still waits is failed at the end."""
    opened = []

    def open_device(deadline=0.05):
        opened.append(ObservedDevice(ReferenceDevice(PROFILES["strict"]), own=True, deadline=deadline))
        return opened[-1]

    yield open_device
    for device in opened:
        for latch in list(device.latches):
            latch.open()
        device.close()


@pytest.fixture
def journal_path(tmp_path):
    return tmp_path / "case.journal"


@pytest.fixture
def journal(journal_path):
    """A journal that devices write into."""
    journal = Journal.create(journal_path)
    journal.begin_case("test_it")
    set_journal(journal)
    yield journal
    set_journal(None)


@pytest.fixture
def hang():
    def hang(semaphore, value=1):
        with pytest.raises(DeadlineExpired) as caught:
            semaphore.wait(value)
        return caught.value

    return hang
