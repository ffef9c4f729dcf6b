"""The way to IREE's HAL: an open device and the functions of the native VM module ``hal`` bound to it.

The functions take their arguments by position; the order is that of IREE's ``hal.imports.mlir``, and the signatures in
the comments are the calling conventions in the binary of 3.13 (r: reference, i: 32-bit, I: 64-bit integer).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from pytest_cuda2hal.hal import StatusCode

from .status import STATUS_ERRORS, raise_status


class Owned:
    """One of IREE's objects, and the device that must outlive it.

    With IREE 3.13 a Vulkan semaphore, and a queue-allocated buffer of either asynchronous driver, that is released
    after its device crashes the process. Handles are dropped at any moment and in any order: by the collector, or with
    a failing test's traceback long after the device is closed. So nothing here keeps such an object in a variable
    without its device: frames, which tracebacks keep, hold these.
    """

    __slots__ = ("_device", "handle")

    def __init__(self, handle: Any, device: Any) -> None:
        self.handle = handle
        self._device = device

    def __del__(self) -> None:
        # A finalizer runs before any attribute of any object in a dead cycle is cleared: this is the order.
        self.handle = None


#: A timepoint: the semaphore and the value.
Pair = tuple[Owned, int]

#: IREE_HAL_QUEUE_AFFINITY_ANY: all bits set.
ANY_QUEUE = -1


class Route:
    """An open IREE device and its VM functions. Thread-safe."""

    def __init__(self, runtime: Any, device: Any) -> None:
        self.runtime = runtime
        #: The ``HalDevice``, for the tuple route and what else the bindings do better.
        self.device = device
        import numpy  # IREE needs it anyway; where both are missing, IREE's absence is the answer

        memory, usage = runtime.MemoryType, runtime.BufferUsage
        #: Of every buffer: on the device, and mapped by the host for side access. The bindings want plain integers.
        self.memory_type = int(memory.DEVICE_LOCAL) | int(memory.HOST_VISIBLE)
        self.buffer_usage = int(usage.DEFAULT) | int(usage.MAPPING)
        self.byte_type = numpy.dtype(numpy.uint8)
        self._instance = runtime.VmInstance()
        self._module = runtime.create_hal_module(self._instance, device)
        self._functions = {name: self._module.lookup_function(name) for name in self._module.function_names}
        # A VM context may be used by one thread at a time, so one is taken per call and put back: there are as many as
        # there were ever calls at once.
        self._contexts: deque[Any] = deque()
        self._device_ref = self.invoke("devices.get", 0, results=1).get_as_ref(0)  # i -> r

    def own(self, handle: Any) -> Owned:
        """Bind an object of IREE's to its device."""
        return Owned(handle, self.device)

    def invoke(self, name: str, *arguments: Any, results: int = 0) -> Any:
        """Call a function of the module ``hal`` with the GIL released; return the list of its results.

        :param arguments: integers, objects of IREE's as :class:`Owned`, and what needs no device.
        :raises HalError: the status that it returned.
        """
        inputs = self.runtime.VmVariantList(len(arguments))
        outputs = self.runtime.VmVariantList(results)
        for argument in arguments:
            if isinstance(argument, int):
                # The VM's integers are signed; the HAL reads sizes and offsets from the same 64 bits unsigned.
                inputs.push_int(argument - 2**64 if argument >= 2**63 else argument)
            else:
                inputs.push_ref(argument.handle if isinstance(argument, Owned) else argument)
        try:
            context = self._contexts.pop()
        except IndexError:
            context = self.runtime.VmContext(self._instance, [self._module])
        try:
            context.invoke(self._functions[name], inputs, outputs)
        except STATUS_ERRORS as error:
            raise_status(error)
        finally:
            self._contexts.append(context)
            del inputs  # it holds the handles bare (see Owned)
        return outputs

    def on_device(self, name: str, *arguments: Any, results: int = 0) -> Any:
        """Call a function whose first argument is the device."""
        return self.invoke(name, self._device_ref, *arguments, results=results)

    def submit(
        self, name: str, affinity: int, wait: Sequence[Pair], signal: Sequence[Pair], *arguments: Any, results: int = 0
    ) -> Any:
        """Call ``device.queue.<name>``: device, affinity, wait fence, signal fence, then its own arguments."""
        return self.on_device(
            f"device.queue.{name}", affinity, self.fence(wait), self.fence(signal), *arguments, results=results
        )

    def fence(self, pairs: Sequence[Pair]) -> Owned:
        """Return a fence over the timepoints; of several values of one semaphore it keeps the largest."""
        try:
            fence = self.own(self.runtime.HalFence(len(pairs)))
            for semaphore, value in pairs:
                fence.handle.insert(semaphore.handle, value)
        except STATUS_ERRORS as error:
            raise_status(error)
        return fence

    def fail(self, semaphore: Owned, code: StatusCode) -> None:
        """Fail a semaphore with a code and no message."""
        # The fence says which semaphore; its value does not matter to a failure.
        self.invoke("fence.fail", self.fence([(semaphore, 1)]), int(code))  # ri

    def bytes(self, data: bytes) -> Any:
        """Return a ``VmBuffer`` that holds a copy of ``data``."""
        result = self.runtime.VmBuffer(len(data))
        if data:
            memoryview(result)[:] = data
        return result

    def queue_total(self) -> int:
        """Return how many queues the device says it has (1 when it does not say)."""
        category, key = self.bytes(b"hal.device"), self.bytes(b"concurrency")
        found = self.on_device("device.query.i64", category, key, results=2)  # rrr -> iI
        return int(found.get_variant(1)) if found.get_variant(0) else 1
