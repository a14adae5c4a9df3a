"""Waiting for the native part: in a thread, or in a green thread of eventlet.

A green thread must not block, because all others of its thread would wait with it. So it waits for
a descriptor, through the hub.
"""

import contextlib
import os
import select
import sys
import time
from typing import Any

from oslo_messaging_zmqv2 import _native
from oslo_messaging_zmqv2.errors import Failure

#: Signals that no green thread uses now.
_signals: list[_native.Signal] = []
#: Most of them that are kept.
_MOST_SIGNALS = 256


def _after_fork() -> None:
    # The descriptors belong to the parent.
    _signals.clear()
    _native.after_fork()


os.register_at_fork(after_in_child=_after_fork)


def is_green() -> bool:
    """Whether eventlet has replaced the threads of this process."""
    # Asking eventlet would import it, and nobody can use it who has not.
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread"))


def _wait_green(pending: _native.Pending) -> None:
    from eventlet import hubs

    signal = _signals.pop() if _signals else _native.Signal()
    while not pending.watch(signal):
        # If this raises, the native part may still use the signal, so nobody else must get it.
        hubs.trampoline(signal.fileno(), read=True)
        signal.clear()
    # The native part does not touch it any more: the message has ended.
    signal.clear()
    if len(_signals) < _MOST_SIGNALS:
        _signals.append(signal)


def result(pending: _native.Pending) -> Any:
    """Waits for the end of a message and gives its result. Raises `_native.Failed`."""
    if is_green():
        _wait_green(pending)
    else:
        pending.wait()
    return pending.result()


def readable(fds: list[int], timeout: float | None) -> None:
    """Waits until one of the descriptors is readable, at most `timeout` seconds."""
    if not is_green():
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        poll.poll(None if timeout is None else max(0, timeout) * 1000)
        return
    from eventlet import hubs
    from eventlet.timeout import Timeout

    if len(fds) > 1:
        _readable_green_many(fds, timeout)
        return
    with contextlib.suppress(Timeout):
        hubs.trampoline(fds[0], read=True, timeout=timeout)


def _readable_green_many(fds: list[int], timeout: float | None) -> None:
    # Rare: a listener of more than 256 topics.
    end = None if timeout is None else time.monotonic() + timeout
    from eventlet import sleep
    from eventlet.patcher import original

    poll = original("select").poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    while not poll.poll(0) and (end is None or time.monotonic() < end):
        sleep(0.01)


def settle(pending: _native.Pending) -> Failure | None:
    """Waits for the end. Returns why it failed, if it did."""
    try:
        result(pending)
    except _native.Failed as failed:
        return Failure.of(failed)
    return None
