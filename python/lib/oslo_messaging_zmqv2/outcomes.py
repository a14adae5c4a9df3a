"""The outcomes of messages that nobody waits for, and the log of the native part.

A cast returns before a server has it. How it ended is in the counters of the driver
(`ZmqDriver.counters`), in the log if it failed, and given to every function that was registered
with `on_outcome`.
"""

import dataclasses
import logging
import os
import threading
from collections.abc import Callable

from oslo_messaging_zmqv2 import _native, waiting

LOG = logging.getLogger(__name__)
_NATIVE_LOG = "oslo_messaging_zmqv2.native"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a cast ended, or one copy of a fanout or a notification."""

    #: Exchange, topic and perhaps the server, as text.
    target: str
    #: A word: ``acked``, ``stored``, ``no_route``, ``busy``, ``expired``, ``server_lost``,
    #: ``too_large``, ``unauthorized``, ``malformed``, ``shutting_down``, ``no_method``,
    #: ``directory``, ``unreachable`` or ``unacknowledged``.
    kind: str
    #: Whether the method may have run.
    may_have_run: bool
    #: What happened, for people.
    text: str

    @property
    def succeeded(self) -> bool:
        """Whether a server has it, or a broker keeps it."""
        return self.kind in ("acked", "stored")


Callback = Callable[[Outcome], None]
_callbacks: list[tuple[Callback, bool]] = []
_lock = threading.Lock()


def on_outcome(callback: Callback, failures_only: bool = True) -> Callable[[], None]:
    """Calls `callback` with the outcome of every cast, copy of a fanout, and notification.

    It runs in a thread of the driver. An exception that it raises is logged. With `failures_only`,
    it does not see those that have succeeded, which costs less. Returns a function that ends it.
    """
    entry = (callback, failures_only)
    with _lock:
        _callbacks.append(entry)
        _tell_native()

    def end() -> None:
        with _lock:
            if entry in _callbacks:
                _callbacks.remove(entry)
            _tell_native()

    start()
    return end


def _tell_native() -> None:
    _native.want_outcomes(bool(_callbacks), any(not failures for _, failures in _callbacks))


def _deliver(outcome: Outcome) -> None:
    for callback, failures_only in list(_callbacks):
        if failures_only and outcome.succeeded:
            continue
        try:
            callback(outcome)
        except Exception:
            LOG.exception("A function that was registered with on_outcome has failed")


def _pump() -> None:
    while True:
        waiting.readable([_native.events_fileno()], None)
        events, lost = _native.take_events()
        for event in events:
            if event[0] == "log":
                _, level, name, text = event
                logging.getLogger(f"{_NATIVE_LOG}.{name}").log(level, "%s", text)
            else:
                _deliver(Outcome(*event[1:]))
        if lost:
            LOG.warning("%d lines of the log, or outcomes, were left out: too many at once", lost)


_started_in = 0


def start() -> None:
    """Starts the thread that gives the log and the outcomes to Python, once in each process."""
    global _started_in
    if _started_in == os.getpid():
        return
    with _lock:
        if _started_in == os.getpid():
            return
        _started_in = os.getpid()
    _native.set_log_level(max(1, logging.getLogger(_NATIVE_LOG).getEffectiveLevel()))
    threading.Thread(target=_pump, name="zmqv2-events", daemon=True).start()


def _after_fork() -> None:
    global _lock
    # A thread of the parent may have had it.
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
