"""A HAL that is wrong on purpose: it runs everything and never makes a signal. For the page on reading a failure."""

from __future__ import annotations

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.submission import Submission
from pytest_cuda2hal.hal import PROFILES, HalError


class ForgetsSignals(Submission):
    def retire(self, error: HalError | None) -> None:
        self._signals = ()
        super().retire(error)


class ForgetfulDevice(ReferenceDevice):
    """Never signals."""

    submission_class = ForgetsSignals


def open_forgetful() -> ForgetfulDevice:
    """Open the device."""
    return ForgetfulDevice(PROFILES["strict"])
