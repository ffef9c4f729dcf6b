"""A submission that is refused, for whatever reason, has not happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from pytest_cuda2hal.hal import Buffer, Capability, Copy, Fill, HalError, Semaphore, StatusCode, Timepoint, Update

from ..support import AskVariation, Buffers, ObservedDevice, Semaphores, Settle, clause, status_of

#: How a submission may be refused: by the HAL, or for what is plainly no argument.
REFUSALS = (HalError, TypeError, ValueError, LookupError)


class Attempt:
    """One submission that is to be refused, with all that it could have an effect on.

    host ──gate@1──▶ fill(b, 7) ──done@1──▶ host, and something in it is wrong
    """

    def __init__(self, device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
        self._device = device
        self.b = buffers.filled(0)
        self.gate, self.done = semaphores(2)
        self.refusal: Exception | None = None

    def submit(
        self, *wrong: Any, wait: Iterable[Any] = (), signal: Iterable[Any] = (), queue: Any = 0, reads: Any = None
    ) -> None:
        """Submit with something wrong, behind and in front of what is right, and keep how it was refused."""
        try:
            self._device.queue_execute(
                [Fill(self.b, 7), *wrong, Fill(self.b, 7, 0, 16)],
                wait=reads or [self.gate @ 1, *wait],
                signal=[self.done @ 1, *signal],
                queue=queue,
            )
        except REFUSALS as error:
            self.refusal = error


@pytest.fixture
def attempt(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> Callable[[], Attempt]:
    """``attempt()`` makes an attempt at a submission of its own."""
    return lambda: Attempt(device, buffers, semaphores)


def only_refused(attempts: list[Attempt], device: ObservedDevice) -> list[Attempt]:
    """Return the attempts that were refused, the matter of Q-22; the case ends if there are none.

    What is wrong with these attempts no clause obliges a HAL to notice. Those that it accepts are let run to their end,
    whatever that is, and are not judged.
    """
    for each in attempts:
        if each.refusal is None:
            each.gate.signal(1)
            status_of(partial(each.done.wait, 1, device.deadline))
    refused = [each for each in attempts if each.refusal is not None]
    if not refused:
        pytest.skip("unsupported: the HAL refuses none of these submissions")
    return refused


def assert_nothing_happened(attempts: list[Attempt], device: ObservedDevice, settle: Settle) -> None:
    """Open the gates and watch; then submit what is right, on the same semaphores and buffers."""
    for number, each in enumerate(attempts):
        assert each.refusal is not None, f"expected attempt {number} to be refused; seen accepted"
        each.gate.signal(1)
    settle(
        *(lambda each=each: each.b.untouched for each in attempts),
        *(partial(each.done.reads, 0) for each in attempts),
    )
    for each in attempts:
        assert each.gate.query() == 1
        device.queue_fill(each.b, 8, wait=[each.gate @ 1], signal=[each.done @ 1])
        each.done.wait(1)
        assert each.b.holds(8)


class StrangeSemaphore(Semaphore):
    """A semaphore of no device."""

    def query(self) -> int:
        return 0

    def signal(self, value: int) -> None: ...

    def fail(self, error: HalError) -> None: ...

    def wait(self, value: int, timeout: float | None = None) -> None: ...


class StrangeBuffer(Buffer):
    """A buffer of no device."""

    size = 256

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        return bytes(self.size)

    def write(self, data: bytes, offset: int = 0) -> None: ...


Attempts = Callable[[], Attempt]


@clause("Q-22")
def test_refused_for_its_queue(device: ObservedDevice, attempt: Attempts, settle: Settle) -> None:
    """A queue is a number in 0 … queue_count - 1."""
    attempts = []
    for queue in (device.queue_count, 10**6, -1, None, "0"):
        attempts.append(attempt())
        attempts[-1].submit(queue=queue)
    assert_nothing_happened(only_refused(attempts, device), device, settle)


@clause("Q-22", "A-4")
def test_refused_dealloca_leaves_the_buffer(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """Refused for its queue, it gives nothing back: the buffer keeps its bytes, and the right dealloca is the first.

    alloca(a) ──made@1──▶ fill(a, 7) ──made@2──▶ host        dealloca(a) ──freed@1──▶ host
    """
    made, never, freed = semaphores(3)
    a = device.queue_alloca(1024, signal=[made @ 1])
    device.queue_fill(a, 7, wait=[made @ 1], signal=[made @ 2])
    made.wait(2)
    try:
        device.queue_dealloca(a, signal=[never @ 1], queue=device.queue_count)
    except REFUSALS:
        pass
    else:
        status_of(partial(never.wait, 1, device.deadline))
        pytest.skip("unsupported: the HAL refuses no dealloca for its queue")
    settle(partial(never.reads, 0))
    assert a.holds(7)
    device.queue_dealloca(a, signal=[freed @ 1])
    freed.wait(1)


@clause("Q-22")
def test_refused_for_an_object_of_no_device(device: ObservedDevice, attempt: Attempts, settle: Settle) -> None:
    """A stranger in the wait list, in the signal list, as the target and as the source of a command."""
    stranger, strange_buffer = StrangeSemaphore(), StrangeBuffer()
    attempts = [attempt() for _ in range(4)]
    attempts[0].submit(wait=[stranger @ 1])
    attempts[1].submit(signal=[stranger @ 1])
    attempts[2].submit(Fill(strange_buffer, 1))
    attempts[3].submit(Copy(strange_buffer, attempts[3].b))
    assert_nothing_happened(only_refused(attempts, device), device, settle)


@clause("Q-22")
def test_refused_for_a_wrong_type(
    device: ObservedDevice, attempt: Attempts, semaphores: Semaphores, settle: Settle
) -> None:
    """Something in a list that is no timepoint or no command, where the rest of the list is right."""
    [other] = semaphores(1)
    attempts = [attempt() for _ in range(5)]
    attempts[0].submit(wait=[other])
    attempts[1].submit(wait=[(other, 1)])
    attempts[2].submit(signal=[None])
    attempts[3].submit("fill")
    attempts[4].submit(Fill, wait=[other @ 0])
    # The interface itself looks at the lists of timepoints, whatever the HAL; commands are the HAL's own business.
    assert all(isinstance(each.refusal, TypeError) for each in attempts[:3]), "expected TypeError for no timepoint"
    assert_nothing_happened(only_refused(attempts, device), device, settle)
    assert other.query() == 0


@clause("Q-22", "Q-15")
def test_refused_for_a_list_that_raises(device: ObservedDevice, attempt: Attempts, settle: Settle) -> None:
    """A wait list that cannot be read to its end: the caller's exception comes out, and nothing has happened."""
    one = attempt()

    def reads() -> Iterator[Timepoint]:
        yield one.gate @ 1
        raise LookupError("the caller's own")

    one.submit(reads=reads())
    assert isinstance(one.refusal, LookupError), f"expected the caller's own exception; seen {one.refusal!r}"
    assert_nothing_happened([one], device, settle)


