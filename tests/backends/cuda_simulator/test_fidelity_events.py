"""What the driver does: streams, events, and words that streams wait for."""

from __future__ import annotations


def test_an_event_that_was_never_recorded_is_done(cuda):
    event = cuda.event()
    assert cuda.is_done(event)
    cuda.task(lambda: cuda.cuEventSynchronize(event)).result()


def test_waiting_for_an_event_that_was_never_recorded_waits_for_nothing(cuda):
    stream = cuda.stream()
    cuda.cuStreamWaitEvent(stream, cuda.event(), 0)
    assert cuda.gets_done(cuda.recorded(stream))


def test_a_record_is_done_when_what_came_before_is(cuda):
    stream = cuda.stream()
    hold = cuda.hold(stream)
    event = cuda.recorded(stream)
    assert cuda.stays_pending(event)
    hold.open()
    assert cuda.gets_done(event)


def test_synchronizing_returns_when_the_record_is_done(cuda):
    stream = cuda.stream()
    hold = cuda.hold(stream)
    event = cuda.recorded(stream)
    waiter = cuda.task(lambda: cuda.cuEventSynchronize(event))
    assert waiter.stays_blocked()
    hold.open()
    waiter.result()


def test_a_query_means_the_newest_record(cuda):
    held, free = cuda.stream(), cuda.stream()
    cuda.hold(held)
    event = cuda.recorded(free)
    assert cuda.gets_done(event)
    cuda.cuEventRecord(event, held)
    assert cuda.stays_pending(event)
    cuda.cuEventRecord(event, free)
    assert cuda.gets_done(event)


def test_a_wait_keeps_the_record_that_was_the_newest_at_its_call(cuda):
    held, free, waiting = cuda.stream(), cuda.stream(), cuda.stream()
    cuda.hold(held)
    event = cuda.recorded(free)
    cuda.cuStreamWaitEvent(waiting, event, 0)
    cuda.cuEventRecord(event, held)
    assert cuda.gets_done(cuda.recorded(waiting))


def test_a_later_record_does_not_release_an_earlier_wait(cuda):
    held, free, waiting = cuda.stream(), cuda.stream(), cuda.stream()
    hold = cuda.hold(held)
    event = cuda.recorded(held)
    cuda.cuStreamWaitEvent(waiting, event, 0)
    cuda.cuEventRecord(event, free)
    assert cuda.gets_done(event)
    last = cuda.recorded(waiting)
    assert cuda.stays_pending(last)
    hold.open()
    assert cuda.gets_done(last)


def test_a_wait_orders_streams(cuda):
    first, second = cuda.stream(), cuda.stream()
    source, target = cuda.memory(), cuda.memory()
    hold = cuda.hold(first)
    cuda.fill(source, 7, first)
    cuda.cuStreamWaitEvent(second, cuda.recorded(first), 0)
    cuda.cuMemcpyDtoDAsync(target, source, 64, second)
    hold.open()
    cuda.synchronize(second)
    assert cuda.read(target) == b"\x07" * 64


def test_the_flag_of_captures_is_refused_outside_of_one(cuda):
    waiting, event = cuda.stream(), cuda.recorded(cuda.stream())
    for flags, name in ((1, "CUDA_ERROR_ILLEGAL_STATE"), (2, "CUDA_ERROR_INVALID_VALUE")):
        (result,) = cuda.driver.cuStreamWaitEvent(waiting, event, flags)
        assert result.name == name


def test_a_wait_reaches_through_a_third_stream(cuda):
    streams = [cuda.stream() for _ in range(3)]
    hold = cuda.hold(streams[0])
    for before, after in ((0, 1), (1, 2)):
        cuda.cuStreamWaitEvent(streams[after], cuda.recorded(streams[before]), 0)
    last = cuda.recorded(streams[2])
    assert cuda.stays_pending(last)
    hold.open()
    assert cuda.gets_done(last)


def test_streams_do_not_wait_for_each_other_without_an_event(cuda):
    held, free = cuda.stream(), cuda.stream()
    cuda.hold(held)
    assert cuda.gets_done(cuda.recorded(free))


