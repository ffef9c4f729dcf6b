"""What a device declares and what it has, capability by capability."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_cuda2hal.hal import Capability, Fill

from ..support import Buffers, ObservedDevice, OpenDevice, Semaphores, Settle, Tasks, clause
from .bench import Bench, CannotTellError, Seen, is_bound_to_its_thread
from .trials import TRIALS


@clause("D-1", "D-2")
@pytest.mark.parametrize("capability", list(Capability), ids=str)
def test_a_capability_is_declared_if_and_only_if_it_is_there(
    device: ObservedDevice,
    open_device: OpenDevice,
    threads: Tasks,
    settle: Settle,
    hal_backend: Any,
    capability: Capability,
) -> None:
    """Each is tried, declared or not, past the gates that would skip what is not declared."""
    declared = capability in device.capabilities | device.emulated
    if capability is Capability.MULTI_QUEUE and declared and hal_backend.backend.own:
        device.need_queues(2)  # our own HALs take fewer as an option, and say what they are without it
    bench = Bench(
        device,
        threads,
        lambda: open_device().inner,
        declared=declared,
        thread_bound=is_bound_to_its_thread(device, threads),
        watching_time=settle.seconds,
    )
    if bench.thread_bound:
        seen = tried(capability, bench)
    else:
        seen = threads.start(lambda: tried(capability, bench), f"trial of {capability}").result()
    if seen.kept is None:
        pytest.skip(f"unsupported: capability {capability} cannot be tried: {seen.text}")
    if declared and not seen.kept:
        how = "as emulated by its adapter" if capability in device.emulated else "as the HAL's own"
        pytest.fail(f"D-1: capability {capability} is declared {how}, and is not there; seen: {seen.text}")
    if seen.kept and not declared:
        pytest.fail(f"D-2: capability {capability} is there, and is not declared; seen: {seen.text}")


def tried(capability: Capability, bench: Bench) -> Seen:
    """Make the trial; an exception of the HAL means that the capability is not there."""
    try:
        return TRIALS[capability](bench)
    except CannotTellError as error:
        return Seen(None, str(error))
    except AssertionError:  # the trial itself could not be made, or hangs
        raise
    except Exception as error:  # noqa: BLE001 - an adapter that lacks something says so in any way
        return Seen(False, f"{type(error).__name__}: {error}")


@clause("D-3")
def test_every_queue_that_is_counted_works(device: ObservedDevice, semaphores: Semaphores, buffers: Buffers) -> None:
    """One fill after the other, each on the next queue."""
    for queue in range(device.queue_count):
        target = buffers.filled(0)
        (done,) = semaphores(1)
        device.queue_execute([Fill(target, queue % 255 + 1)], signal=[done @ 1], queue=queue)
        done.wait(1)
        assert target.holds(queue % 255 + 1)
