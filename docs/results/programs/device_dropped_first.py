"""L-3: the device's handle is dropped before a semaphore's. The process must survive."""

import sys

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()
semaphore = device.create_semaphore(0)
print("expected  a clean end", flush=True)
del device
del semaphore
print("seen      a clean end")
