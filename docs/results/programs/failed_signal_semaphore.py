"""F-11, F-8: the host fails a semaphore that a pending submission is to signal; unrelated work must not notice."""

import sys

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()


def submit(wait: list, signal: list) -> None:
    commands = rt.HalCommandBuffer(device)
    commands.end()
    device.queue_execute(commands, wait, signal)


gate, failed, unrelated = (device.create_semaphore(0) for _ in range(3))
submit([(gate, 1)], [(failed, 1)])
failed.fail("failed by the host")
print("expected  an unrelated submission completes")
try:
    gate.signal(1)
    submit([(gate, 1)], [(unrelated, 1)])
    print(f"seen      it completed: {unrelated.wait(1, timeout=10 * 10**9)}")
except RuntimeError as error:
    print(f"seen      {error}")
