"""IREE's shipped HAL drivers as a backend: ``iree:local-task``, ``iree:vulkan``, ``iree:cuda``, …

Importing this package imports nothing of IREE; opening a device does. How its HAL is called, and why so:

* **The VM route** (:mod:`.route`). IREE's Python bindings submit with the GIL held, lack fill, update, barrier and
  flush, and let nobody choose copy offsets or a queue. The native VM module ``hal``, which compiled IREE programs call,
  has all of them and is invoked with the GIL released: a driver that blocks in a submission blocks no other thread.
* **The tuple route.** The VM module takes fences, and a fence keeps one value per semaphore, the largest. A list that
  names a semaphore twice therefore goes through the bindings' own functions, which pass it on unchanged.
* **Nothing is made better.** Status code and message are IREE's own, no value is checked before IREE sees it except
  that it fits in 64 bits, nothing is retried. What the bindings cannot express is absent, not imitated; the one
  exception, wait-any, is declared as emulated.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_cuda2hal.hal import Backend, BadOption, Device

__all__ = ["BACKEND", "VARIANTS", "open_device"]

#: Driver name -> one line about it.
VARIANTS: Mapping[str, str] = {
    "local-task": "CPU, asynchronous: a pool of worker threads per queue",
    "local-sync": "CPU, synchronous: work runs inside the call that submits it",
    "vulkan": "the machine's default Vulkan device",
    "cuda": "the machine's first NVIDIA GPU",
    "hip": "the machine's first AMD GPU",
}


def open_device(variant: str | None = None, *, queues: int = 1) -> Device:
    """Open the default device of the driver ``variant``.

    :param queues: how many queues; more than 1 with ``local-task`` only, where each queue gets worker threads of its
        own. IREE reads this once per process, when the driver is first opened.
    :raises BadOption: no variant, an unknown one, or ``queues`` where they cannot be had.
    :raises BackendUnavailable: IREE, its driver's libraries or a device are missing on this machine.
    """
    if variant is None or variant not in VARIANTS:
        missing = "needs a variant" if variant is None else f"has no variant '{variant}'"
        raise BadOption(f"backend 'iree' {missing}; variants: {', '.join(VARIANTS)} (as in iree:local-task)")
    if queues < 1 or (queues > 1 and variant != "local-task"):
        raise BadOption(f"backend 'iree': 'queues' is 1, or above with local-task only; not {queues} with {variant}")

    from .opening import open_driver

    return open_driver(variant, queues)


BACKEND = Backend(
    name="iree",
    summary="IREE's shipped HAL drivers, through iree-base-runtime",
    open=open_device,
    variants=VARIANTS,
    native=True,
    device_variables={"cuda": "CUDA_VISIBLE_DEVICES", "hip": "HIP_VISIBLE_DEVICES"},
    own=False,
)
