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
    assert "a@1: see above, the waits form a ring" in evidence


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


@pytest.mark.parametrize(
    ("backend", "sign"),
    [
        # The C watchdog of faulthandler needs no lock of the interpreter: it prints every stack and ends the process.
        ("GilHolder", ["*Timeout (0:00:0*", "*Thread 0x*", "*allocate_buffer*"]),
        ("Dying", []),
    ],
)
def test_case_that_ends_its_process_costs_one_case(suite, backend, sign):
    pytest.importorskip("xdist")
    if backend == "GilHolder" and pytest.version_tuple < (9,):
        pytest.skip("faulthandler_exit_on_timeout came with pytest 9")
    suite.case(
        """
        import pytest

        @pytest.mark.hal_clause("TL-1")
        @pytest.mark.parametrize("size", [1, 13, 2])
        def test_it(hal_device, size):
            hal_device.allocate_buffer(size)

        def test_after(hal_device): ...
        """
    )
    result = suite.run_child(
        *("-n", "1", "--max-worker-restart=100", f"--backend=odd_backends:{backend}", "--hal-report=report.json"),
        *("-o", "faulthandler_timeout=2", "-o", "faulthandler_exit_on_timeout=true"),
    )
    assert result.ret == 1
    if sign:
        result.stderr.fnmatch_lines(sign)
    result.stdout.fnmatch_lines(
        [f"*worker 'gw*' crashed while running 'test_it.py::test_it[[]odd_backends:{backend}-13]'*"]
    )
    report = json.loads((suite.pytester.path / "report.json").read_text())
    outcomes = {case["case"]: case["outcome"] for case in report["cases"]}
    assert outcomes == {
        "test_it::test_it[1]": "pass",
        "test_it::test_it[13]": "crash",
        "test_it::test_it[2]": "pass",
        "test_it::test_after": "pass",
    }
    assert report["counts"][f"odd_backends:{backend}"]["crash"] == 1
