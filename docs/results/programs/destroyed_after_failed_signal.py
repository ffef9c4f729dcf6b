"""L-3: a device whose semaphore was signaled twice by one submission, which failed it, is let go. It must go."""

import subprocess
import sys

WORK = """
import sys, time
import iree.runtime as rt
device = rt.get_driver(sys.argv[1]).create_default_device()
before, line, after = (device.create_semaphore(0) for _ in range(3))
commands = rt.HalCommandBuffer(device)
commands.end()
try:
    device.queue_execute(commands, [], [(before, 1), (line, 2), (line, 1), (after, 1)])
    print("accepted;", end=" ", flush=True)
except ValueError:
    print("refused;", end=" ", flush=True)
for semaphore in (before, after, line):
    try:
        end = time.monotonic() + 2
        while not semaphore.query() and time.monotonic() < end:
            time.sleep(0.001)
        print(semaphore.query(), end=" ", flush=True)
    except Exception as error:
        print(type(error).__name__, end=" ", flush=True)
del before, line, after, semaphore, commands
print("; letting go of the device:", end=" ", flush=True)
del device
print("done", flush=True)
"""

print("expected  the device goes")
print("seen      ", end="", flush=True)
try:
    status = subprocess.run([sys.executable, "-c", WORK, sys.argv[1]], timeout=20, check=False).returncode
except subprocess.TimeoutExpired:
    print("nothing more for 20 s")
else:
    print("          the process ended with status", status)
