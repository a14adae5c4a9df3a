"""Servers and listeners of notifications, as oslo.messaging polls them."""

import collections
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_messaging._drivers import base

from oslo_messaging_zmqv2 import _native, bodies, waiting

LOG = logging.getLogger(__name__)

#: Most requests that are taken from the native part at once, if nobody wants batches.
_AT_ONCE = 16
#: How long an error of a poll delays the next poll, in seconds.
_AFTER_ERROR = 0.5


class RpcMessage(base.RpcIncomingMessage):  # type: ignore[misc]
    """A call or a cast."""

    def __init__(self, native: _native.Request) -> None:
        ctxt, message = bodies.unpacked(native.body())
        super().__init__(ctxt, message)
        self.msg_id = native.id
        self._native = native

    def acknowledge(self) -> None:
        """Tells the sender of a cast that it runs here."""
        self._native.acknowledge()

    def requeue(self) -> None:
        """Gives it back to the broker, which gives it to a server of the target again."""
        self._native.requeue()

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        """Answers a call. Ends a cast."""
        if not self._native.is_call:
            self._native.reply(b"", failure is not None)
            return
        try:
            body = bodies.failure(failure) if failure else bodies.result(reply)
        except Exception:
            LOG.exception("The reply of %s cannot be written", self.message.get("method"))
            failure = sys.exc_info()
            body = bodies.failure((failure[0], type(failure[1])(str(failure[1])), None))
        self._native.reply(body, bool(failure))

    def heartbeat(self) -> None:
        """Does nothing: the broker knows whether this process lives."""


class NotificationMessage(base.IncomingMessage):  # type: ignore[misc]
    """A notification."""

    def __init__(self, native: _native.Notification) -> None:
        ctxt, message = bodies.unpacked(native.body())
        super().__init__(ctxt, message)
        self.msg_id = native.id
        self._native = native

    def acknowledge(self) -> None:
        """It was handled."""
        self._native.acknowledge()

    def requeue(self) -> None:
        """It comes again, as often as ``rpc_zmq_max_deliveries`` allows."""
        self._native.requeue()


def _rpc_message(native: _native.Request) -> RpcMessage | None:
    try:
        return RpcMessage(native)
    except Exception as error:
        LOG.warning("The body of a request cannot be read: %s", error)
        native.refuse_malformed(f"the body cannot be read: {error}")
        return None


def _notification_message(native: _native.Notification) -> NotificationMessage | None:
    try:
        return NotificationMessage(native)
    except Exception as error:
        LOG.warning("The body of a notification cannot be read, so it is dropped: %s", error)
        native.acknowledge()
        return None


class Listener(base.PollStyleListener):  # type: ignore[misc]
    """Polls the native part."""

    def __init__(
        self, native: _native.Listener, message: Callable[[Any], base.IncomingMessage | None]
    ) -> None:
        super().__init__()
        self._native = native
        self._message = message
        self._taken: collections.deque[base.IncomingMessage] = collections.deque()
        self._stopped = False

    @classmethod
    def rpc(cls, native: _native.Listener) -> "Listener":
        """A listener of calls and casts."""
        return cls(native, _rpc_message)

    @classmethod
    def notifications(cls, native: _native.Listener) -> "Listener":
        """A listener of notifications."""
        return cls(native, _notification_message)

    def poll(
        self,
        timeout: float | None = None,
        batch_size: int = 1,
        batch_timeout: float | None = None,
    ) -> list[base.IncomingMessage]:
        """Takes messages, as the base class says."""
        try:
            return self._poll(timeout, batch_size, batch_timeout)
        except Exception:
            # The caller polls again at once, whatever this raises.
            LOG.exception("Polling for messages failed")
            time.sleep(_AFTER_ERROR)
            return []

    def _poll(
        self, timeout: float | None, batch_size: int, batch_timeout: float | None
    ) -> list[base.IncomingMessage]:
        messages: list[base.IncomingMessage] = []
        end = None if timeout is None else time.monotonic() + timeout
        while len(messages) < batch_size:
            if self._taken:
                messages.append(self._taken.popleft())
                if len(messages) == 1:
                    end = None if batch_timeout is None else time.monotonic() + batch_timeout
                continue
            left = None if end is None else end - time.monotonic()
            came = self._take(max(_AT_ONCE, batch_size - len(messages)), left)
            if not came and (self._stopped or (left is not None and left <= 0)):
                break
        return messages

    def _take(self, most: int, timeout: float | None) -> bool:
        if timeout is not None and timeout <= 0:
            timeout = 0
        if waiting.is_green() or threading.current_thread() is threading.main_thread():
            # Both must see other things while they wait: other green threads, or signals.
            if timeout != 0:
                waiting.readable(self._native.filenos(), timeout)
            timeout = 0
        polled = self._native.poll(most, timeout)
        for native in polled:
            message = self._message(native)
            if message is not None:
                self._taken.append(message)
        return bool(polled)

    def stop(self) -> None:
        """Ends the polls. Nothing new comes."""
        self._stopped = True
        self._native.drain()

    def cleanup(self) -> None:
        """Waits for the answers of the requests that are open, and unregisters."""
        self._stopped = True
        failure = waiting.settle(self._native.stop())
        if failure is not None:
            LOG.warning("A server stopped early: %s", failure.text)
