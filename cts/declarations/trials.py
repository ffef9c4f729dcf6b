"""One trial for each capability: a small program that shows whether the HAL has it, whatever it declares.

An exception is an answer as well: who made the trial takes it for *not kept*, with its text. Every program is legal on
a HAL that has the capability, and ends by itself on one that has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from pytest_cuda2hal.hal import (
    Buffer,
    Capability,
    Command,
    Copy,
    Device,
    Fault,
    Fill,
    HalError,
    Hold,
    Statistics,
    StatusCode,
    Timepoint,
    Update,
    WaitMode,
)

from .bench import SIZE, Bench, Seen

Trial = Callable[[Bench], Seen]

#: What is failed with where the code does not matter: every HAL that can fail anything can carry this one.
_CAUSE = HalError(StatusCode.UNKNOWN, "a trial")


def _async_submit(bench: Bench) -> Seen:
    gate, done = bench.semaphores(2)
    with bench.releasing(gate):
        submission = bench.start(
            lambda: bench.device.queue_execute([], wait=[gate @ 1], signal=[done @ 1]), "submission behind a wait"
        )
        at_once = submission.ends(bench.patience)
    submission.result()
    if not bench.comes(done @ 1):
        return Seen(False, "the submission did not complete after its wait was reached")
    return Seen(at_once, f"the call returned {'before' if at_once else 'only after'} its wait was reached")


def _same_queue_out_of_order(bench: Bench) -> Seen:
    gate, first, second = bench.semaphores(3)
    with bench.releasing(gate):
        waiting = bench.start(
            lambda: bench.device.queue_execute([], wait=[gate @ 1], signal=[first @ 1]), "submission behind a wait"
        )
        accepted = waiting.ends(bench.patience)
        if accepted:
            later = bench.start(lambda: bench.device.queue_execute([], signal=[second @ 1]), "submission behind it")
            overtook = later.ends(bench.patience) and bench.comes(second @ 1)
    waiting.result()
    if not accepted:
        return Seen(None, "a submission blocks its caller until its waits are reached, so none is there to overtake")
    later.result()
    assert bench.comes(first @ 1), "the submission behind a wait did not complete after its wait was reached"
    assert bench.comes(second @ 1), "the submission behind it did not complete"
    return Seen(overtook, f"a submission {'overtook' if overtook else 'stayed behind'} an earlier one of its queue")


def _multi_queue(bench: Bench) -> Seen:
    count = bench.device.queue_count
    if count < 2:
        return Seen(False, f"the device counts {count} queue")
    for busy, free in ((0, count - 1), (count - 1, 0)):
        (done,) = bench.semaphores(1)
        submit = partial(bench.device.queue_execute, [], signal=[done @ 1], queue=free)
        with bench.busy(busy):
            submission = bench.start(submit, f"submission to queue {free}")
            advanced = submission.ends(bench.patience) and bench.comes(done @ 1)
        submission.result()
        assert bench.comes(done @ 1), f"a submission to queue {free} did not complete"
        if not advanced:
            return Seen(False, f"queue {free} completed nothing while queue {busy} was busy")
    return Seen(True, f"of {count} queues the first and the last advanced while the other was busy")


def _wait_all(bench: Bench) -> Seen:
    a, b = bench.semaphores(2)
    a.signal(1)
    return _wait(bench, [a @ 1, b @ 1], WaitMode.ALL)


def _wait_any(bench: Bench) -> Seen:
    a, b = bench.semaphores(2)
    return _wait(bench, [a @ 1, b @ 1], WaitMode.ANY)


def _wait(bench: Bench, points: list[Timepoint], mode: WaitMode) -> Seen:
    """Wait for two timepoints until the last one is signaled; whether that is enough depends on the first."""
    try:
        bench.device.wait_semaphores(points, mode=mode, timeout=0)
    except HalError as error:
        if error.code is not StatusCode.DEADLINE_EXCEEDED:
            raise
    else:
        return Seen(False, "an expired wait returned as if it were satisfied")
    waiter = bench.start(
        lambda: bench.device.wait_semaphores(points, mode=mode, timeout=2 * bench.patience), f"wait for {mode.value}"
    )
    points[-1].semaphore.signal(1)
    if not waiter.ends(bench.patience):
        return Seen(False, "a blocked wait did not end when it was satisfied")
    waiter.result()
    bench.device.wait_semaphores(points, mode=mode, timeout=0)
    return Seen(True, "a wait for two timepoints timed out while it was unsatisfied, and ended when it was satisfied")


def _host_fail(bench: Bench) -> Seen:
    (semaphore,) = bench.semaphores(1)
    semaphore.fail(_CAUSE)
    try:
        value = semaphore.query()
    except HalError as failure:
        return Seen(True, f"a failed semaphore raises {failure}")
    return Seen(False, f"a semaphore that was failed reads {value}")


def _fail_code(bench: Bench) -> Seen:
    for code in StatusCode:
        if code is StatusCode.OK:
            continue
        (semaphore,) = bench.semaphores(1)
        semaphore.fail(HalError(code, "a trial"))
        try:
            semaphore.query()
        except HalError as failure:
            if failure.code is not code:
                return Seen(False, f"a semaphore failed with {code.name} raises {failure}")
        else:
            return Seen(False, f"a semaphore failed with {code.name} has not failed")
    return Seen(True, "every status code came back")


def _flush(bench: Bench) -> Seen:
    for queue in range(bench.device.queue_count):
        bench.device.queue_flush(queue)
    return Seen(True, "a flush of every queue returned")


def _hold(bench: Bench) -> Seen:
    latch = bench.device.create_latch()
    target = bench.buffer(0)
    (done,) = bench.semaphores(1)
    with bench.releasing(latch):
        submission = bench.start(
            lambda: bench.device.queue_execute([Hold(latch), Fill(target, 7)], signal=[done @ 1]), "held submission"
        )
        early = bench.comes(done @ 1, bench.watching_time)
    submission.result()
    if early:
        return Seen(False, "work behind a latch was done before it was opened")
    if not bench.comes(done @ 1):
        return Seen(False, "work behind a latch was not done after it was opened")
    kept = target.read() == bytes([7]) * SIZE
    return Seen(kept, f"work behind a latch was {'done' if kept else 'not done, and signaled,'} after it was opened")


def _side_access(bench: Bench) -> Seen:
    idle, written = bench.buffer(0), b"\x5a" * SIZE
    seen: list[bytes] = []

    def look() -> None:
        idle.write(written)
        seen.append(idle.read())

    with bench.busy(0):
        access = bench.start(look, "host that writes and reads a buffer")
        in_time = access.ends(bench.patience)
    access.result()
    if not in_time:
        return Seen(False, "a write and a read by the host did not return while the queue was busy")
    if seen != [written]:
        return Seen(False, "the host did not read what it had written while the queue was busy")
    if not bench.declared and not bench.has(Capability.HOLD):
        return Seen(None, "the host wrote and read a buffer, but the device has nothing to hold a queue with")
    return Seen(True, "the host wrote and read a buffer while the queue was busy")


def _async_alloc(bench: Bench) -> Seen:
    gate, ready, used, freed = bench.semaphores(4)
    plain = bench.buffer(0)
    made: list[Buffer] = []
    with bench.releasing(gate):
        allocation = bench.start(
            lambda: made.append(bench.device.queue_alloca(SIZE, wait=[gate @ 1], signal=[ready @ 1])),
            "allocation behind a wait",
        )
        at_once = allocation.ends(bench.patience)
    allocation.result()
    commands: list[Command] = [Fill(made[0], 7), Copy(made[0], plain)]
    bench.device.queue_execute(commands, wait=[ready @ 1], signal=[used @ 1])
    bench.device.queue_dealloca(made[0], wait=[used @ 1], signal=[freed @ 1])
    if not bench.comes(freed @ 1):
        return Seen(False, "an allocation, its use and its end did not complete")
    if plain.read() != bytes([7]) * SIZE:
        return Seen(False, "memory from the queue did not take the data written after its signal")
    if at_once:
        return Seen(True, "an allocation behind a wait returned at once, and its memory took data after its signal")
    if bench.has(Capability.ASYNC_SUBMIT):
        return Seen(False, "an allocation blocked its caller until its wait was reached")
    return Seen(True if bench.declared else None, "a queue allocates, but blocks its caller as with every submission")


def _bounded_memory(bench: Bench) -> Seen:
    total = bench.device.statistics().memory_total
    if not total:
        return Seen(False, "the statistics say that the memory is not bounded")
    try:
        bench.device.allocate_buffer(total + 1)
    except HalError as error:
        if error.code is not StatusCode.RESOURCE_EXHAUSTED:
            raise
        return Seen(True, f"more than {total} bytes were refused")
    return Seen(False, f"more than {total} bytes were allocated")


def _host_call(bench: Bench) -> Seen:
    (done,) = bench.semaphores(1)
    calls: list[bool] = []
    bench.device.queue_host_call(lambda: calls.append(True), signal=[done @ 1])
    if not bench.comes(done @ 1):
        return Seen(False, "a host call did not complete")
    return Seen(calls == [True], f"calls of the function before the signal: {len(calls)}")


def _update(bench: Bench) -> Seen:
    target = bench.buffer(0)
    (done,) = bench.semaphores(1)
    bench.device.queue_update(target, b"operation   ", signal=[done @ 1])
    bench.device.queue_execute([Update(target, b"command ", 12)], wait=[done @ 1], signal=[done @ 2])
    if not bench.comes(done @ 2):
        return Seen(False, "an update did not complete")
    seen = target.read(0, 20)
    return Seen(seen == b"operation   command ", f"after an operation and a command the buffer holds {seen!r}")


def _reusable_commands(bench: Bench) -> Seen:
    if not bench.declared and type(bench.device).create_command_buffer is Device.create_command_buffer:
        return Seen(None, "command buffers are the interface's own, which keeps a list of commands")
    source, target = bench.buffer(0), bench.buffer(0)
    recorded = bench.device.create_command_buffer([Copy(source, target)])
    (done,) = bench.semaphores(1)
    for run in range(1, 4):
        source.write(bytes([run]) * SIZE)
        bench.device.queue_execute(recorded, signal=[done @ run])
        if not bench.comes(done @ run):
            return Seen(False, f"execution {run} of a command buffer did not complete")
        if target.read() != bytes([run]) * SIZE:
            return Seen(False, f"execution {run} of a command buffer did not do its work")
    if bench.has(Capability.ASYNC_SUBMIT):
        gate, together = bench.semaphores(2)

        def twice() -> None:
            bench.device.queue_execute(recorded, wait=[gate @ 1], signal=[together @ 1])
            bench.device.queue_execute(recorded, wait=[together @ 1], signal=[together @ 2])

        with bench.releasing(gate):
            submissions = bench.start(twice, "two executions in flight")
            submissions.ends(bench.patience)
        submissions.result()
        if not bench.comes(together @ 2):
            return Seen(False, "two executions of a command buffer in flight did not complete")
    return Seen(True, "a command buffer ran again and again")


def _fault_injection(bench: Bench) -> Seen:
    (done,) = bench.semaphores(1)
    bench.device.queue_execute([Fault(_CAUSE)], signal=[done @ 1])
    try:
        reached = bench.comes(done @ 1)
    except HalError as failure:
        return Seen(True, f"the signal failed with {failure}")
    return Seen(False, f"the signal was {'made' if reached else 'neither made nor failed'}")


def _device_loss_injection(bench: Bench) -> Seen:
    if type(bench.device).inject_device_loss is Device.inject_device_loss:
        return Seen(False, "the adapter has no such operation")
    doomed = bench.open_another()
    done = doomed.create_semaphore(0)
    doomed.inject_device_loss(_CAUSE)
    try:
        doomed.queue_execute([], signal=[done @ 1])
        reached = bench.comes(done @ 1)
    except HalError as failure:
        return Seen(True, f"a submission after the loss came to {failure}")
    return Seen(False, f"a submission after the loss was {'completed' if reached else 'neither completed nor failed'}")


def _statistics(bench: Bench) -> Seen:
    before = bench.device.statistics()
    alive = [*bench.semaphores(3), bench.buffer(0), bench.buffer(0)]
    after = bench.device.statistics()
    if not isinstance(after, Statistics):
        return Seen(False, f"the statistics are {type(after).__name__}")
    more = after.semaphores - before.semaphores, after.buffers - before.buffers
    del alive
    return Seen(
        more[0] == 3 or more[1] == 2,
        f"with 3 more semaphores and 2 more buffers alive the counts rose by {more[0]} and {more[1]}",
    )


TRIALS: Mapping[Capability, Trial] = {
    Capability.ASYNC_SUBMIT: _async_submit,
    Capability.SAME_QUEUE_OUT_OF_ORDER: _same_queue_out_of_order,
    Capability.MULTI_QUEUE: _multi_queue,
    Capability.WAIT_ALL: _wait_all,
    Capability.WAIT_ANY: _wait_any,
    Capability.HOST_FAIL: _host_fail,
    Capability.FAIL_CODE: _fail_code,
    Capability.FLUSH: _flush,
    Capability.HOLD: _hold,
    Capability.SIDE_ACCESS: _side_access,
    Capability.ASYNC_ALLOC: _async_alloc,
    Capability.BOUNDED_MEMORY: _bounded_memory,
    Capability.HOST_CALL: _host_call,
    Capability.UPDATE: _update,
    Capability.REUSABLE_COMMANDS: _reusable_commands,
    Capability.FAULT_INJECTION: _fault_injection,
    Capability.DEVICE_LOSS_INJECTION: _device_loss_injection,
    Capability.STATISTICS: _statistics,
}
