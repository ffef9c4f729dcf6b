"""What the driver does: a fault on the device, in a process of its own, which the real one spoils for good."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = Path(__file__).with_name("fault_scenario.py")


@pytest.fixture(params=["model", "real"])
def answers(request):
    """What each call returned after the fault."""
    if request.param == "real":
        request.getfixturevalue("real_driver")  # skips where there is none
    command = [sys.executable, "-P", str(SCENARIO), request.param]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_fault_on_the_device_is_returned_by_everything_and_forgotten_by_nothing(answers):
    assert answers["blocked before"]
    assert answers["blocked cuEventSynchronize"] == "ILLEGAL_ADDRESS"
    assert set(answers["sticky"].values()) == {"ILLEGAL_ADDRESS"}, answers
    assert not answers["host function called"]
    assert answers["cuDeviceGetCount"] == "CUDA_SUCCESS"
    assert answers["cuDevicePrimaryCtxRelease"] == "CUDA_SUCCESS", answers
