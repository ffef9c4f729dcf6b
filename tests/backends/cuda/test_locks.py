"""The order in which locks may be taken, and that it is checked where that was asked for."""

from __future__ import annotations

import itertools
import threading

import pytest

from pytest_cuda2hal.backends.cuda.locks import LockOrderError, OrderedLock, Rank, make_lock


def locks(*ranks):
    """Make checked locks."""
    return [make_lock(rank, check=True) for rank in ranks]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(Rank, 2)), ids=lambda rank: rank.name)
def test_locks_are_taken_in_the_order_of_their_ranks(first, second):
    one, other = locks(first, second)
    with one, other:
        pass
    with other, pytest.raises(LockOrderError, match=rf"a {first.name} lock .* holding \['{second.name}'\]"):
        one.acquire()


@pytest.mark.parametrize("rank", list(Rank), ids=lambda rank: rank.name)
def test_two_locks_of_one_rank_are_never_held_together(rank):
    one, other = locks(rank, rank)
    with one, pytest.raises(LockOrderError):
        other.acquire()


def test_a_refused_lock_is_left_free():
    one, other = locks(Rank.POOL, Rank.ROLE)
    with one, pytest.raises(LockOrderError):
        other.acquire()
    with other, one:
        pass


def test_a_lock_that_is_only_tried_may_be_out_of_order():
    one, other = locks(Rank.POOL, Rank.ROLE)
    with one:
        assert other.acquire(False)
        other.release()


def test_a_lock_that_was_not_got_does_not_count_as_held():
    one, other = locks(Rank.POOL, Rank.ROLE)
    thread = threading.Thread(target=one.acquire)
    thread.start()
    thread.join(5)
    assert not one.acquire(False)
    assert not one.acquire(True, 0.001)
    with other:
        pass


def test_the_order_is_each_threads_own():
    one, other = locks(Rank.POOL, Rank.ROLE)
    with one:
        thread = threading.Thread(target=lambda: (other.acquire(), other.release()))
        thread.start()
        thread.join(5)
        assert not thread.is_alive()


def test_plain_locks_where_nobody_checks():
    assert isinstance(make_lock(Rank.ROLE, check=True), OrderedLock)
    assert type(make_lock(Rank.ROLE, check=False)) is type(threading.Lock())


def test_a_device_that_checks_locks_checks_all_of_them(rig):
    device = rig()
    found = [
        device.engine._role,
        device.context._side_lock,
        device.semaphore()._lock,
        device.engine.events._lock,
        device.engine._count_lock,
    ]
    assert all(isinstance(lock, OrderedLock) for lock in found)
