"""What a backend lacks: a skip that names it, a failure on the project's own, and quality clauses likewise."""

from __future__ import annotations

import pytest

CASES = """
    import pytest
    from pytest_cuda2hal.hal import Capability, WaitMode

    @pytest.mark.hal_requires(Capability.HOLD)
    def test_marked(hal_device): assert False, "must not run"

    def test_operation(hal_device):
        hal_device.create_latch()

    def test_emulated(hal_device, hal_semaphores):
        hal_device.wait_semaphores([hal_semaphores.at(1) @ 1], mode=WaitMode.ANY)

    @pytest.mark.hal_clause("TL-1")
    def test_within_reach(hal_device): ...
"""


def test_case_is_skipped_with_the_capability(suite):
    result = suite.hooked().case(CASES).run("--backend=incomplete", "-rs")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED * unsupported: capability hold is absent",
            "SKIPPED * unsupported: capability wait-any is only emulated by the adapter",
            "incomplete: 1 pass, 3 unsupported",
            "  unsupported (2): capability hold is absent",
            "  unsupported (1): capability wait-any is only emulated by the adapter",
        ]
    )


def test_on_a_backend_of_our_own_it_fails(suite):
    result = suite.hooked().case(CASES).run("--backend=own-incomplete")
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed") == 1
    assert sum(outcomes.values()) == 3  # what is found before the case begins, pytest calls an error
    assert "skipped" not in outcomes
    result.stdout.fnmatch_lines_random(
        [
            "*capability hold is absent; this backend is one of the project's own and must have it",
            "*capability wait-any is only emulated by the adapter; this backend is one of the project's own*",
            "own-incomplete: 1 pass, 3 fail",
        ]
    )


def test_clause_that_needs_a_capability_is_gated_by_it(suite):
    suite.hooked().case(
        """
        import pytest

        @pytest.mark.hal_clause("H-1")
        def test_host_call(hal_device): assert False, "must not run"

        @pytest.mark.hal_clause("H-1", "TL-1")
        def test_also_about_something_else(hal_device): ...
        """
    )
    result = suite.run("--backend=minimal", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * unsupported: capability host-call is absent"])


def test_profile_without_failure_excuses_our_own(suite):
    suite.hooked().case("def test_it(hal_cause): hal_cause()")
    suite.run("--backend=own-whole:profile=vulkan").assert_outcomes(skipped=1)


def test_fewer_queues_are_no_defect(suite):
    suite.case("def test_it(hal_device): hal_device.need_queues(2)")
    result = suite.run("--backend=reference:queues=1", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * unsupported: capability multi-queue(2): the device has 1"])


@pytest.mark.parametrize(
    ("arguments", "fails"),
    [
        (["--backend=whole"], False),
        (["--backend=whole", "--strict-quality"], True),
        (["--backend=own-whole"], True),
    ],
)
def test_broken_quality_clause(suite, arguments, fails):
    suite.hooked().case("def test_it(hal_quality): hal_quality('W-10q', 0.9 < 0.2, '90% of a core')")
    result = suite.run(*arguments)
    result.assert_outcomes(failed=int(fails), passed=int(not fails))
    expected = ["*quality clause W-10q is broken: 90% of a core"] if fails else []
    result.stdout.fnmatch_lines([*expected, "  quality clause broken: W-10q: 90% of a core (test_it::test_it)"])


@pytest.mark.parametrize("ending", ["pytest.skip('unsupported: the rest')", "pytest.fail('the rest')"])
def test_device_with_work_whose_semaphores_are_gone_is_neither_closed_nor_destroyed(suite, ending):
    """Nobody can end that work any more, and to close or destroy such a device may hang the process for ever."""
    case = """
    import gc
    import pytest
    from pytest_cuda2hal.hal import Fill

    def submit(device, buffers, semaphores):
        gate, done = semaphores(2)
        device.queue_execute([Fill(buffers.filled(0), 7)], wait=[gate @ 1], signal=[done @ 1])

    def test_it(hal_device, hal_buffers, hal_semaphores):
        submit(hal_device, hal_buffers, hal_semaphores)
        gc.collect()
        ENDING
    """
    case = case.replace("ENDING", ending)
    result = suite.case(case).run_child("--backend=odd_backends:CloseAtRest", "-s", "--no-isolate")
    result.stdout.fnmatch_lines(["*1 [fs][ak]*ed*"])
    result.stdout.no_fnmatch_line("*closed with work pending*")
    result.stdout.no_fnmatch_line("*the end of a device*")


def test_device_of_a_case_that_passed_is_closed_and_destroyed(suite):
    case = "def test_it(hal_device): ..."
    result = suite.case(case).run_child("--backend=odd_backends:CloseAtRest", "-s", "--no-isolate")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*the end of a device*"])
