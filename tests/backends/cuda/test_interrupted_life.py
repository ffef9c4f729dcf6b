"""Ctrl-C while a device is opened or closed: what began comes to its end, and the context goes last, and once."""

from __future__ import annotations

import threading

import pytest

from pytest_cuda2hal.backends.cuda.context import Context


@pytest.mark.parametrize("name", ["hal-lane-0", "hal-lane-2", "hal-service"])
def test_a_thread_that_began_although_its_start_was_interrupted_keeps_its_context(rig, monkeypatch, name):
    start, destroy, left = threading.Thread.start, Context.destroy, []
    destroyed, before = threading.Event(), set(threading.enumerate())

    def start_and_be_interrupted(self):
        start(self)
        if self.name == name:
            raise KeyboardInterrupt

    def look_and_destroy(self):
        others = set(threading.enumerate()) - before - {threading.current_thread()}
        left.append([one.name for one in others if one.name.startswith("hal-")])
        destroy(self)
        destroyed.set()

    monkeypatch.setattr(Context, "destroy", look_and_destroy)
    monkeypatch.setattr(threading.Thread, "start", start_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        rig(queues=1)
    assert destroyed.wait(5)
    assert left[0] == []


def test_a_close_that_was_interrupted_takes_nothing_from_another(rig, monkeypatch):
    device = rig()
    destroy, join, owned = Context.destroy, threading.Thread.join, []
    both, interrupted = threading.Barrier(2), threading.Event()
    joined: set[int] = set()

    def look_and_destroy(self):
        owned.append(device.engine._role._is_owned())
        destroy(self)

    def join_together(self, timeout=None):
        ident = threading.get_ident()
        if self.name.startswith("hal-") and ident not in joined:
            joined.add(ident)
            if both.wait(5) == 0:
                raise KeyboardInterrupt
            assert interrupted.wait(5)
        join(self, timeout)

    def close():
        try:
            device.device.close()
        except KeyboardInterrupt:
            interrupted.set()

    leave = Context.leave

    def leave_late(self, user):
        if isinstance(user, threading.Thread):
            interrupted.wait(5)
        leave(self, user)

    monkeypatch.setattr(Context, "destroy", look_and_destroy)
    monkeypatch.setattr(Context, "leave", leave_late)
    monkeypatch.setattr(threading.Thread, "join", join_together)
    closers = [device.task(close), device.task(close)]
    for closer in closers:
        closer.result()
    assert owned
    assert all(owned)


@pytest.mark.parametrize("place", ["before the end", "at the end"])
def test_a_close_that_was_interrupted_can_be_called_again(rig, monkeypatch, place):
    device = rig()
    exclusively, left = device.engine.exclusively, [1 if place == "before the end" else 2]

    def be_interrupted(function):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        exclusively(function)

    monkeypatch.setattr(device.engine, "exclusively", be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        device.device.close()
    device.device.close()
    assert device.context.is_destroyed
