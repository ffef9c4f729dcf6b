"""The fixtures in a suite of somebody's own."""

from __future__ import annotations


def test_everything_works_on_two_backends(suite):
    suite.hooked().case(
        """
        import pytest
        from pytest_cuda2hal.hal import Capability, Copy, Fill, Hold, HalError, StatusCode

        def test_device(hal_device, hal_semaphores, hal_buffers, hal_settle, hal_latches):
            b, c = hal_buffers.filled(0, count=2)
            one = hal_buffers.holding(b"abc")
            held, gate, done = hal_semaphores(3)
            latch = hal_latches()
            hal_device.queue_execute([Hold(latch), Fill(b, 7)], wait=[gate @ 1], signal=[held @ 1])
            hal_device.queue_execute([Copy(b, c)], wait=[held @ 1], signal=[done @ 1])
            gate.signal(1)
            hal_settle(lambda: c.untouched)
            latch.open()
            done.wait(1)
            assert c.holds(7) and one.holds_bytes(b"abc")
            assert hal_semaphores.at(5).query() == 5

        def test_threads(hal_threads, hal_semaphores, hal_poll, hal_deadline):
            (s,) = hal_semaphores(1)
            task = hal_threads.start(lambda: s.wait(2))
            assert not task.done
            assert hal_threads.run([lambda: 1, lambda: 2]) == [1, 2]
            s.signal(2)
            task.result()
            hal_poll(lambda: s.query() == 2)
            assert hal_deadline == 3.0

        def test_more_devices(hal_device, hal_open_device, request):
            other = hal_open_device()
            assert other is not hal_device and other.inner is not hal_device.inner
            request.config.others = [*getattr(request.config, "others", []), other]

        def test_they_were_closed(hal_backend, request):
            assert request.config.others and all(other.closed for other in request.config.others)

        def test_words(hal_cause, hal_semaphores, hal_variation, hal_quality, hal_effort):
            (s,) = hal_semaphores(1)
            s.fail(hal_cause("why"))
            with pytest.raises(HalError, match="why") as caught:
                s.query()
            assert caught.value.code is StatusCode.DATA_LOSS
            hal_variation("failed-wait-code").check("ABORTED" if s._device.profile == "seed" else "cause")
            hal_quality("W-10q", True, "1% of a core")
            assert hal_effort.loops(1, 20) == 20
        """
    )
    result = suite.run("--backend=whole,whole:profile=seed", "--hal-deadline=3", "-v")
    outcomes = result.parseoutcomes()
    assert outcomes == {"passed": 10}, result.stdout.str()
    result.stdout.fnmatch_lines(["*test_device[[]whole] PASSED*", "*test_device[[]whole:profile=seed] PASSED*"])


def test_failures_of_threads_and_polls_are_failures(suite):
    suite.hooked().case(
        """
        def test_thread(hal_threads):
            hal_threads.start(lambda: 1 / 0)

        def test_endless_thread(hal_threads, hal_semaphores):
            (never,) = hal_semaphores(1)
            hal_threads.start(lambda: never.wait(1, timeout=None), name="listener")

        def test_poll(hal_poll):
            hal_poll(lambda: [])
        """
    )
    result = suite.run("--backend=whole", "--hal-deadline=0.3")
    # The first two are found when the case is over, the last one needs no backend at all.
    assert result.parseoutcomes() == {"passed": 2, "errors": 2, "failed": 1}
    result.stdout.fnmatch_lines(
        [
            "*ZeroDivisionError: division by zero",
            "*thread 'listener' is still running 0.3 s after the case ended*",
            "*still not so after 0.3 s: [[]]",
        ]
    )


def test_parametrized_cases_and_classes(suite):
    suite.hooked().case(
        """
        import pytest

        @pytest.mark.parametrize("count", [1, 2])
        class TestIt:
            def test_it(self, hal_semaphores, count):
                assert len(hal_semaphores(count)) == count
        """
    )
    assert sorted(suite.collected("--backend=minimal,whole")) == ["minimal-1", "minimal-2", "whole-1", "whole-2"]
    suite.run("--backend=minimal,whole").assert_outcomes(passed=4)


def test_one_case_for_one_backend(suite):
    suite.hooked().case(
        """
        import pytest

        @pytest.mark.parametrize("hal_backend", ["minimal"], indirect=True)
        def test_it(hal_backend, hal_device):
            assert hal_backend.spec.text == "minimal"
        """
    )
    suite.run("--backend=whole").assert_outcomes(passed=1)
