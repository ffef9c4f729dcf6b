"""What it costs to give up waits."""

from __future__ import annotations

import heapq
from types import SimpleNamespace
from typing import Any

from pytest_cuda2hal.backends.cuda import timepoints
from pytest_cuda2hal.backends.cuda.timepoints import HostWaitPoint, WaitQueue

NOBODY: Any = None


def test_thousands_of_waits_are_given_up_in_a_few_passes(monkeypatch):
    """Each pass looks at whatever is queued: one for every so many waits would make giving up quadratic."""
    passes = []

    def heapify(heap):
        passes.append(len(heap))
        heapq.heapify(heap)

    counting = SimpleNamespace(heapify=heapify, heappush=heapq.heappush, heappop=heapq.heappop)
    monkeypatch.setattr(timepoints, "heapq", counting)
    queue = WaitQueue()
    points = [HostWaitPoint(value, NOBODY) for value in range(4000)]
    for point in points:
        queue.push(point)
    for point in points:
        point.dead = True
        queue.given_up(point)
    assert 1 <= len(passes) <= 12
    assert len(queue) == 0


def test_waits_that_are_met_after_others_were_given_up_leave_nothing():
    """Values that come one after the other, and one that never does; each is waited for in vain before it comes."""
    queue = WaitQueue()
    for value in range(1000):
        for point in (HostWaitPoint(value, NOBODY), HostWaitPoint(10**9, NOBODY)):
            queue.push(point)
            point.dead = True
            queue.given_up(point)
        queue.take(value, [])
    assert len(queue._heap) < 100
