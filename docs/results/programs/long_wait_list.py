"""Q-6: a submission that waits for many semaphores, each signaled by a submission of its own. Any length is legal."""

import signal
import subprocess
import sys

WORK = """
import sys, time
import iree.runtime as rt
device = rt.get_driver(sys.argv[1]).create_default_device()
length = int(sys.argv[2])
commands = rt.HalCommandBuffer(device)
commands.end()
for round in range(20):
    made = [device.create_semaphore(0) for _ in range(length)]
    over = device.create_semaphore(0)
    for semaphore in made:
        device.queue_execute(commands, [], [(semaphore, 1)])
    device.queue_execute(commands, [(semaphore, 1) for semaphore in made], [(over, 1)])
    end = time.monotonic() + 10
    while over.query() < 1 and time.monotonic() < end:
        time.sleep(0.001)
    if over.query() < 1:
        print("not signaled within 10 s in round", round)
        break
else:
    print("done, 20 times")
"""

print("expected  done, 20 times, for each length")
for length in (16, 32, 33, 48, 64, 100, 200):
    print("seen     ", length, end=": ", flush=True)
    try:
        command = [sys.executable, "-c", WORK, sys.argv[1], str(length)]
        ended = subprocess.run(command, timeout=40, check=False, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        print("nothing for 40 s")
        continue
    print(*(ended.stdout + ended.stderr).split("\n"), sep="; ", end=" ")
    print(signal.Signals(-ended.returncode).name if ended.returncode < 0 else f"status {ended.returncode}")
