"""A-7: what a second dealloca does is for the HAL to say; IREE's own words (1b8e95c3a7): it is a barrier."""

import sys

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()
line = device.create_semaphore(0)
buffer = device.queue_alloca(256, [], [(line, 1)])
device.queue_dealloca(buffer, [(line, 1)], [(line, 2)])
line.wait(2, timeout=10**10)
print("expected  a barrier", flush=True)
try:
    device.queue_dealloca(buffer, [], [(line, 3)])
    print("seen      it completed:", line.wait(3, timeout=10**10))
except (RuntimeError, ValueError) as error:
    print("seen     ", str(error).split(";")[0])