def test_a_stream_keeps_its_order(cuda):
    stream = cuda.stream()
    memory, copy = cuda.memory(), cuda.memory()
    for value in range(1, 51):
        cuda.fill(memory, value, stream)
        cuda.cuMemcpyDtoDAsync(copy + value * 8, memory, 8, stream)
    cuda.synchronize(stream)
    assert cuda.read(copy, 408) == bytes(value for value in range(51) for _ in range(8))


def test_destroying_an_event_affects_nothing_that_was_enqueued_with_it(cuda):
    first, second = cuda.stream(), cuda.stream()
    source, target = cuda.memory(), cuda.memory()
    hold = cuda.hold(first)
    cuda.fill(source, 9, first)
    event = cuda.cuEventCreate(2)
    cuda.cuEventRecord(event, first)
    cuda.cuStreamWaitEvent(second, event, 0)
    cuda.cuMemcpyDtoDAsync(target, source, 64, second)
    cuda.cuEventDestroy(event)
    last = cuda.recorded(second)
    assert cuda.stays_pending(last)
    hold.open()
    assert cuda.gets_done(last)
    assert cuda.read(target) == b"\x09" * 64


def test_destroying_a_stream_leaves_its_work_to_finish(cuda):
    stream = cuda.cuStreamCreate(1)
    memory = cuda.memory()
    hold = cuda.hold(stream)
    cuda.fill(memory, 5, stream)
    event = cuda.recorded(stream)
    cuda.cuStreamDestroy(stream)
    hold.open()
    assert cuda.gets_done(event)
    assert cuda.read(memory) == b"\x05" * 64


def test_synchronizing_the_context_waits_for_destroyed_streams_too(cuda):
    stream = cuda.cuStreamCreate(1)
    hold = cuda.hold(stream)
    cuda.cuStreamDestroy(stream)
    waiter = cuda.task(cuda.cuCtxSynchronize)
    blocked = waiter.stays_blocked()
    hold.open()
    waiter.result()
    assert blocked


def test_a_stream_is_ready_when_its_work_is(cuda):
    stream = cuda.stream()
    assert cuda.error(cuda.driver.cuStreamQuery(stream)) == "CUDA_SUCCESS"
    hold = cuda.hold(stream)
    assert cuda.error(cuda.driver.cuStreamQuery(stream)) == "NOT_READY"
    waiter = cuda.task(lambda: cuda.cuStreamSynchronize(stream))
    assert waiter.stays_blocked()
    hold.open()
    waiter.result()
    assert cuda.error(cuda.driver.cuStreamQuery(stream)) == "CUDA_SUCCESS"


def test_synchronizing_the_context_waits_for_every_stream(cuda):
    first, second = cuda.stream(), cuda.stream()
    hold = cuda.hold(first, second)
    waiter = cuda.task(cuda.cuCtxSynchronize)
    assert waiter.stays_blocked()
    hold.open()
    waiter.result()


# --- words


def test_at_least_passes_on_what_is_greater_and_is_cyclic(cuda):
    geq = cuda.driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_GEQ
    stream, hold = cuda.stream(), cuda.hold()
    hold.word.value = 5
    cuda.cuStreamWaitValue32(stream, hold.pointer, 4, geq)
    cuda.cuStreamWaitValue32(stream, hold.pointer, 0xFFFF_FFF0, geq)
    assert cuda.gets_done(cuda.recorded(stream))


def test_equal_passes_on_nothing_else(cuda):
    equal = cuda.driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_EQ
    stream, hold = cuda.stream(), cuda.hold()
    cuda.cuStreamWaitValue32(stream, hold.pointer, 1, equal)
    event = cuda.recorded(stream)
    hold.word.value = 2
    assert cuda.stays_pending(event)
    hold.open()
    assert cuda.gets_done(event)


def test_one_stream_writes_the_word_that_another_waits_for(cuda):
    waiting, writing = cuda.stream(), cuda.stream()
    hold = cuda.hold(waiting)
    event = cuda.recorded(waiting)
    assert cuda.stays_pending(event)
    cuda.cuStreamWriteValue32(writing, hold.pointer, 1, 0)
    assert cuda.gets_done(event)
    assert hold.word.value == 1
