"""F-8: one submission fails because its wait has failed; a later, unrelated one must not notice."""

import sys

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()


def submit(wait: list, signal: list) -> None:
    commands = rt.HalCommandBuffer(device)
    commands.end()
    device.queue_execute(commands, wait, signal)


failing, failed, unrelated = (device.create_semaphore(0) for _ in range(3))
submit([(failing, 1)], [(failed, 1)])
failing.fail("the cause")
try:
    failed.wait(1, timeout=10**10)
except RuntimeError as error:
    print("its own   ", error)
print("expected  the unrelated submission completes")
try:
    submit([], [(unrelated, 1)])
    print(f"seen      it completed: {unrelated.wait(1, timeout=10 * 10**9)}")
except RuntimeError as error:
    print(f"seen      {error}")
