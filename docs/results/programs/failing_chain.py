"""F-9: a failure that travels down a chain of 20,000 submissions ends the process."""

import sys

import iree.runtime as rt

length = 20_000
device = rt.get_driver(sys.argv[1]).create_default_device()
semaphores = [device.create_semaphore(0) for _ in range(length + 1)]
for before, after in zip(semaphores, semaphores[1:], strict=False):
    commands = rt.HalCommandBuffer(device)
    commands.end()
    device.queue_execute(commands, [(before, 1)], [(after, 1)])
print("expected  the failure arrives at the end of the chain", flush=True)
semaphores[0].fail("the head failed")
try:
    arrived = semaphores[-1].wait(1, timeout=20 * 10**9)
    print(f"seen      {arrived} after 20 s")
except RuntimeError as error:
    print("as expected:", error)
