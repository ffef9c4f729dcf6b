"""The reference backend: the contract as a program. Host only, plain, made to be read.

Read in this order: :mod:`.semaphore` (one timeline and who waits for it), :mod:`.submission` (what a queue is given),
:mod:`.queue` (one worker thread), :mod:`.memory`, and :mod:`.device`, which puts them together.
"""

from pytest_cuda2hal.hal import PROFILES, Backend, BadOption

from .device import ReferenceDevice


def open_reference(
    *, profile: str = "strict", seed: int | None = None, queues: int = 4, memory: int = 64 * 2**20
) -> ReferenceDevice:
    """Open a device.

    :param profile: whose answers to give at the variation points.
    :param seed: let each queue pick among its ready submissions at random, from this seed; by default the one that
        became ready first is next. Both are legal orders; a case that passes only with one of them relies on luck.
    :param queues: how many queues the device has.
    :param memory: bytes of device memory.
    """
    if profile not in PROFILES:
        raise BadOption(f"backend 'reference': no profile '{profile}'; known profiles: {', '.join(PROFILES)}")
    if queues < 1:
        raise BadOption(f"backend 'reference': option 'queues' must be at least 1, not {queues}")
    if memory < 1:
        raise BadOption(f"backend 'reference': option 'memory' must be at least 1 byte, not {memory}")
    return ReferenceDevice(PROFILES[profile], seed=seed, queues=queues, memory=memory)


BACKEND = Backend(
    name="reference",
    summary="the executable specification, host only",
    open=open_reference,
    own=True,
)

__all__ = ["BACKEND", "ReferenceDevice", "open_reference"]
