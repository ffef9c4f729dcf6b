"""Q-16: two values of one timeline in one signal list. IREE's other drivers accept it, and the semaphore then fails."""

import sys

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()
line, other = device.create_semaphore(0), device.create_semaphore(0)
commands = rt.HalCommandBuffer(device)
commands.end()
print("expected  the submission is accepted, and the other semaphore reaches 1")
try:
    device.queue_execute(commands, [], [(line, 2), (line, 1), (other, 1)])
    print("seen      accepted;", end=" ")
except ValueError as error:
    print("seen      refused:", error, end="; ")
try:
    print("other:", other.query())
except ValueError as error:
    print("other:", error)
