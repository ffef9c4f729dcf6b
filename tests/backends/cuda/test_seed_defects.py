"""What was wrong in the seed, one test a defect; the numbers are those of the review of its code.

K2, S2 and S21 (failing calls) and S14 (opening) are in test_failing_calls.py; S9 is joined by the races of
test_waiting.py.
"""

from __future__ import annotations

import gc
import weakref

import pytest

from pytest_cuda2hal.backends.cuda.actions import ExecuteAction
from pytest_cuda2hal.backends.cuda.locks import Rank, _held
from pytest_cuda2hal.backends.cuda.simulator import CUresult
from pytest_cuda2hal.hal import Copy, Fill, HalError, Hold, StatusCode, Update, WaitMode

#: The largest value of a semaphore.
VALUE_MAX = 2**64 - 2


def waits_are_for_what_was_recorded(device):
    """Walk through the log: whenever a stream is told to wait for an event, that was recorded before."""
    recorded = set()
    for name, arguments in list(device.driver.log):
        if name == "cuEventRecord":
            recorded.add(arguments[0])
        elif name == "cuStreamWaitEvent":
            assert arguments[1] in recorded
    return len(device.stream_waits())


def test_k1_a_submission_with_an_unsatisfied_wait_does_not_run(rig, completion):
    """A stream was made to wait for an event that nobody had recorded, which waits for nothing."""
    device = rig(record_calls=True, completion=completion)
    gate, done = device.semaphores(2)
    source, target = device.buffer(), device.buffer()
    target.write(bytes(64))
    device.submit(Copy(source, target), wait=[gate @ 1], signal=[done @ 1])
    assert device.never(lambda: device.value(done))
    assert device.calls("cuMemcpyDtoDAsync") == device.stream_waits() == []
    source.write(b"n" * 64)
    gate.signal(1)
    done.wait(1, 5)
    assert target.read() == b"n" * 64


def test_k1_a_consumer_that_comes_before_its_producer_waits_for_the_record(rig):
    """The event of a producer to come was handed out before it was recorded."""
    device = rig(record_calls=True)
    produced, done = device.semaphores(2)
    device.submit(wait=[produced @ 1], signal=[done @ 1], queue=1)
    assert device.stream_waits() == []
    latch = device.hold(0, [produced @ 1])
    assert waits_are_for_what_was_recorded(device) == 1
    assert device.never(lambda: device.value(done))
    latch.open()
    done.wait(1, 5)


def test_k2_a_failing_wait_loses_no_other_action(rig):
    """An error in the scan of pending actions left a lock held and cut the others off the list."""
    device = rig(queues=4)
    gate, produced = device.semaphores(2)
    latch = device.hold(0, [produced @ 1])
    dones = device.semaphores(3)
    for queue, done in enumerate(dones, 1):
        device.submit(wait=[gate @ 1, produced @ 1], signal=[done @ 1], queue=queue)
    device.driver.fail("cuStreamWaitEvent", 2)
    gate.signal(1)
    latch.open()
    assert "cuStreamWaitEvent" in device.failure(dones[1]).message
    dones[0].wait(1, 5)
    dones[2].wait(1, 5)
    assert device.engine._role.acquire(True, 1)
    device.engine._role.release()


def test_k3_a_callback_needs_no_lock_that_a_thread_in_the_driver_may_hold(rig):
    """The driver's callback took the lock of a thread that was inside the driver, and called the driver itself."""
    device = rig(completion="host-function")
    done = device.semaphore()
    latch = device.hold(0, [done @ 1])
    with device.role_held():
        latch.open()
        device.until(lambda: device.lane_of(0).called == 1)
        assert device.value(done) == 0
    done.wait(1, 5)


def test_k4_a_signal_is_known_only_when_its_event_is_recorded(rig, completion):
    """Others could bind to the event of a signal between its registration and its record."""
    device = rig(watched=True, completion=completion)
    done = device.semaphore()
    seen: list[object] = []

    def look(name, arguments):
        if name in ("cuMemsetD8Async", "cuEventRecord") and not seen[1:]:
            seen.append(done.look(1)[2])

    device.watched.watch = look
    latch = device.latch()
    device.submit(Fill(device.buffer(), 1), Hold(latch), signal=[done @ 1])
    assert seen == [None, None]
    assert done.look(1)[2] is not None
    latch.open()
    done.wait(1, 5)
    assert done.look(1)[2] is None


