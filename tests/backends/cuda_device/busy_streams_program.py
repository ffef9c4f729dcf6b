"""One queue is held and all the others have work at once: run with a kind of driver and of completion.

Prints which of the others did not get done while the one was held, as JSON.
"""

from __future__ import annotations

import json
import sys

from pytest_cuda2hal.backends.cuda import open_cuda, open_simulated
from pytest_cuda2hal.hal import Fill, HalError, Hold, StatusCode

QUEUES = 10
#: Seconds that something may take which should happen.
SOON = 10.0


def main(kind: str, completion: str) -> None:
    opener = open_cuda if kind == "real" else open_simulated
    device = opener(queues=QUEUES, completion=completion)
    buffers = [device.allocate_buffer(64) for _ in range(QUEUES)]
    held, released = device.create_latch(), device.create_latch()
    end, begin = device.create_semaphore(0), device.create_semaphore(0)
    done = [device.create_semaphore(0) for _ in range(QUEUES)]
    device.queue_execute([Hold(held), Fill(buffers[0], 7)], signal=[end @ 1], queue=0)
    device.queue_execute([Hold(released), Fill(buffers[1], 7)], signal=[begin @ 1], queue=1)
    for queue in range(2, QUEUES):
        device.queue_execute([Fill(buffers[queue], 7)], wait=[begin @ 1], signal=[done[queue] @ 1], queue=queue)
    released.open()
    stuck: list[int] = []
    for queue in range(2, QUEUES):
        try:
            done[queue].wait(1, SOON if not stuck else 0.1)
        except HalError as error:
            if error.code is not StatusCode.DEADLINE_EXCEEDED:
                raise
            stuck.append(queue)
    still_held = end.query() == 0
    held.open()
    end.wait(1, SOON)
    device.close()
    print(json.dumps({"stuck": stuck, "still_held": still_held}))


if __name__ == "__main__":
    main(*sys.argv[1:])
