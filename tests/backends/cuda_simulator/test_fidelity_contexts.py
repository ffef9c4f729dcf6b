"""What the driver does: devices, contexts, errors."""

from __future__ import annotations

import pytest


def test_there_is_a_device(cuda):
    assert cuda.cuDeviceGetCount() >= 1
    assert cuda.cuDriverGetVersion() >= 12000
    assert cuda.cuDeviceGetName(64, cuda.device).rstrip(b"\0")
    assert cuda.cuDeviceTotalMem(cuda.device) > 2**20
    attributes = cuda.driver.CUdevice_attribute
    assert cuda.cuDeviceGetAttribute(attributes.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, cuda.device) == 1
    assert cuda.cuDeviceGetAttribute(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, cuda.device) >= 7


@pytest.mark.parametrize("index", [-1, 4096])
def test_a_device_that_there_is_not(cuda, index):
    assert cuda.error(cuda.driver.cuDeviceGet(index)) == "INVALID_DEVICE"


def test_each_thread_has_a_context_of_its_own(cuda):
    def current():
        return int(cuda.cuCtxGetCurrent())

    assert current() == int(cuda.context)
    assert cuda.task(current).result() == int(cuda.context)
    without = cuda.task(lambda: (cuda.cuCtxSetCurrent(None), current())[1])
    assert without.result() == 0
    assert current() == int(cuda.context)


WITHOUT_CONTEXT = {
    "cuEventCreate": lambda driver: driver.cuEventCreate(2),
    "cuStreamCreate": lambda driver: driver.cuStreamCreate(1),
    "cuMemAlloc": lambda driver: driver.cuMemAlloc(64),
    "cuMemHostAlloc": lambda driver: driver.cuMemHostAlloc(64, 0),
    "cuCtxSynchronize": lambda driver: driver.cuCtxSynchronize(),
    "cuMemGetInfo": lambda driver: driver.cuMemGetInfo(),
}


@pytest.mark.parametrize("name", WITHOUT_CONTEXT)
def test_without_a_context_nothing_can_be_made(cuda, name):
    answer = cuda.task(lambda: (cuda.cuCtxSetCurrent(None), WITHOUT_CONTEXT[name](cuda.driver))[1]).result()
    assert cuda.error(answer) == "INVALID_CONTEXT"


def test_a_context_is_counted(cuda):
    again = cuda.cuDevicePrimaryCtxRetain(cuda.device)
    assert int(again) == int(cuda.context)
    cuda.cuDevicePrimaryCtxRelease(cuda.device)
    cuda.event()


@pytest.mark.parametrize("name", ["CUDA_SUCCESS", "CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_NOT_READY"])
def test_errors_have_a_name_and_a_text(cuda, name):
    error = getattr(cuda.driver.CUresult, name)
    assert cuda.cuGetErrorName(error) == name.encode()
    assert cuda.cuGetErrorString(error)


@pytest.mark.parametrize(
    ("call", "flags"), [("cuStreamCreate", 0x40), ("cuEventCreate", 0x40), ("cuMemHostAlloc", 0x4000)]
)
def test_flags_that_there_are_not(cuda, call, flags):
    arguments = (64, flags) if call == "cuMemHostAlloc" else (flags,)
    assert cuda.error(getattr(cuda.driver, call)(*arguments)) == "INVALID_VALUE"