def test_k5_a_wait_is_bound_to_the_signal_of_its_own_value(rig):
    """Every matching event was retained and the last one was waited for."""
    device = rig(queues=4, record_calls=True)
    timeline, done = device.semaphores(2)
    late = device.hold(1, [timeline @ 3])
    early = device.hold(0, [timeline @ 2])
    device.submit(wait=[timeline @ 2], signal=[done @ 1], queue=2)
    assert len(device.stream_waits()) == 1
    early.open()
    done.wait(1, 5)
    assert timeline.query() == 2
    late.open()
    timeline.wait(3, 5)
    device.settles()  # and no event is left over


def test_a_wait_is_not_bound_to_a_larger_signal_which_the_host_may_come_before(rig, completion):
    device = rig(completion=completion)
    timeline, done = device.semaphores(2)
    latch = device.hold(1, [timeline @ 2])
    device.submit(wait=[timeline @ 1], signal=[done @ 1])
    timeline.signal(1)
    done.wait(1, 5)
    latch.open()
    timeline.wait(2, 5)


def test_k6_a_failure_goes_through_everything_that_waits_for_it(rig):
    """Failing a semaphore neither woke the queue nor failed what the queue was to signal."""
    device = rig()
    first, *chain = device.semaphores(5)
    for before, after in zip([first, *chain], chain, strict=False):
        device.submit(wait=[before @ 1], signal=[after @ 1], queue=1)
    waiting = device.task(lambda: chain[-1].wait(1, 5))
    first.fail(HalError(StatusCode.DATA_LOSS, "torn"))
    with pytest.raises(HalError, match="DATA_LOSS: torn"):
        waiting.result()
    assert [device.failure(semaphore).code for semaphore in chain] == [StatusCode.DATA_LOSS] * 4
    device.settles()


def test_s1_work_that_signals_nothing_keeps_what_it_uses_until_it_is_done(rig, completion):
    """Without a signal the cleanup was not ordered after the work, and freed what was in use."""
    device = rig(completion=completion)
    latch = device.hold()
    target = device.buffer(4096)
    commands = device.device.create_command_buffer([Fill(target, 1), Update(target, b"abc")])
    device.submit(commands)
    references = [weakref.ref(target), weakref.ref(commands.program.steps[0]._cache)]
    del target, commands
    gc.collect()
    device.engine.turn()
    assert device.never(lambda: not all(reference() for reference in references))
    assert not device.driver.calls["cuMemFreeAsync"]
    latch.open()
    for reference in references:
        device.dies(reference)


def test_s2_work_after_a_failing_launch_is_issued(rig):
    """The rest of the ready list was lost when one of it failed."""
    device = rig()
    gate, bad, *good = device.semaphores(6)
    commands = device.device.create_command_buffer([Fill(device.buffer(), 1), Fill(device.buffer(), 2)])
    device.submit(commands, wait=[gate @ 1], signal=[bad @ 1])
    for done in good:
        device.submit(commands, wait=[gate @ 1], signal=[done @ 1])
    device.driver.fail("cuGraphLaunch")
    gate.signal(1)
    assert "cuGraphLaunch" in device.failure(bad).message
    for done in good:
        done.wait(1, 5)


def test_s3_lists_are_captured_when_they_are_submitted(rig):
    """The caller's array was kept by its address."""
    device = rig()
    gate, done, other = device.semaphores(3)
    target = device.buffer(4)
    commands, waits, signals = [Fill(target, 1)], [gate @ 1], [done @ 1]
    device.device.queue_execute(commands, wait=waits, signal=signals)
    commands[0], waits[0], signals[0] = Fill(target, 2), other @ 9, other @ 9
    waits.clear()
    gate.signal(1)
    done.wait(1, 5)
    assert target.read() == b"\1\1\1\1"
    assert other.query() == 0


def test_s4_an_action_may_have_any_number_of_waits(rig):
    """Its events lay on the stack of a loop; later there was room for 32."""
    device = rig(queues=4)
    waits, done = device.semaphores(300), device.semaphore()
    latches = [device.hold(queue) for queue in range(3)]
    for number, semaphore in enumerate(waits):
        device.submit(signal=[semaphore @ 1], queue=number % 3)
    device.submit(wait=[semaphore @ 1 for semaphore in waits], signal=[done @ 1], queue=3)
    for latch in latches:
        assert device.value(done) == 0
        latch.open()
    done.wait(1, 5)


