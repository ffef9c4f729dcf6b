"""F-6: a submission behind a semaphore that has failed. Its signal semaphores must fail with the cause."""

import sys

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()
failed, done = device.create_semaphore(0), device.create_semaphore(0)
failed.fail("the cause")
commands = rt.HalCommandBuffer(device)
commands.end()
try:
    device.queue_execute(commands, [(failed, 1)], [(done, 1)])
    print("submit    accepted")
except RuntimeError as error:
    print(f"submit    raised {error}")
print("expected  done fails with UNKNOWN; the cause")
try:
    print(f"seen      done = {done.query()}; a wait for it: {done.wait(1, timeout=10**9)}")
except RuntimeError as error:
    print("as expected:", error)
