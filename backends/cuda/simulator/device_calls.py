"""Calls about the driver, its devices and their contexts."""

# ruff: noqa: N802 - the names are the driver's

from __future__ import annotations

from .calls import INVALID_VALUE, SUCCESS, Calls, Maybe, Status, call
from .enums import CUdevice_attribute, CUresult
from .handles import CUcontext, CUdevice
from .memory import DeviceMemory

#: What ``cuDeviceGetAttribute`` answers: an H100, where it matters.
ATTRIBUTES = {
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: 1024,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_WARP_SIZE: 32,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: 132,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: 1,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_MODE: 0,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS: 1,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_PCI_BUS_ID: 0x1B,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID: 0,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: 3,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: 1,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID: 0,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: 9,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: 0,
    CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: 1,
}
NO_CONTEXT = CUcontext(-1, None)

#: Texts of the commonest errors; the others are described by their name.
TEXTS = {
    CUresult.CUDA_SUCCESS: "no error",
    CUresult.CUDA_ERROR_INVALID_VALUE: "invalid argument",
    CUresult.CUDA_ERROR_OUT_OF_MEMORY: "out of memory",
    CUresult.CUDA_ERROR_NOT_INITIALIZED: "initialization error",
    CUresult.CUDA_ERROR_NO_DEVICE: "no CUDA-capable device is detected",
    CUresult.CUDA_ERROR_INVALID_DEVICE: "invalid device ordinal",
    CUresult.CUDA_ERROR_INVALID_CONTEXT: "invalid device context",
    CUresult.CUDA_ERROR_INVALID_HANDLE: "invalid resource handle",
    CUresult.CUDA_ERROR_NOT_READY: "device not ready",
    CUresult.CUDA_ERROR_ILLEGAL_ADDRESS: "an illegal memory access was encountered",
    CUresult.CUDA_ERROR_LAUNCH_FAILED: "unspecified launch failure",
    CUresult.CUDA_ERROR_NOT_PERMITTED: "operation not permitted",
    CUresult.CUDA_ERROR_NOT_SUPPORTED: "operation not supported",
    CUresult.CUDA_ERROR_UNKNOWN: "unknown error",
}