@pytest.mark.parametrize("capacity", [0, 1, 2])
def test_s5_a_wait_belongs_to_the_record_that_it_is_for(rig, completion, capacity):
    """An event went back to the pool and was recorded by another between a wait's decision and its call (ABA)."""
    device = rig(seed=5, record_calls=True, completion=completion, event_pool_capacity=capacity)
    timeline, other, target = device.semaphore(), device.semaphore(), device.buffer()
    hops = 120
    for hop in range(1, hops + 1):  # ping-pong between two queues; the hop's number is what it fills with
        device.submit(Fill(target, hop), wait=[timeline @ (hop - 1)], signal=[timeline @ hop], queue=hop % 2)
        device.submit(signal=[other @ hop], queue=hop % 2)  # takes events in between
    timeline.wait(hops, 10)
    assert target.read(0, 1) == bytes([hops])
    streams = {lane.stream for lane in device.engine.lanes}
    owner: dict[object, int] = {}
    newest: dict[object, int] = {}
    waits: dict[object, list[int]] = {}
    for name, arguments in device.driver.log:
        if name == "cuEventRecord":
            owner[arguments[0]] = newest.get(arguments[1], 0)
        elif name == "cuStreamWaitEvent" and arguments[0] in streams:
            waits.setdefault(arguments[0], []).append(owner[arguments[1]])
        elif name == "cuMemsetD8Async":
            hop, stream = arguments[1], arguments[3]
            assert all(waited == hop - 1 for waited in waits.pop(stream, []))
            newest[stream] = hop
    device.settles()


def test_s6_a_signal_that_comes_to_nothing_does_not_stop_the_others(rig, completion):
    """The list of signals was made up to the first error, which nobody heard of."""
    device = rig(completion=completion)
    passed, failed, *good = device.semaphores(5)
    latch = device.hold(0, [passed @ 1, good[0] @ 1, failed @ 1, good[1] @ 1, good[2] @ 1])
    passed.signal(7)
    failed.fail(HalError(StatusCode.ABORTED, "given up"))
    latch.open()
    for semaphore in good:
        semaphore.wait(1, 5)
    assert passed.query() == 7
    assert device.failure(failed).code is StatusCode.ABORTED


def test_s7_closing_with_work_in_flight_destroys_each_thing_once(rig, completion):
    """Queue, pools, streams and context went while the device was at work, some of them twice."""
    device = rig(completion=completion)
    done = device.semaphore()
    target = device.buffer()
    for _ in range(20):
        device.submit(Fill(target, 1), signal=[])
    device.hold(1, [done @ 1])
    device.task(device.device.close).result()
    assert device.failure(done).code is StatusCode.CANCELLED
    device.device.close()
    assert device.driver.violations == []


def test_s8_closing_with_unsatisfied_submissions_fails_them(rig):
    """Destroying the queue aborted, or leaked them, and nobody failed their semaphores."""
    device = rig()
    never, *dones = device.semaphores(4)
    for done in dones:
        device.submit(Fill(device.buffer(), 1), wait=[never @ 1], signal=[done @ 1])
    waiting = device.task(lambda: dones[0].wait(1, 5))
    device.until(lambda: device.engine.sleepers)
    device.close()
    with pytest.raises(HalError, match="CANCELLED"):
        waiting.result()
    assert [device.failure(done).code for done in dones] == [StatusCode.CANCELLED] * 3
    assert never.query() == 0


def test_s9_a_wait_that_was_failed_says_so(rig):
    """It returned as if the value had been reached."""
    device = rig()
    done = device.semaphore()
    waiting = device.task(lambda: done.wait(1, 5))
    device.until(lambda: done.waiting() == 1)
    done.fail(HalError(StatusCode.UNAVAILABLE, "gone"))
    with pytest.raises(HalError, match="UNAVAILABLE: gone"):
        waiting.result()


def test_s9_a_wait_that_ran_out_says_so(rig):
    """It returned as if the value had been reached."""
    device = rig()
    done = device.semaphore()
    for timeout in (-1, 0, 0.001):
        with pytest.raises(HalError) as caught:
            done.wait(1, timeout)
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    assert done.waiting() == 0
    done.signal(1)
    done.wait(1, -1)


