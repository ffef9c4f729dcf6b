"""Devices in the states in which they may be closed."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_cuda2hal.hal import Capability, Copy, Fill, HalError, Hold, Latch, StatusCode

from ..support import ObservedBuffer, ObservedDevice, ObservedSemaphore

#: With what unfinished work fails when its device closes.
ENDED = (StatusCode.CANCELLED, StatusCode.ABORTED)
#: What fails a semaphore before the close.
BEFORE = HalError(StatusCode.DATA_LOSS, "failed before the device was closed")


@dataclass(slots=True)
class Scene:
    """A device with work on it. Lists, so that the case can drop every handle."""

    device: ObservedDevice
    #: Semaphores of which value 1 cannot be reached before the device closes, and what must become of them.
    unfinished: list[ObservedSemaphore] = field(default_factory=list)
    failed: list[ObservedSemaphore] = field(default_factory=list)
    reached: list[ObservedSemaphore] = field(default_factory=list)
    others: list[object] = field(default_factory=list)

    def semaphore(self, kept_in: list[ObservedSemaphore] | None = None) -> ObservedSemaphore:
        made = self.device.create_semaphore(0)
        (self.others if kept_in is None else kept_in).append(made)
        return made

    def buffer(self) -> ObservedBuffer:
        made = self.device.allocate_buffer(1024)
        self.others.append(made)
        return made

    def drop_handles(self) -> None:
        """Let go of everything but the device."""
        for handles in (self.unfinished, self.failed, self.reached, self.others):
            handles.clear()

    def expect_ended(self) -> None:
        """After the close: the unfinished has failed as it should, and the rest is as it was."""
        for semaphore in self.unfinished:
            code = code_of(semaphore)
            assert code in ENDED, f"expected CANCELLED or ABORTED of what had not finished; seen {code.name}"
        for semaphore in self.failed:
            code = code_of(semaphore)
            assert code is BEFORE.code, f"expected the failure that was there before the close; seen {code.name}"
        for semaphore in self.reached:
            assert semaphore.query() == 1, "expected the value that was reached before the close"


def code_of(semaphore: ObservedSemaphore) -> StatusCode:
    """Wait for value 1; return the failure that the semaphore carries then, ``OK`` when the value was reached."""
    try:
        semaphore.wait(1)
        semaphore.query()
    except HalError as error:
        return error.code
    return StatusCode.OK


def add_finished(scene: Scene) -> None:
    """Work that is done, and waited for."""
    done = scene.semaphore(scene.reached)
    scene.device.queue_execute([Fill(scene.buffer(), 7)], signal=[done @ 1])
    done.wait(1)


def add_pending(scene: Scene) -> None:
    """Work of every kind that waits for a gate which nobody will open, and work behind it."""
    device, gate = scene.device, scene.semaphore()
    a, b = scene.buffer(), scene.buffer()
    for queue in range(device.queue_count):
        first, second = scene.semaphore(scene.unfinished), scene.semaphore(scene.unfinished)
        device.queue_execute([Copy(a, b), Fill(a, 7)], wait=[gate @ 1], signal=[first @ 1], queue=queue)
        device.queue_execute([], wait=[first @ 1], signal=[second @ 1], queue=queue)
        device.queue_execute([Fill(b, 7)], wait=[second @ 1], queue=queue)
    if device.has(Capability.ASYNC_ALLOC):
        allocated, freed = scene.semaphore(scene.unfinished), scene.semaphore(scene.unfinished)
        buffer = device.queue_alloca(1024, wait=[gate @ 1], signal=[allocated @ 1])
        device.queue_dealloca(buffer, wait=[allocated @ 1], signal=[freed @ 1])
        scene.others.append(buffer)
    if device.has(Capability.HOST_CALL):
        called = scene.semaphore(scene.unfinished)
        device.queue_host_call(lambda: None, wait=[gate @ 1], signal=[called @ 1])


def add_held(scene: Scene) -> None:
    """On every queue work that a closed latch keeps running, and work behind it."""
    device = scene.device
    device.need(Capability.HOLD)
    latch: Latch = device.create_latch()
    scene.others.append(latch)
    for queue in range(device.queue_count):
        held, behind = scene.semaphore(scene.unfinished), scene.semaphore(scene.unfinished)
        device.queue_execute([Hold(latch), Fill(scene.buffer(), 7)], signal=[held @ 1], queue=queue)
        device.queue_execute([], wait=[held @ 1], signal=[behind @ 1], queue=queue)


def add_failed(scene: Scene) -> None:
    """A chain that has failed."""
    device, gate = scene.device, scene.semaphore(scene.failed)
    first, second = scene.semaphore(scene.failed), scene.semaphore(scene.failed)
    device.queue_execute([Fill(scene.buffer(), 7)], wait=[gate @ 1], signal=[first @ 1])
    device.queue_execute([], wait=[first @ 1], signal=[second @ 1])
    gate.fail(BEFORE)
    code_of(second)


STATES = {
    "idle": (add_finished,),
    "pending": (add_finished, add_pending),
    "held": (add_held,),
    "failed": (add_failed, add_finished),
    "everything": (add_finished, add_failed, add_held, add_pending),
}
#: The states that are legal to close everywhere: nothing is unfinished.
RESTING = ("idle", "failed")
