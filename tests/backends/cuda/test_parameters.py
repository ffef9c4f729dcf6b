"""What a device can be opened with, and what is said where it cannot be opened."""

from __future__ import annotations

import os
import sys
import types

import pytest

from pytest_cuda2hal.backends.cuda import open_cuda, open_simulated
from pytest_cuda2hal.backends.cuda.opening import open_on
from pytest_cuda2hal.backends.cuda.parameters import LAUNCH_LIMIT, Parameters
from pytest_cuda2hal.backends.cuda.simulator import CUresult, SimulatedDriver
from pytest_cuda2hal.hal import BackendUnavailable, BadOption

INTEGERS = ["queues", "streams", "event_pool_capacity", "max_in_flight", "memory", "memory_kept"]
BAD = [
    ("queues", 0, "at least 1, not 0"),
    ("streams", 0, "at least 1, not 0"),
    ("event_pool_capacity", -1, "at least 0, not -1"),
    ("max_in_flight", 0, "at least 1, not 0"),
    ("max_in_flight", LAUNCH_LIMIT, f"below {LAUNCH_LIMIT}, where launches begin to block"),
    ("memory", 0, "at least 1 byte, not 0"),
    ("memory_kept", -1, "at least 0, not -1"),
    *((name, value, f"is an int, not {value!r}") for name in INTEGERS for value in (1.5, "2", True, float("inf"))),
    ("completion", "polling", "event or host-function, not 'polling'"),
]


@pytest.mark.parametrize(("name", "value", "text"), BAD, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize(("backend", "open_device"), [("cuda", open_cuda), ("cuda-sim", open_simulated)])
def test_a_bad_value_is_refused_with_the_option_and_what_it_may_be(backend, open_device, name, value, text):
    with pytest.raises(BadOption) as caught:
        open_device(**{name: value})
    assert str(caught.value).startswith(f"backend '{backend}': option '{name}'")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("queues", 1), ("streams", 1), ("event_pool_capacity", 0), ("max_in_flight", 1), ("memory_kept", 0)],
        *[("max_in_flight", LAUNCH_LIMIT - 1), ("memory", 2**20), ("completion", "host-function")],
    ],
)
def test_a_value_at_the_edge_is_taken(rig, name, value):
    device = rig(**{name: value})
    done = device.semaphore()
    device.submit(signal=[done @ 1])
    done.wait(1, 5)


@pytest.mark.parametrize("open_device", [open_cuda, open_simulated])
def test_no_more_streams_than_can_work_side_by_side(open_device):
    with pytest.raises(BadOption, match=r"'queues' times 'streams' must be at most 31, .* not 8 times 4"):
        open_device(queues=8, streams=4)


@pytest.mark.parametrize(("allowed", "enough"), [(None, True), ("7", True), ("6", False), ("1", False)])
def test_the_driver_is_told_of_the_connections_before_it_starts(monkeypatch, allowed, enough):
    """Two queues of three streams, and one stream for transfers: seven."""
    seen = []

    def cannot_load(flags):
        seen.append(os.environ["CUDA_DEVICE_MAX_CONNECTIONS"])
        raise RuntimeError("not here")

    with_bindings(monkeypatch, types.SimpleNamespace(cuInit=cannot_load))
    if allowed is None:
        monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS", raising=False)
    else:
        monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", allowed)
    reason, remedy = unavailable(lambda: open_cuda(queues=2, streams=3))
    assert seen == ([allowed or "32"] if enough else [])
    if not enough:
        assert f"CUDA_DEVICE_MAX_CONNECTIONS is {allowed}: too few for 2 queues of 3 streams" in reason
        assert "Unset it, or set it to 7 or more" in remedy


def test_a_device_number_below_zero_is_refused():
    with pytest.raises(BadOption, match="option 'device' must be at least 0, not -1"):
        open_cuda(device=-1)


def unavailable(call):
    """Return the reason and the remedy of a backend that cannot be opened."""
    with pytest.raises(BackendUnavailable) as caught:
        call()
    return caught.value.reason, caught.value.remedy


def test_without_the_bindings(monkeypatch):
    for name in ("cuda", "cuda.bindings", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    reason, remedy = unavailable(open_cuda)
    assert "bindings cannot be imported" in reason
    assert "pip install" in remedy


def with_bindings(monkeypatch, driver):
    """Let the bindings have this driver."""
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    bindings.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver)


def test_without_a_driver_library(monkeypatch):
    def cannot_load(flags):
        raise RuntimeError("Failed to dlopen libcuda.so.1\nand much more")

    with_bindings(monkeypatch, types.SimpleNamespace(cuInit=cannot_load))
    reason, remedy = unavailable(open_cuda)
    assert "library cannot be loaded (Failed to dlopen libcuda.so.1)" in reason
    assert "NVIDIA driver" in remedy


@pytest.mark.parametrize(
    ("options", "ordinal", "reason", "remedy"),
    [
        ({"devices": 0}, 0, "found no device", "nvidia-smi"),
        ({"version": 11080}, 0, "of version 11.8, and 12.0 is needed", "newer NVIDIA driver"),
        ({}, 3, "no CUDA device 3", "0 only"),
        ({"devices": 2}, 2, "no CUDA device 2", "0 … 1"),
    ],
    ids=["no device", "old driver", "one device", "two devices"],
)
def test_a_driver_without_what_is_needed(options, ordinal, reason, remedy):
    driver = SimulatedDriver(**options)
    said = unavailable(lambda: open_on(driver, ordinal=ordinal, parameters=Parameters(), versions={}))
    assert reason in said[0]
    assert remedy in said[1]
    assert driver.contexts == {}


def test_a_device_without_memory_pools(monkeypatch):
    driver = SimulatedDriver()
    monkeypatch.setattr(driver, "cuDeviceGetAttribute", lambda *_: (CUresult.CUDA_SUCCESS, 0))
    reason, remedy = unavailable(lambda: open_on(driver, ordinal=0, parameters=Parameters(), versions={}))
    assert "no stream-ordered memory pools" in reason
    assert remedy
    assert driver.contexts == {}


def test_the_device_says_what_it_is(rig):
    info = rig(version=12040).device.info
    assert info.name == "simulated CUDA device"
    assert info.versions == {"driver": "12.4"}


def test_memory_may_be_bounded(rig):
    assert rig(memory=2**20).device.statistics().memory_total == 2**20
