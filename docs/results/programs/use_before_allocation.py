"""A-6: what uses a queue-allocated buffer before its alloca has run is refused, or fails; it is not carried out."""

import sys

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()
gate, allocated, used = (device.create_semaphore(0) for _ in range(3))
buffer = device.queue_alloca(256, [(gate, 1)], [(allocated, 1)])
print("expected  refused, or a failure of the semaphore", flush=True)
try:
    device.queue_dealloca(buffer, [], [(used, 1)])
    used.wait(1, timeout=10**10)
    print(f"seen      the dealloca is done, while the alloca waits at {gate.query()} for 1")
except RuntimeError as error:
    print("seen     ", error)
gate.signal(1)
allocated.wait(1, timeout=10**10)
