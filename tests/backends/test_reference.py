"""What the suite cannot ask of the reference backend: how it keeps its books."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace

import pytest

from pytest_cuda2hal.backends.reference import device as device_module
from pytest_cuda2hal.backends.reference import open_reference, semaphore
from pytest_cuda2hal.hal import HalError, StatusCode


def test_hundreds_of_waits_are_given_up_in_a_few_passes(monkeypatch):
    """Each pass sorts whatever is waited for: one for every wait would make giving up quadratic."""
    passes = []

    def count_and_sort(values):
        passes.append(len(values))
        return sorted(values)

    monkeypatch.setattr(semaphore, "sorted", count_and_sort, raising=False)
    with closing(open_reference()) as device:
        timeline, bad, done = (device.create_semaphore() for _ in range(3))
        for value in range(1, 501):
            device.queue_execute([], wait=[timeline @ value, bad @ 1], signal=[done @ value])
        bad.fail(HalError(StatusCode.ABORTED, "all of them"))
        with pytest.raises(HalError, match="all of them"):
            done.wait(500, 5)
        assert 1 <= len(passes) <= 8


def test_all_of_the_memory_can_be_had():
    with closing(open_reference(memory=2**20)) as device:
        made = device.create_semaphore()
        buffer = device.queue_alloca(2**20, signal=[made @ 1])
        made.wait(1, 5)
        assert buffer.size == 2**20


def test_a_device_may_close_on_a_thread_of_its_own(monkeypatch):
    """As where the last handle goes there; the thread that closes does not wait for its own end."""
    device = open_reference(queues=2)
    own, other = (queue.thread for queue in device._queues)
    joined = []
    monkeypatch.setattr(own, "join", lambda: joined.append(own))
    monkeypatch.setattr(other, "join", lambda: joined.append(other))
    monkeypatch.setattr(device_module, "threading", SimpleNamespace(current_thread=lambda: own))
    device.close()
    monkeypatch.undo()
    assert joined == [other]
    own.join(5)
    assert not own.is_alive()
