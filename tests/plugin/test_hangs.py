"""A hang is told apart from a failure and explained: who waits, for what, and who was to bring it."""

from __future__ import annotations

import json

import pytest


def hang(suite, source, backend="whole"):
    suite.hooked().case(source)
    result = suite.run(f"--backend={backend}", "--hal-deadline=0.3", "--hal-report=report.json")
    result.assert_outcomes(failed=1)
    (case,) = json.loads((suite.pytester.path / "report.json").read_text())["cases"]
    assert case["outcome"] == "hang"
    return case["evidence"]


def test_timepoint_that_nobody_signals(suite):
    evidence = hang(
        suite,
        """
        def test_it(hal_semaphores):
            (gate,) = hal_semaphores(1)
            gate.wait(3)
        """,
    )
    assert "MainThread waited 0.3 s for gate@3, which never came" in evidence
    assert "gate@3 (gate = 0) is signaled by no submission" in evidence


def test_chain_is_followed_to_its_beginning_in_the_names_of_the_case(suite):
    evidence = hang(
        suite,
        """
        from pytest_cuda2hal.hal import Fill

        def test_it(hal_device, hal_semaphores, hal_buffers):
            gate, made, done = hal_semaphores(3)
            target = hal_buffers.filled(0)
            hal_device.queue_execute([Fill(target, 7)], wait=[gate @ 1], signal=[made @ 1], queue=2)
            hal_device.queue_execute([], wait=[made @ 1], signal=[done @ 1], queue=3)
            done.wait(1)
        """,
    )
    for text in (
        "done@1 (done = 0) is to be signaled by submission #2 on queue 3, barrier, which waits for made@1",
        "made@1 (made = 0) is to be signaled by submission #1 on queue 2, fill(target), which waits for gate@1",
        "gate@1 (gate = 0) is signaled by no submission",
        "submission #1  fill(target)  wait [gate@1]  signal [made@1]  queue 2",
    ):
        assert text in evidence, evidence


def test_ring(suite):
    evidence = hang(
        suite,
        """
        def test_it(hal_device, hal_semaphores):
            a, b = hal_semaphores(2)
            hal_device.queue_execute([], wait=[b @ 1], signal=[a @ 1], queue=0)
            hal_device.queue_execute([], wait=[a @ 1], signal=[b @ 1], queue=1)
            a.wait(1)
        """,
    )
    assert "a@1: see above, the waits form a ring (a@1 → submission #1 → b@1 → submission #2 → a@1)" in evidence, (
        evidence
    )


def test_submission_held_by_a_latch(suite):
    evidence = hang(
        suite,
        """
        from pytest_cuda2hal.hal import Hold

        def test_it(hal_device, hal_semaphores, hal_latches):
            (done,) = hal_semaphores(1)
            latch = hal_latches()
            hal_device.queue_execute([Hold(latch)], signal=[done @ 1])
            done.wait(1)
        """,
    )
    assert "all its waits are reached or have failed; it is held by a latch that nobody has opened" in evidence


def test_thread_that_waits_for_ever(suite):
    evidence = hang(
        suite,
        """
        def test_it(hal_threads, hal_semaphores):
            (gate,) = hal_semaphores(1)
            hal_threads.start(lambda: gate.wait(1, timeout=None), "consumer").result()
        """,
    )
    assert "thread 'consumer' did not end within 0.3 s" in evidence
    assert "gate@1 (gate = 0) is signaled by no submission" in evidence


def test_backend_that_never_wakes(suite):
    evidence = hang(
        suite,
        """
        def test_it(hal_device, hal_semaphores, hal_poll):
            done, other = hal_semaphores(2)
            hal_device.queue_execute([], signal=[done @ 1])
            done.wait(1)
        """,
        backend="deaf",
    )
    assert "waited 0.3 s for done@1, which never came" in evidence
    assert "done@1 (done = 1) is to be signaled by submission #1 on queue 0" in evidence
    assert "all its waits are reached or have failed" in evidence


@pytest.mark.parametrize(("backend", "outcome"), [("GilHolder", "hang"), ("Dying", "crash")])
def test_case_that_ends_or_holds_its_process_costs_one_case(suite, backend, outcome):
    suite.case(
        """
        import pytest

        @pytest.mark.hal_clause("TL-1")
        @pytest.mark.parametrize("size", [1, 13, 2])
        def test_it(hal_device, hal_semaphores, size):
            (gate,) = hal_semaphores(1)
            gate.signal(1)
            hal_device.allocate_buffer(size)

        def test_after(hal_device): ...
        """
    )
    result = suite.run_child(f"--backend=odd_backends:{backend}", "--hal-deadline=0.5", "--hal-report=report.json")
    assert result.ret == 1
    report = json.loads((suite.pytester.path / "report.json").read_text())
    outcomes = {case["case"]: case["outcome"] for case in report["cases"]}
    assert outcomes == {
        "test_it::test_it[1]": "pass",
        "test_it::test_it[13]": outcome,
        "test_it::test_it[2]": "pass",
        "test_it::test_after": "pass",
    }
    (evidence,) = [case["evidence"] for case in report["cases"] if case["outcome"] == outcome]
    assert "MainThread is in allocate_buffer(13)" in evidence
    assert "MainThread: signal(gate@1)" in evidence
