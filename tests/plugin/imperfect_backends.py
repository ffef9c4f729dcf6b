"""Backends and cases with known defects, for tests of what a run makes of them: baselines, shards, orders, devices."""

from __future__ import annotations

import dataclasses
import json
import os

from minimal_backend import HostDevice

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.hal import PROFILES, Backend, Capability, HalError, StatusCode

#: Where the devices of :data:`SEVERAL` and :data:`PAIR` are chosen, as CUDA_VISIBLE_DEVICES does.
DEVICES_VARIABLE = "IMPERFECT_DEVICES"
PAIR_VARIABLE = "IMPERFECT_PAIR_DEVICES"

#: The ways to run a case: in the process of the run, in several workers, in a process of its own.
WAYS = {
    "alone": ("--no-isolate",),
    "xdist": ("-n", "2", "--no-isolate"),
    "isolated": ("--isolate",),
    "both": ("-n", "2", "--isolate"),
}

#: One case that keeps its promises and two that do not, of which one hangs.
CASES = """
    import pytest

    @pytest.mark.hal_clause("TL-1")
    def test_good(hal_device): ...

    @pytest.mark.hal_clause("W-1")
    @pytest.mark.parametrize("number", [1, 2])
    def test_bad(hal_device, number):
        assert number == 1, f"{number} is not 1"

    def test_hang(hal_semaphores):
        hal_semaphores(1)[0].wait(1)
"""
#: How they deviate: case and outcome.
DEVIATIONS = [("test_it::test_bad[2]", "fail"), ("test_it::test_hang", "hang")]


def entries(*listed, **keys):
    """Return a baseline that lists cases with their outcomes; ``keys`` are TOML, for each entry."""
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return "version = 1\n" + "".join(
        f'[[deviation]]\ncase = "{case}"\noutcome = "{outcome}"\nreason = "the HAL is like that"\n{more}'
        for case, outcome in listed
    )


def report_of(suite, name="report.json"):
    """Return a result file, and its cases by id."""
    document = json.loads((suite.pytester.path / name).read_text())
    return document, {case["case"]: case for case in document["cases"]}


def run_way(suite, way, *arguments):
    """Run in one of the ways; only the first can be had without a process of its own."""
    run = suite.run if way == "alone" else suite.run_child
    return run(*arguments, *WAYS[way])


# --- backends


class Several(HostDevice):
    """One of four devices, unless the variable hides some."""

    def __init__(self):
        visible = [part for part in os.environ.get(DEVICES_VARIABLE, "").split(",") if part.strip()]
        self.info = dataclasses.replace(HostDevice.info, count=len(visible) or 4)


class Pair(HostDevice):
    info = dataclasses.replace(HostDevice.info, count=2)


class CannotAllocate(HostDevice):
    """Every allocation fails, with an error that the HAL knows."""

    def allocate_buffer(self, size):
        raise HalError(StatusCode.RESOURCE_EXHAUSTED, f"no {size} bytes left")


class Breaks(HostDevice):
    """Loses the device when asked for 13 bytes: nothing is completed on it any more."""

    lost = False

    def allocate_buffer(self, size):
        if size == 13:
            self.lost = True
            raise HalError(StatusCode.DATA_LOSS, "the device fell off the bus")
        return super().allocate_buffer(size)

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        if self.lost:
            raise HalError(StatusCode.DATA_LOSS, "the device fell off the bus")
        super().queue_execute(commands, wait=wait, signal=signal, queue=queue)


class DoesNotClose(HostDevice):
    """Cannot be closed after it was asked for 13 bytes."""

    asked = False

    def allocate_buffer(self, size):
        self.asked = self.asked or size == 13
        return super().allocate_buffer(size)

    def close(self):
        if self.asked:
            raise HalError(StatusCode.INTERNAL, "13 bytes are still there")


class Liar(ReferenceDevice):
    """Says that it is as strict, and answers as IREE does."""

    def __init__(self):
        super().__init__(PROFILES["iree"])
        self.profile = "strict"


class Lacking(HostDevice):
    """Has not even a failure code."""

    capabilities = HostDevice.capabilities - {Capability.FAIL_CODE}


SEVERAL = Backend("several", "one of four", Several, device_variables={"": DEVICES_VARIABLE})
PAIR = Backend("pair", "one of two", Pair, device_variables={"": PAIR_VARIABLE})
