"""What a case can come to."""

from __future__ import annotations

import enum


class Outcome(enum.Enum):
    """What a case came to on a backend; the value is how reports write it."""

    PASS = "pass"
    #: A promise was seen broken.
    FAIL = "fail"
    #: A known answer to a variation point, but not one that the profile permits.
    VARIATION = "variation"
    #: Something did not come within its deadline.
    HANG = "hang"
    #: The process of the case ended by itself: by a signal, or by an exit that nobody asked for.
    CRASH = "crash"
    #: Afterwards the device completed nothing any more.
    DEVICE_LOST = "device lost"
    #: The harness, or the case itself, went wrong; no verdict on the HAL.
    ERROR = "error"
    #: The HAL lacks, or leaves undefined, what the case is about.
    UNSUPPORTED = "unsupported"
    #: Skipped, or expected to fail, by the case itself: nothing that the harness has an opinion on.
    SET_ASIDE = "set aside"

    @property
    def deviates(self) -> bool:
        """Whether it fails the run, unless a baseline lists it."""
        return self in _DEVIATIONS


_DEVIATIONS = frozenset(
    {Outcome.FAIL, Outcome.VARIATION, Outcome.HANG, Outcome.CRASH, Outcome.DEVICE_LOST, Outcome.ERROR}
)
