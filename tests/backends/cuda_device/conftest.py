"""Devices of the CUDA backend on the simulated driver, and on the real one where the machine has a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_cuda2hal.backends.cuda import open_cuda, open_simulated
from pytest_cuda2hal.backends.cuda.device import CudaDevice
from pytest_cuda2hal.hal import BackendUnavailable

OpenDevice = Callable[..., CudaDevice]


def gpu_problem() -> str:
    """Say why nothing can run on a GPU here; empty if it can."""
    try:
        open_cuda().close()
    except BackendUnavailable as unavailable:
        return str(unavailable)
    return ""


@pytest.fixture(scope="session")
def no_gpu() -> str:
    return gpu_problem()


@pytest.fixture(params=["simulated", "real"])
def kind(request: pytest.FixtureRequest, no_gpu: str) -> str:
    """On which driver."""
    if request.param == "real" and no_gpu:
        pytest.skip(f"needs a GPU: {no_gpu}")
    return str(request.param)


@pytest.fixture
def open_device(kind: str) -> Iterator[OpenDevice]:
    """A function that opens a device; it is closed after the test."""
    opened: list[CudaDevice] = []

    def open_device(**options: Any) -> CudaDevice:
        opened.append(open_cuda(**options) if kind == "real" else open_simulated(**options))
        return opened[-1]

    yield open_device
    for device in opened:
        device.close()
