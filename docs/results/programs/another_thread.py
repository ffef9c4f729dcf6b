"""Q-19: a thread that never touched the device before allocates a buffer."""

import sys
import threading

import iree.runtime as rt

device = rt.get_driver(sys.argv[1]).create_default_device()
kind, usage = rt.MemoryType, rt.BufferUsage


def allocate() -> None:
    try:
        device.allocator.allocate_buffer(
            int(kind.DEVICE_LOCAL) | int(kind.HOST_VISIBLE), int(usage.DEFAULT) | int(usage.MAPPING), 4096
        )
        print("seen      a buffer")
    except RuntimeError as error:
        print(f"seen      {error}")


print("expected  a buffer, from any thread", flush=True)
allocate()
thread = threading.Thread(target=allocate)
thread.start()
thread.join()
