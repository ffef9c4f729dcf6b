"""W-5: a wait with about 2**32 - 1 milliseconds to go ends at once, as if its time were over."""

import sys
import time

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()
semaphore = device.create_semaphore(0)
begin = time.monotonic_ns()
reached = semaphore.wait(1, deadline=begin + 4_294_967_296_000_000)  # in 49.7 days
print("expected  no answer for 49.7 days: nobody signals")
print(f"seen      {reached} after {(time.monotonic_ns() - begin) / 1e9:.3f} s")