class DeviceCalls(Calls):
    """Initialization, devices, contexts, errors."""

    version: int

    @call(initialized=False, context=False)
    def cuInit(self, flags: int) -> Status:
        """Initialize the driver."""
        if flags:
            return (INVALID_VALUE,)
        if not self.devices:
            return (CUresult.CUDA_ERROR_NO_DEVICE,)
        self.initialized = True
        return (SUCCESS,)

    @call(results=1, initialized=False, context=False)
    def cuDriverGetVersion(self) -> tuple[CUresult, int]:
        """Return the version, as 13000 for 13.0."""
        return SUCCESS, self.version

    @call(results=1, context=False)
    def cuDeviceGetCount(self) -> tuple[CUresult, int]:
        """Return how many devices there are."""
        return SUCCESS, self.devices

    @call(results=1, context=False)
    def cuDeviceGet(self, index: int) -> tuple[CUresult, Maybe]:
        """Return a device by its index."""
        if not 0 <= index < self.devices:
            return CUresult.CUDA_ERROR_INVALID_DEVICE, None
        return SUCCESS, CUdevice(index)

    @call(results=1, context=False)
    def cuDeviceGetName(self, length: int, device: CUdevice | int) -> tuple[CUresult, Maybe]:
        """Return a device's name, padded with zeros to ``length`` bytes."""
        if not self._exists(device):
            return CUresult.CUDA_ERROR_INVALID_DEVICE, None
        return SUCCESS, b"simulated CUDA device"[: max(0, length - 1)].ljust(length, b"\0")

    @call(results=1, context=False)
    def cuDeviceGetAttribute(self, attribute: int, device: CUdevice | int) -> tuple[CUresult, Maybe]:
        """Return one number about a device."""
        if not self._exists(device):
            return CUresult.CUDA_ERROR_INVALID_DEVICE, None
        value = {int(key): number for key, number in ATTRIBUTES.items()}.get(int(attribute))
        if attribute == CUdevice_attribute.CU_DEVICE_ATTRIBUTE_PCI_BUS_ID and value is not None:
            value += int(device)
        return (INVALID_VALUE, None) if value is None else (SUCCESS, value)

    @call(results=1, context=False)
    def cuDeviceTotalMem(self, device: CUdevice | int) -> tuple[CUresult, Maybe]:
        """Return a device's memory in bytes."""
        if not self._exists(device):
            return CUresult.CUDA_ERROR_INVALID_DEVICE, None
        return SUCCESS, self.memory_size

    def _exists(self, device: CUdevice | int) -> bool:
        return 0 <= int(device) < self.devices

    # --- contexts

    @call(results=1, context=False)
    def cuDevicePrimaryCtxRetain(self, device: CUdevice | int) -> tuple[CUresult, Maybe]:
        """Take a reference on a device's context, and create it with the first."""
        if not self._exists(device):
            return CUresult.CUDA_ERROR_INVALID_DEVICE, None
        index = int(device)
        context = self.contexts.get(index)
        if context is None:
            if index in self.ruined:
                return self.ruined[index], None
            context = self.contexts[index] = CUcontext(index, DeviceMemory(self.memory_size))
            self.engine.start()
        context.references += 1
        return SUCCESS, context

    @call(context=False)
    def cuDevicePrimaryCtxRelease(self, device: CUdevice | int) -> Status:
        """Drop a reference; with the last one everything in the context goes, finished or not."""
        if not self._exists(device):
            return (CUresult.CUDA_ERROR_INVALID_DEVICE,)
        context = self.contexts.get(int(device))
        if context is None:
            self.checker.blame("cuDevicePrimaryCtxRelease", "released more often than retained")
            return (CUresult.CUDA_ERROR_INVALID_CONTEXT,)
        context.references -= 1
        if not context.references:
            self.checker.context_released("cuDevicePrimaryCtxRelease", context)
            del self.contexts[int(device)]
            if context.error is not None:
                self.ruined[int(device)] = context.error
            self.engine.lose(context, CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED)
            context.error = CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED  # instead of a fault
            if not self.contexts:
                self.engine.stop()
        return (SUCCESS,)

    @call(context=False)
    def cuCtxSetCurrent(self, context: CUcontext | None) -> Status:
        """Make a context the calling thread's; ``None`` takes it away."""
        state = self.engine.thread_state
        if context is None or context is NO_CONTEXT:
            state.context = None
            return (SUCCESS,)
        if type(context) is not CUcontext or context.error is CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED:
            self.checker.blame("cuCtxSetCurrent", f"{context!r} is no context, or was released")
            return (CUresult.CUDA_ERROR_INVALID_CONTEXT,)
        state.context = context
        return (SUCCESS,)

    @call(results=1, context=False)
    def cuCtxGetCurrent(self) -> tuple[CUresult, Maybe]:
        """Return the calling thread's context, or one whose ``int()`` is 0."""
        return SUCCESS, self.engine.thread_state.context or NO_CONTEXT

    @call(unsafe=True)
    def cuCtxSynchronize(self) -> Status:
        """Wait for everything in the current context."""
        return self.synchronize_context()

    def synchronize_context(self) -> Status:
        """Block until everything that was enqueued before has completed."""
        context = self.thread_context
        # Streams that were destroyed with work left are not among the handles; the driver waits for them too.
        for stream, count in [(one, one.enqueued) for one in context.streams if one.completed < one.enqueued]:
            self.engine.sleep_until(stream, count)
        if context.error is not None:
            return (context.error,)
        context.memory.synchronized()
        return (SUCCESS,)

    # --- errors

    @call(results=1, initialized=False, context=False)
    def cuGetErrorName(self, error: int) -> tuple[CUresult, Maybe]:
        """Return an error's name, as bytes."""
        try:
            return SUCCESS, CUresult(error).name.encode()
        except ValueError:
            return INVALID_VALUE, None

    @call(results=1, initialized=False, context=False)
    def cuGetErrorString(self, error: int) -> tuple[CUresult, Maybe]:
        """Return what an error means, as bytes."""
        try:
            known = CUresult(error)
        except ValueError:
            return INVALID_VALUE, None
        text = TEXTS.get(known, known.name.removeprefix("CUDA_ERROR_").replace("_", " ").lower())
        return SUCCESS, text.encode()