def test_s9_a_signal_between_look_and_registration_is_not_missed(rig, monkeypatch):
    """The value was looked at, the lock let go, and the wait registered only then."""
    device = rig()
    done = device.semaphore()
    begin = type(done).begin_wait

    def signaled_first(semaphore, point):
        if semaphore.query() == 0:
            semaphore.signal(1)
        begin(semaphore, point)

    monkeypatch.setattr(type(done), "begin_wait", signaled_first)
    device.task(lambda: done.wait(1)).result()


def test_s9_a_signal_between_an_actions_look_and_registration_is_not_missed(rig, monkeypatch):
    """The same for what a submission waits for."""
    device = rig()
    gate, done = device.semaphores(2)
    register = type(gate).register

    def signaled_first(semaphore, wait):
        if semaphore is gate and semaphore.query() == 0:
            semaphore.signal(1)
        return register(semaphore, wait)

    monkeypatch.setattr(type(gate), "register", signaled_first)
    device.submit(wait=[gate @ 1], signal=[done @ 1])
    done.wait(1, 5)


def test_s10_signaling_a_failed_semaphore_says_how_it_failed(rig):
    """It said OUT_OF_RANGE."""
    device = rig()
    done = device.semaphore()
    done.fail(HalError(StatusCode.DATA_LOSS, "first"))
    done.fail(HalError(StatusCode.ABORTED, "second"))
    for value in (1, VALUE_MAX):
        with pytest.raises(HalError, match="DATA_LOSS: first"):
            done.signal(value)
        with pytest.raises(HalError, match="DATA_LOSS: first"):
            done.wait(value, 0)


def test_s11_the_largest_value_is_a_value(rig):
    """A sentinel among the values made the largest ones impossible, and a failure look like one of them."""
    device = rig()
    timeline = device.semaphore(VALUE_MAX - 1)
    device.submit(signal=[timeline @ VALUE_MAX])
    timeline.wait(VALUE_MAX, 5)
    assert timeline.query() == VALUE_MAX
    with pytest.raises(HalError) as caught:
        timeline.signal(VALUE_MAX + 1)
    assert caught.value.code is StatusCode.OUT_OF_RANGE


def test_s12_a_submission_that_fails_to_launch_leaves_no_signal_behind(rig):
    """Its signal stayed in the semaphore's list and kept semaphore and event alive, for others to be bound to."""
    device = rig()
    done = device.semaphore()
    device.driver.fail("cuMemsetD8Async")
    device.submit(Fill(device.buffer(), 1), signal=[done @ 1])
    device.failure(done)
    assert done.look(1)[2] is None
    device.settles()
    reference = weakref.ref(done)
    del done
    device.dies(reference)


def test_s13_a_value_that_the_host_has_passed_stays_passed(rig, completion):
    """The device's later signal of a smaller value was an error in the middle of the cleanup."""
    device = rig(completion=completion)
    timeline, done, after = device.semaphores(3)
    latch = device.hold(0, [timeline @ 2, done @ 1])
    timeline.signal(5)
    device.submit(wait=[timeline @ 2], signal=[after @ 1], queue=1)
    after.wait(1, 5)  # nothing is left to wait for
    latch.open()
    done.wait(1, 5)
    assert timeline.query() == 5
    device.settles()


def test_s15_host_threads_and_actions_wait_for_one_semaphore(rig):
    """Timepoints of other kinds were read as those of this one."""
    device = rig()
    timeline, *dones = device.semaphores(4)
    threads = [device.task(lambda value=value: timeline.wait(value, 5)) for value in (1, 2, 3)]
    for value, done in enumerate(dones, 1):
        device.submit(wait=[timeline @ value], signal=[done @ 1])
    device.until(lambda: timeline.waiting() == 6)
    timeline.signal(2)
    threads[0].result()
    threads[1].result()
    dones[0].wait(1, 5)
    dones[1].wait(1, 5)
    assert timeline.waiting() == 2
    timeline.signal(3)
    threads[2].result()
    dones[2].wait(1, 5)


def test_s16_no_driver_call_is_made_under_the_lock_of_a_semaphore_or_a_pool(rig, completion):
    """Events were destroyed under the lock of the timepoints."""
    device = rig(seed=3, watched=True, completion=completion, event_pool_capacity=0)
    wrong = []

    def look(name, arguments):
        ranks = _held.__dict__.get("ranks", [])
        if ranks and ranks[-1] > Rank.SIDE_STREAM:
            wrong.append((name, list(ranks)))

    device.watched.watch = look
    timeline, failing, target = device.semaphore(), device.semaphore(), device.buffer()
    for value in range(1, 41):
        device.submit(Fill(target, 1), wait=[timeline @ (value - 1)], signal=[timeline @ value], queue=value % 2)
        device.submit(Fill(target, 1), wait=[failing @ 1], queue=value % 2)
    timeline.wait(40, 5)
    failing.fail(HalError(StatusCode.ABORTED, ""))
    device.settles()
    assert device.driver.calls["cuEventDestroy"] >= 40
    device.close()
    assert wrong == []


