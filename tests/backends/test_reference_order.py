"""The order in which a queue of the reference backend runs what is ready, where no seed lets it choose."""

from __future__ import annotations

from contextlib import closing

import pytest

from pytest_cuda2hal.backends.reference import open_reference
from pytest_cuda2hal.hal import PROFILES, Fill, Hold


@pytest.mark.parametrize("profile", PROFILES)
def test_what_became_ready_first_is_next(profile):
    with closing(open_reference(profile=profile, queues=1)) as device:
        latch, buffer = device.create_latch(), device.allocate_buffer(4)
        dones = [device.create_semaphore() for _ in range(12)]
        device.queue_execute([Hold(latch)])
        for number, done in enumerate(dones, 1):
            device.queue_execute([Fill(buffer, bytes([number] * 4))], signal=[done @ 1])
        latch.open()
        device.wait_semaphores([done @ 1 for done in dones], timeout=5)
        assert buffer.read() == bytes([12] * 4)