@clause("Q-22", "TL-6")
def test_refused_for_a_value(
    device: ObservedDevice, attempt: Attempts, semaphores: Semaphores, settle: Settle, variation: AskVariation
) -> None:
    """A value above the largest, to wait for and to signal."""
    above = variation("value-out-of-range")
    above.need_defined()
    [other] = semaphores(1)
    too_much = device.rules.value_max + 1
    attempts = [attempt() for _ in range(2)]
    attempts[0].submit(wait=[other @ too_much])
    attempts[1].submit(signal=[other @ too_much])
    for each in attempts:
        code = each.refusal.code if isinstance(each.refusal, HalError) else StatusCode.OK
        above.check(code.name)
    assert_nothing_happened(attempts, device, settle)
    assert other.query() == 0


@clause("Q-22", "T-2")
def test_refused_for_a_range(
    device: ObservedDevice, attempt: Attempts, buffers: Buffers, settle: Settle, variation: AskVariation
) -> None:
    """A transfer outside its buffer between two inside: where it is refused, those inside do not happen either."""
    outside = variation("out-of-range-transfer")
    outside.need_defined()
    small = buffers.filled(0, size=64)
    attempts = [attempt() for _ in range(5)]
    attempts[0].submit(Fill(small, 1, 0, 68))
    attempts[1].submit(Fill(small, 1, 128, 4))
    attempts[2].submit(Copy(small, attempts[2].b, 4, 0, 64))
    attempts[3].submit(Copy(attempts[3].b, small, 0, 4, 64))
    if device.has(Capability.UPDATE):
        attempts[4].submit(Update(small, bytes(8), 60))
    else:
        attempts[4].submit(Fill(small, 1, 60, 8))
    accepted = [each for each in attempts if each.refusal is None]
    assert_nothing_happened([each for each in attempts if each.refusal is not None], device, settle)
    for each in accepted:  # to be told by its signals, then: no refusal, so not the matter of this case
        each.gate.signal(1)
        try:
            each.done.wait(1)
        except HalError:
            outside.check("fails")
        else:
            outside.check("accepted, and done without failing")
    if not accepted:
        outside.check("refused")
    assert small.untouched


@clause("Q-22")
def test_refused_kinds_of_work(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """Single transfers and host calls with a wrong queue or no function, one after another on the same semaphores."""
    b, source = buffers.filled(0), buffers.filled(7)
    gate, done = semaphores(2)
    gate.signal(1)
    wait, signal, nowhere = [gate @ 1], [done @ 1], device.queue_count
    refused: list[Callable[[], object]] = [
        lambda: device.queue_fill(b, 7, wait=wait, signal=signal, queue=nowhere),
        lambda: device.queue_copy(source, b, wait=wait, signal=signal, queue=nowhere),
    ]
    if device.has(Capability.UPDATE):
        refused.append(lambda: device.queue_update(b, b"text", wait=wait, signal=signal, queue=nowhere))
    if device.has(Capability.ASYNC_ALLOC):
        refused.append(lambda: device.queue_alloca(64, wait=wait, signal=signal, queue=nowhere))
    if device.has(Capability.HOST_CALL):
        no_function: Any = None
        refused.append(lambda: device.queue_host_call(no_function, wait=wait, signal=signal))
        refused.append(lambda: device.queue_host_call(lambda: b.fill_by_host(7), signal=signal, queue=nowhere))
    for call in refused:
        try:
            call()
        except (HalError, TypeError, ValueError):
            continue
        status_of(partial(done.wait, 1, device.deadline))
        pytest.skip("unsupported: the HAL accepts one of these submissions, which no clause forbids")
    settle(lambda: b.untouched, lambda: done.reads(0))
    device.queue_fill(b, 8, wait=wait, signal=signal)
    done.wait(1)
    assert b.holds(8)