def test_s16_whoever_waits_is_woken_under_no_lock(rig):
    """Callbacks ran under the lock of the timepoints."""
    device = rig()
    timeline = device.semaphore()
    held = []

    class Waiter:
        dead, queued = False, 0

        def __init__(self, value):
            self.value = value

        def reached(self):
            held.append(list(_held.__dict__.get("ranks", [])))

        def failed(self, error):
            self.reached()

    timeline.begin_wait(Waiter(1))
    timeline.begin_wait(Waiter(2))
    timeline.signal(1)
    timeline.begin_wait(Waiter(1))
    timeline.fail(HalError(StatusCode.ABORTED, ""))
    timeline.begin_wait(Waiter(2))
    assert held == [[], [], [], []]


def test_s18_alloca_and_dealloca_never_block_their_caller(rig, completion):
    """They blocked on their wait list, so that nobody could submit or signal what it waited for."""
    device = rig(completion=completion)
    gate, there, used, gone = device.semaphores(4)

    def submit_all():
        buffer = device.device.queue_alloca(64, wait=[gate @ 1], signal=[there @ 1])
        device.submit(Fill(buffer, 9), wait=[there @ 1], signal=[used @ 1])
        device.device.queue_dealloca(buffer, wait=[used @ 1], signal=[gone @ 1])

    device.task(submit_all).result()
    assert device.value(there) == 0
    assert not device.context.allocations
    gate.signal(1)
    gone.wait(1, 5)
    device.settles()
    assert device.device.statistics().memory_in_use == 0


def test_s18_an_alloca_is_signaled_by_the_device(rig, completion):
    """The host signaled when the allocation was enqueued, before the device had come to it."""
    device = rig(completion=completion)
    there = device.semaphore()
    latch = device.hold()
    device.device.queue_alloca(64, signal=[there @ 1])
    assert device.never(lambda: device.value(there))
    latch.open()
    there.wait(1, 5)


def test_s18_a_failed_wait_fails_the_signals_of_alloca_and_dealloca(rig):
    """Errors returned without failing the signals; and the buffer counted as freed."""
    device = rig()
    there, gate, failed, unborn, gone = device.semaphores(5)
    buffer = device.device.queue_alloca(64, signal=[there @ 1])
    there.wait(1, 5)
    device.device.queue_dealloca(buffer, wait=[gate @ 1], signal=[failed @ 1])
    device.device.queue_alloca(64, wait=[gate @ 1], signal=[unborn @ 1])
    gate.fail(HalError(StatusCode.ABORTED, "no"))
    assert device.failure(failed).code is device.failure(unborn).code is StatusCode.ABORTED
    buffer.write(b"alive")
    device.device.queue_dealloca(buffer, signal=[gone @ 1])
    gone.wait(1, 5)


@pytest.mark.parametrize("mode", WaitMode)
def test_s19_waiting_for_several_semaphores_works(rig, mode):
    """It was left out."""
    device = rig()
    semaphores = device.semaphores(5)
    waiting = device.task(lambda: device.device.wait_semaphores([one @ 1 for one in semaphores], mode=mode, timeout=5))
    for semaphore in semaphores[::-1]:
        if mode is WaitMode.ALL:
            assert not waiting.done
        semaphore.signal(1)
    waiting.result()
    device.until(lambda: not any(one.waiting() for one in semaphores))


def test_s20_an_accepted_submission_raises_nothing(rig):
    """The error of an issue was returned by the call whose submission had been taken in."""
    device = rig()
    gate, *dones = device.semaphores(3)
    device.submit(Fill(device.buffer(), 1), wait=[gate @ 1], signal=[dones[0] @ 1])
    device.driver.fail("cuMemsetD8Async", times=2)
    gate.signal(1)
    device.submit(Fill(device.buffer(), 1), signal=[dones[1] @ 1])
    for done in dones:
        assert "cuMemsetD8Async" in device.failure(done).message


