"""A case that passed must have left nothing pending and nothing alive."""

from __future__ import annotations


def leftovers(suite, source, backend="whole"):
    suite.hooked().case("KEPT = []\n\n" + source.replace("\n        ", "\n").strip())
    result = suite.run(f"--backend={backend}", "--hal-deadline=0.3", "-v")
    # The case itself passes; what it left is found when it is over.
    assert result.parseoutcomes() == {"passed": 1, "errors": 1}, result.stdout.str()
    result.stdout.fnmatch_lines([f"{backend}: 1 fail"])
    return result.stdout


def test_pending_work(suite):
    lines = leftovers(
        suite,
        """
        def test_it(hal_device, hal_semaphores):
            gate, done = hal_semaphores(2)
            KEPT.extend([gate, done])
            hal_device.queue_execute([], wait=[gate @ 1], signal=[done @ 1])
        """,
    )
    lines.fnmatch_lines(["*L-1: the case left something alive in the device: *pending: 0 before, 1 after*"])


def test_pending_work_of_a_device_that_counts_nothing(suite):
    suite.hooked().case(
        """
        KEPT = []

        def test_it(hal_open_device):
            device = hal_open_device()
            gate, done = device.create_semaphore(0), device.create_semaphore(0)
            KEPT.extend([gate, done])
            device.queue_execute([], wait=[gate @ 1], signal=[done @ 1])
        """
    )
    result = suite.run("--backend=whole", "--hal-deadline=0.3")
    assert result.parseoutcomes() == {"passed": 1, "errors": 1}
    result.stdout.fnmatch_lines(["*the case left work pending:", "*submission #1  barrier  wait [[]*@1]  signal*"])


def test_semaphore_and_buffer_in_a_global(suite):
    lines = leftovers(
        suite,
        """
        def test_it(hal_semaphores, hal_buffers):
            KEPT.append(hal_semaphores(2))
            KEPT.append(hal_buffers.filled(0, size=64))
        """,
    )
    lines.fnmatch_lines(["*semaphores: 0 before, 2 after, buffers: 0 before, 1 after, memory_in_use: 0 before, 64 *"])


def test_timepoint_that_somebody_still_waits_for(suite):
    lines = leftovers(
        suite,
        """
        import threading, time

        def test_it(hal_semaphores, hal_device):
            (s,) = hal_semaphores(1)
            threading.Thread(target=s.wait, args=(1, 1.0), daemon=True).start()
            while hal_device.statistics().timepoints == 0:
                time.sleep(0.001)
        """,
    )
    lines.fnmatch_lines(["*timepoints: 0 before, 1 after*"])


def test_case_that_failed_is_not_blamed_twice(suite):
    suite.hooked().case(
        """
        KEPT = []

        def test_it(hal_device, hal_semaphores):
            KEPT.extend(hal_semaphores(1))
            hal_device.queue_execute([], wait=[KEPT[0] @ 1])
            assert False

        def test_next(hal_device): ...
        """
    )
    suite.run("--backend=whole", "--hal-deadline=0.3").assert_outcomes(failed=1, passed=1)


def test_every_further_device_is_closed_though_one_is_not_finished(suite):
    suite.hooked().case(
        """
        OPENED = []

        def test_it(hal_open_device):
            OPENED.extend([hal_open_device(), hal_open_device()])
            for device in OPENED:
                device.gate = device.create_semaphore(0)
                device.queue_execute([], wait=[device.gate @ 1], signal=[device.gate @ 2])

        def test_closed():
            assert all(device.closed for device in OPENED)
        """
    )
    result = suite.run("--backend=whole", "--hal-deadline=0.2")
    assert result.parseoutcomes() == {"passed": 2, "errors": 1}
