"""What only some HALs can do, or let a test see.

A backend declares each as *native* (``Device.capabilities``), *emulated* by its adapter (``Device.emulated``) or, by
saying nothing, *absent*. Only what is native earns a verdict.
"""

from __future__ import annotations

import enum


class Capability(enum.Enum):
    """One capability; ``sentence`` says what a backend claims by declaring it."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Capability:
        member = object.__new__(cls)
        member._value_ = value
        member.sentence = sentence
        return member

    def __str__(self) -> str:
        return str(self.value)

    ASYNC_SUBMIT = (
        "async-submit",
        "A submission whose waits are unreached is accepted at once, and runs when they are reached.",
    )
    SAME_QUEUE_OUT_OF_ORDER = (
        "same-queue-out-of-order",
        "A submission may overtake an earlier one of its queue whose waits are unreached.",
    )
    MULTI_QUEUE = ("multi-queue", "The device has several queues (Device.queue_count) that advance independently.")
    WAIT_ALL = ("wait-all", "One host wait can wait for all of several timepoints.")
    WAIT_ANY = ("wait-any", "One host wait can wait for any of several timepoints.")
    HOST_FAIL = ("host-fail", "The host can fail a semaphore.")
    FAIL_CODE = ("fail-code", "The host can fail a semaphore with any status code, not one fixed code.")
    FLUSH = ("flush", "There is a flush operation.")
    HOLD = ("hold", "A command can keep a queue busy until the host opens a latch.")
    SIDE_ACCESS = ("side-access", "Buffers can be read and written by the host while queues are held.")
    ASYNC_ALLOC = ("async-alloc", "Queues allocate and free memory in order with other work.")
    BOUNDED_MEMORY = ("bounded-memory", "The memory is bounded, and Statistics.memory_total says by how much.")
    HOST_CALL = ("host-call", "A queue can call a host function in order with other work.")
    UPDATE = ("update", "A queue can write host bytes into a buffer in order with other work.")
    REUSABLE_COMMANDS = ("reusable-commands", "A command buffer can be executed many times, also while in flight.")
    FAULT_INJECTION = ("fault-injection", "A command can be made to fail when it runs (Fault).")
    DEVICE_LOSS_INJECTION = ("device-loss-injection", "The device can be made to be lost (Device.inject_device_loss).")
    STATISTICS = ("statistics", "Live events, timepoints, buffers, submissions and threads can be counted.")


#: What a device has that declares everything.
EVERY_CAPABILITY: frozenset[Capability] = frozenset(Capability)
