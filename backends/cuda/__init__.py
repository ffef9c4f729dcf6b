"""Timeline semaphores on CUDA, out of binary, signal-before-wait events.

``cuda`` runs on the real driver, through cuda-python; ``cuda-sim`` is the same code on a driver in host memory. Read in
this order: :mod:`.semaphore` and :mod:`.timepoints` (a value, who waits for it, who will signal it), :mod:`.hostwait`;
:mod:`.engine` with :mod:`.actions`, :mod:`.pending`, :mod:`.issue` and :mod:`.retirement` (how an action gets from
submission to stream to retirement); :mod:`.lane` and :mod:`.completion` (streams, and how finished work is noticed);
:mod:`.commands` and :mod:`.graphs`; :mod:`.context`, :mod:`.events`, :mod:`.staging` and :mod:`.memory` (what the
driver gives); and :mod:`.device`, which puts them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_cuda2hal.hal import Backend, BadOption

from .parameters import EVENT, Parameters

if TYPE_CHECKING:
    from .device import CudaDevice

__all__ = ["CUDA", "CUDA_SIM", "open_cuda", "open_simulated"]


def open_cuda(
    *,
    device: int = 0,
    queues: int = 2,
    streams: int = 3,
    completion: str = EVENT,
    event_pool_capacity: int = 32,
    max_in_flight: int = 256,
    memory: int | None = None,
    memory_kept: int = 64 * 2**20,
    keep_context: bool = True,
    check_locks: bool = False,
) -> CudaDevice:
    """Open a CUDA device; see :class:`~.parameters.Parameters` for the options.

    :param device: which of the machine's devices.
    :param keep_context: hold the device's primary context until the process ends, so that the next open is quick.
    :raises BadOption: a value makes no sense.
    :raises BackendUnavailable: no bindings, no driver, too old a driver, or no such device.
    """
    parameters = Parameters(
        queues, streams, completion, event_pool_capacity, max_in_flight, memory, memory_kept, check_locks
    ).check("cuda")
    if type(device) is not int:
        raise BadOption(f"backend 'cuda': option 'device' is an int, not {device!r}")
    if device < 0:
        raise BadOption(f"backend 'cuda': option 'device' must be at least 0, not {device}")
    from .opening import keep_primary_context, load_driver, open_on

    driver, versions = load_driver(parameters)
    opened = open_on(driver, ordinal=device, parameters=parameters, versions=versions)
    if keep_context:
        keep_primary_context(driver, device)
    return opened


def open_simulated(
    *,
    seed: int | None = None,
    queues: int = 2,
    streams: int = 3,
    completion: str = EVENT,
    event_pool_capacity: int = 32,
    max_in_flight: int = 256,
    memory: int = 64 * 2**20,
    memory_kept: int = 64 * 2**20,
    check_locks: bool = True,
) -> CudaDevice:
    """Open a device on the simulated driver; see :class:`~.parameters.Parameters` for the other options.

    :param seed: let the simulated device pick among the streams that can go on at random, from this seed; by default
        they take turns. Any order is one that a GPU may take.
    :raises BadOption: a value makes no sense.
    """
    parameters = Parameters(
        queues, streams, completion, event_pool_capacity, max_in_flight, memory, memory_kept, check_locks
    ).check("cuda-sim")
    from .opening import open_on
    from .simulator import SimulatedDriver

    return open_on(SimulatedDriver(seed=seed, memory=memory), ordinal=0, parameters=parameters, versions={})


CUDA = Backend(
    name="cuda",
    summary="timeline semaphores out of CUDA events, on the machine's NVIDIA GPU",
    open=open_cuda,
    device_variables={"": "CUDA_VISIBLE_DEVICES"},
    native=True,
    own=True,
)
CUDA_SIM = Backend(
    name="cuda-sim",
    summary="the same code as cuda, on a simulated CUDA driver",
    open=open_simulated,
    own=True,
)
