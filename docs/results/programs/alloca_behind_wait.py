"""A-1: alloca behind an unreached wait must return at once. hal/device.h: the buffer is reserved at once."""

import faulthandler
import sys

import iree.runtime as rt

faulthandler.dump_traceback_later(10, exit=True)  # the call holds the GIL while it blocks
device = rt.get_driver(sys.argv[1]).create_default_device()
gate, allocated = device.create_semaphore(0), device.create_semaphore(0)
print("expected  the call returns at once", flush=True)
device.queue_alloca(4096, [(gate, 1)], [(allocated, 1)])
print("seen      it returned")
gate.signal(1)
allocated.wait(1, timeout=10**10)
