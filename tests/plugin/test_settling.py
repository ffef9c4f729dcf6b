"""Settling convicts what happens too early, to the end of its time, and says what it saw."""

from __future__ import annotations

import json
import time

import pytest

CASE = """
    import pytest
    from pytest_cuda2hal.hal import Copy

    @pytest.mark.hal_clause("Q-1")
    def test_it(hal_device, hal_buffers, hal_semaphores, hal_settle):
        source, target = hal_buffers.holding(bytes([7] * 256)), hal_buffers.filled(0)
        gate, done = hal_semaphores(2)
        hal_device.queue_execute([Copy(source, target)], wait=[gate @ 1], signal=[done @ 1])
        hal_settle(lambda: target.untouched)
        gate.signal(1)
        done.wait(1)
        assert target.holds(7)
"""


def test_work_that_runs_5_ms_after_the_submit_without_waiting_is_convicted(suite):
    result = suite.hooked().case(CASE).run("--backend=late", "--effort=quick", "--hal-report=report.json")
    result.assert_outcomes(failed=1)
    (case,) = json.loads((suite.pytester.path / "report.json").read_text())["cases"]
    assert case["outcome"] == "fail"
    evidence = case["evidence"]
    assert "Q-1  Nothing of a submission runs before its whole wait list is reached" in evidence
    assert "target untouched" in evidence
    assert "target[0:256] = 07 07 07 " in evidence
    assert "256 of 256 bytes differ" in evidence
    assert "submission #1  copy(source → target)  wait [gate@1]  signal [done@1]" in evidence


def test_backend_that_waits_is_not(suite):
    result = suite.hooked().case(CASE).run("--backend=whole", "--effort=quick")
    result.assert_outcomes(passed=1)


class Watched:
    """A device with nothing to flush and no queue to go round."""

    queue_count = 1

    def has(self, capability):
        return False


@pytest.fixture
def settle():
    from pytest_cuda2hal.observation.settle import Settle

    return Settle(Watched(), 0.05)  # type: ignore[arg-type]


def test_it_watches_to_the_end(settle):
    looks = []
    began = time.monotonic()

    def look():
        looks.append(time.monotonic())
        return True

    settle(look)
    assert looks[0] - began < 0.04
    assert looks[-1] - began >= 0.05
    assert len(looks) > 5


def test_what_happens_at_the_very_end_is_seen(settle):
    from pytest_cuda2hal.observation.settle import NotYetViolated

    end = time.monotonic() + 0.045
    with pytest.raises(NotYetViolated, match="the observation turned false"):
        settle(lambda: time.monotonic() < end)


def test_it_fails_at_the_first_look_that_finds_something(settle):
    from pytest_cuda2hal.observation.settle import NotYetViolated

    began = time.monotonic()
    with pytest.raises(NotYetViolated):
        settle(lambda: True, lambda: False)
    assert time.monotonic() - began < 0.04
