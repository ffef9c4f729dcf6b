"""Short names for the suite's fixtures; outside the suite they are called `hal_…`, so as to collide with nothing."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from .support import (
    AskVariation,
    Buffers,
    Cause,
    Effort,
    Latches,
    ObservedDevice,
    OpenDevice,
    Poll,
    Quality,
    Semaphores,
    Settle,
    Tasks,
)


@pytest.fixture(scope="session", autouse=True)
def _cheap_garbage_collection() -> Iterator[None]:
    """Cases and the harness look for garbage; what existed before the first case need not be looked at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def device(hal_device: ObservedDevice) -> ObservedDevice:
    """A device opened for this case alone; see `hal_device`."""
    return hal_device


@pytest.fixture
def open_device(hal_open_device: OpenDevice) -> OpenDevice:
    """A function that opens one more device; see `hal_open_device`."""
    return hal_open_device


@pytest.fixture
def semaphores(hal_semaphores: Semaphores) -> Semaphores:
    """``semaphores(3)`` makes three at 0, ``semaphores.at(5)`` one at 5."""
    return hal_semaphores


@pytest.fixture
def buffers(hal_buffers: Buffers) -> Buffers:
    """``buffers.filled(0, count=2)``, ``buffers.filled(7)``, ``buffers.holding(b"…")``."""
    return hal_buffers


@pytest.fixture
def latches(hal_latches: Latches) -> Latches:
    """``latches()`` makes a latch; it is opened at the latest when the case ends."""
    return hal_latches


@pytest.fixture
def settle(hal_settle: Settle) -> Settle:
    """``settle(lambda: c.untouched)`` watches that something has not happened."""
    return hal_settle


@pytest.fixture
def threads(hal_threads: Tasks) -> Tasks:
    """``threads.start(function).result()``, ``threads.run([f, g])``."""
    return hal_threads


@pytest.fixture
def poll(hal_poll: Poll) -> Poll:
    """``poll(lambda: s.query() == 3)`` looks until it is so."""
    return hal_poll


@pytest.fixture
def cause(hal_cause: Cause) -> Cause:
    """``cause("why")`` makes an error to fail semaphores with."""
    return hal_cause


@pytest.fixture
def variation(hal_variation: AskVariation) -> AskVariation:
    """``variation("overtaken-signal").check("no-op")``."""
    return hal_variation


@pytest.fixture
def quality(hal_quality: Quality) -> Quality:
    """``quality("W-10q", used < 0.2, "12% of a core")``."""
    return hal_quality


@pytest.fixture
def effort(hal_effort: Effort) -> Effort:
    """``effort.loops(quick, full, soak)``."""
    return hal_effort


@pytest.fixture
def deadline(hal_deadline: float) -> float:
    """Seconds after which a wait counts as hanging."""
    return hal_deadline


@pytest.fixture
def restless() -> Iterator[None]:
    """Python's threads take turns every 50 µs instead of every 5 ms, so that they meet more often, and wait less."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)