def test_s24_each_queue_has_streams_of_its_own(rig, completion):
    """There was one dispatch stream, and the choice of a queue was ignored."""
    device = rig(record_calls=True, queues=3, completion=completion)
    target, done = device.buffer(), device.semaphore()
    for queue in range(3):
        device.submit(Fill(target, queue), signal=[done @ (queue + 1)], queue=queue)
        done.wait(queue + 1, 5)
    assert [call[3] for call in device.calls("cuMemsetD8Async")] == [device.lane_of(queue).stream for queue in range(3)]


def test_s24_the_context_is_current_on_every_thread_that_calls(rig, completion):
    """It never was; the checker blames each call without it."""
    device = rig(completion=completion)
    target, gate, done = device.buffer(), device.semaphore(), device.semaphore()

    def everything():
        other = device.buffer()
        device.submit(Fill(target, 1), wait=[gate @ 1], signal=[done @ 1])
        other.write(b"abc")
        return device.latch(), other.read()

    device.task(everything).result()
    device.task(lambda: gate.signal(1)).result()
    device.task(lambda: done.wait(1, 5)).result()
    device.task(target.read).result()
    device.task(device.device.close).result()
    assert device.driver.violations == []


def test_s25_a_semaphore_outlives_its_closed_device(rig, completion):
    """It pointed to the pools of a device that was gone."""
    device = rig(completion=completion)
    done, failed = device.semaphores(2)
    device.submit(Fill(device.buffer(), 1), signal=[done @ 1])
    done.wait(1, 5)
    device.close()
    assert done.query() == 1
    done.signal(2)
    done.wait(2, 0)
    failed.fail(HalError(StatusCode.ABORTED, "later"))
    with pytest.raises(HalError, match="ABORTED: later"):
        failed.wait(1, 5)
    with pytest.raises(HalError):
        done.wait(3, 0.001)


@pytest.mark.parametrize("last", ["semaphore", "buffer", "command buffer", "latch"])
def test_s25_a_device_that_nobody_closed_goes_with_the_last_handle(rig, completion, last):
    """The device and what belonged to it kept each other alive, or went in the wrong order."""
    device = rig(completion=completion)
    done, target = device.semaphore(), device.buffer()
    commands = device.device.create_command_buffer([Fill(target, 1)])
    device.submit(commands, signal=[done @ 1])
    done.wait(1, 5)
    kept: dict[str, object] = {"semaphore": done, "buffer": target, "command buffer": commands, "latch": device.latch()}
    del done, target, commands
    driver = device.driver
    until = device.until
    device.engine.closed = True  # for the fixture: it is not to close it
    engine = weakref.ref(device.engine)
    handle = kept.pop(last)
    kept.clear()
    device.device = device.context = device.engine = type("Closed", (), {"closed": True})
    gc.collect()
    assert engine() is not None
    assert driver.contexts
    del handle
    until(lambda: gc.collect() is None or not driver.contexts)
    assert engine() is None
    assert driver.violations == []


def test_s27_a_wait_that_gave_up_is_never_told_again(rig):
    """What was given back after a timeout might still be set by the one who signals."""
    device = rig()
    a, b = device.semaphores(2)
    for value in range(1, 101):
        signaling = device.task(lambda value=value: (a.signal(value), b.signal(value)))
        device.device.wait_semaphores([a @ value, b @ value], mode=WaitMode.ANY, timeout=5)
        with pytest.raises(HalError) as caught:
            device.device.wait_semaphores([a @ 1000, b @ 1000], timeout=0.0002)
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        signaling.result()
    assert a.waiting() == b.waiting() == 0


def test_every_exit_of_an_action_is_made_once(rig, monkeypatch):
    """Rule 6: loss, close, failed wait and completion may meet in one action, and it ends once."""
    device = rig()
    ended = []
    monkeypatch.setattr(ExecuteAction, "ended", lambda action, engine, error: ended.append(action))
    gate, done = device.semaphores(2)
    latch = device.hold(0, [done @ 1])
    device.submit(wait=[gate @ 1], signal=[])
    device.submit(wait=[done @ 1, gate @ 1], queue=1)
    gate.fail(HalError(StatusCode.ABORTED, ""))
    device.driver.lose(CUresult.CUDA_ERROR_LAUNCH_FAILED)
    device.failure(done)
    latch.open()
    device.close()
    assert len(ended) == len({id(action) for action in ended}) == 3
