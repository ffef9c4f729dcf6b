"""HALs in native code at its worst. Each is whole until it is asked for a buffer of 13 bytes."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.hal import PROFILES, Backend, HalError, StatusCode

BAD_SIZE = 13


class Hostile(ReferenceDevice):
    """Turns on its user when asked for 13 bytes."""

    def allocate_buffer(self, size):
        if size == BAD_SIZE:
            self.turn()
        return super().allocate_buffer(size)

    def turn(self):
        raise NotImplementedError


class SegmentationFault(Hostile):
    def turn(self):
        sys.stderr.write("about to read address 0\n")
        ctypes.string_at(0)


class Abort(Hostile):
    def turn(self):
        os.write(2, b"terminate called after throwing an instance of 'hal::error'\n")
        ctypes.CDLL(None).abort()


class Exit(Hostile):
    def turn(self):
        os._exit(3)


class QuietExit(Hostile):
    def turn(self):
        os._exit(0)


class EndlessLoop(Hostile):
    """In C, with the interpreter's lock held and every signal blocked."""

    def turn(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        ctypes.PyDLL(None).pause()


class NoWatchdog(Hostile):
    """The same, after it has switched off the C watchdog: only a kill ends it."""

    def turn(self):
        faulthandler.cancel_dump_traceback_later()
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        ctypes.PyDLL(None).pause()


class DeadlockOnClose(Hostile):
    stuck = False

    def turn(self):
        self.stuck = True

    def close(self):
        if self.stuck:
            ctypes.PyDLL(None).pause()
        super().close()


class ThreadRaises(Hostile):
    """An exception in a thread of the HAL's, which is to signal."""

    def turn(self):
        def work():
            raise RuntimeError("lost in a thread of the HAL")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()


class Flood(Hostile):
    """Prints ten gigabytes, as fast as it can."""

    def turn(self):
        block = b"all work and no play makes a HAL a dull HAL\n" * 30_000
        total = 0
        while total < 10_000_000_000:
            total += os.write(1, block)


class LateCrash(Hostile):
    """Crashes from a thread of its own, a moment after the call has returned."""

    def turn(self):
        def crash():
            time.sleep(0.05)
            ctypes.string_at(0)

        threading.Thread(target=crash, daemon=True).start()


class Lost(Hostile):
    """Loses the device: that one for good, and every later one of the process as well."""

    gone = False

    def turn(self):
        Lost.gone = True
        raise HalError(StatusCode.DATA_LOSS, "the device fell off the bus")

    def queue_execute(self, commands, *, wait=(), signal=(), queue=0):
        if Lost.gone:
            raise HalError(StatusCode.DATA_LOSS, "the device fell off the bus")
        super().queue_execute(commands, wait=wait, signal=signal, queue=queue)


class CrashAtExit(Hostile):
    """Crashes when the process ends."""

    def turn(self):
        import atexit

        atexit.register(lambda: ctypes.string_at(0))


def _backend(kind):
    return Backend(kind.__name__, "hostile", lambda: kind(PROFILES["strict"]), native=True)


class Backends:
    """As ``--backend=hostile_backends:BACKENDS.Abort`` names them."""


BACKENDS = Backends()
for one in Hostile.__subclasses__():
    setattr(BACKENDS, one.__name__, _backend(one))
