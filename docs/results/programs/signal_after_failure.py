"""F-5: signaling a failed semaphore. hal/semaphore.h: the failure is returned "from query and signal" from then on."""

import sys

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()
semaphore = device.create_semaphore(0)
semaphore.fail("the first failure")
try:
    semaphore.signal(1)
    print("expected  the failure, UNKNOWN; the first failure")
    print("seen      signal(1) returned as if nothing had been wrong")
except RuntimeError as error:
    print("as documented:", error)
