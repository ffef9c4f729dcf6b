"""What a review found once and must not come back."""

from __future__ import annotations

import pytest


def test_user_properties_of_others_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_property(record_property):
            record_property("hal", "rocm")
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize("option", ["--effort", "--list-backends", "--strict-quality", "--backend"])
def test_options_of_others_are_left_to_them(pytester: pytest.Pytester, option: str) -> None:
    pytester.makeconftest(
        f"""
        def pytest_addoption(parser):
            parser.addoption("{option}", dest="theirs", default="theirs")
        """
    )
    pytester.makepyfile(
        """
        def test_option(pytestconfig):
            assert pytestconfig.getoption("theirs") == "x"
            assert pytestconfig.getoption("hal_effort") == "quick"
        """
    )
    pytester.runpytest_subprocess(f"{option}=x", "--hal-effort=quick").assert_outcomes(passed=1)


def test_expected_failure_is_not_called_unsupported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.xfail
        def test_expected(hal_device):
            assert 0
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["reference: 1 set aside"])


def test_report_that_cannot_be_written_is_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_fails(hal_device): assert 0")
    result = pytester.runpytest_subprocess("--hal-report=/proc/nothing/report.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["ERROR: --hal-report: *", "*1 failed*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_result_of_a_failed_thread_fails_every_time(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_thread(hal_threads):
            task = hal_threads.start(lambda: 1 / 0)
            for _ in range(2):
                with pytest.raises(ZeroDivisionError):
                    task.result()
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_partly_written_buffer_is_compared_with_what_is_there(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_buffer(hal_device):
            b = hal_device.allocate_buffer(16)
            b.write(memoryview(b"x"), 3)
            assert b.untouched
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_failure_with_deadline_exceeded_is_no_hang(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_cuda2hal.hal import HalError, StatusCode

        def test_list(hal_device, hal_semaphores):
            [s] = hal_semaphores(1)
            s.fail(HalError(StatusCode.DEADLINE_EXCEEDED, "mine"))
            with pytest.raises(HalError, match="mine"):
                hal_device.wait_semaphores([s @ 1])
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_work_after_device_loss_never_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_cuda2hal.hal import HalError, StatusCode

        def test_lost(hal_open_device):
            device = hal_open_device()
            device.inject_device_loss(HalError(StatusCode.DATA_LOSS, "gone"))
            calls = []
            for _ in range(100):
                done = device.create_semaphore(0)
                device.queue_host_call(lambda: calls.append(1), signal=[done @ 1])
                with pytest.raises(HalError):
                    done.wait(1)
            device.close()
            assert not calls
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_latch_of_another_device_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_cuda2hal.hal import HalError, Hold

        def test_latch(hal_open_device):
            one, other = hal_open_device(), hal_open_device()
            with pytest.raises(HalError):
                other.queue_execute([Hold(one.create_latch())])
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_in_order_chain_needs_no_overtaking(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        in_order="""
        from pytest_cuda2hal.backends.reference import ReferenceDevice
        from pytest_cuda2hal.hal import PROFILES, Capability

        class InOrder(ReferenceDevice):
            def __init__(self):
                super().__init__(PROFILES["vulkan"])
                self.capabilities -= {Capability.SAME_QUEUE_OUT_OF_ORDER}
        """,
        test_chain="""
        from pytest_cuda2hal.hal import Hold

        def test_producers_first(hal_device, hal_semaphores, hal_latches):
            [s], latch = hal_semaphores(1), hal_latches()
            hal_device.queue_execute([Hold(latch)], signal=[s @ 1])
            hal_device.queue_execute([], wait=[s @ 1], signal=[s @ 2])
            hal_device.queue_execute([], wait=[s @ 2], signal=[s @ 3])
            latch.open()
            s.wait(3)

        def test_consumer_first(hal_device, hal_semaphores):
            [s] = hal_semaphores(1)
            hal_device.queue_execute([], wait=[s @ 1], signal=[s @ 2], queue=1)
            hal_device.queue_execute([], signal=[s @ 1])
            s.wait(2)
            hal_device.queue_execute([], wait=[s @ 3])
            hal_device.queue_execute([], signal=[s @ 3])
        """,
    )
    result = pytester.runpytest_subprocess("--backend=in_order:InOrder", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*same-queue-out-of-order*"])
