"""The driver: oslo.messaging calls it for ``transport_url = zmqv2://``."""

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_messaging._drivers import base

from oslo_messaging_zmqv2 import _native, bodies, errors, options, outcomes, waiting
from oslo_messaging_zmqv2.errors import Failure
from oslo_messaging_zmqv2.listener import Listener
from oslo_messaging_zmqv2.names import encoded
from oslo_messaging_zmqv2.retries import Retries

LOG = logging.getLogger(__name__)

#: Seconds for which `listen` waits for the broker. The server goes on trying afterwards.
_READY = 1.0
#: Seconds for which messages without an outcome delay the end of a transport or a process.
_CLOSE = 1.0
#: Most destinations that are remembered.
_MOST_DESTINATIONS = 4096
#: The timeout of a call whose sender gives none, in seconds.
_CALL_TIMEOUT = 60.0
#: The threads of an executor, if the service has not declared that option.
_POOL_SIZE = 64

_PRIORITIES = frozenset({"audit", "debug", "info", "warn", "error", "critical", "sample"})


def _in_main_thread() -> bool:
    return threading.get_native_id() == os.getpid()


class ZmqDriver(base.BaseDriver):  # type: ignore[misc]
    """The driver of one transport."""

    def __init__(
        self,
        conf: Any,
        url: Any,
        default_exchange: str | None = None,
        allowed_remote_exmods: list[str] | None = None,
    ) -> None:
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        self._virtual_host = options.virtual_host(url)
        self._options = options.values(conf, url, default_exchange and encoded(default_exchange))
        try:
            _native.check_options(self._options)
        except ValueError as error:
            raise errors.InvalidOptions(str(error)) from error
        self._client: _native.Client | None = None
        self._client_lock = threading.Lock()
        self._closed = False
        self._destinations: dict[tuple[str, str, str | None], _native.Destination] = {}
        _drivers.add(self)

    def require_features(self, requeue: bool = False) -> None:
        """Everything is supported."""

    def counters(self) -> dict[str, int]:
        """Counts of the messages of this transport and of their outcomes, by name."""
        return self._native_client().counters() if self._client else {}

    # Connections

    def _native_client(self) -> _native.Client:
        """The native client. It is made when it is first used, often after a fork."""
        outcomes.start()
        client = self._client
        if client is None:
            if self._closed:
                raise _native.Failed("closed", False, "the transport was cleaned up")
            with self._client_lock:
                client = self._client
                if client is None:
                    client = self._client = _native.Client(self._options)
        return client

    def _patiently(self, make: Callable[[_native.Client], Any]) -> Any:
        """Makes something, as soon as the directory can be opened."""
        retries = Retries(None)
        while True:
            try:
                return make(self._native_client())
            except ValueError as error:
                raise oslo_messaging.InvalidTarget(str(error), None) from error
            except _native.Failed as failed:
                failure = Failure.of(failed)
                if not failure.may_pass:
                    raise failure.exception() from None
                LOG.error("Cannot begin to listen, trying again: %s", failure.text)
            retries.again()

    def _exchange(self, target: Any) -> str:
        exchange = target.exchange or self._default_exchange or "openstack"
        if self._virtual_host:
            # So a cell of nova, for example, has its own conductors.
            exchange = f"{self._virtual_host}.{exchange}"
        return encoded(exchange, "exchange")

    def _destination(self, target: Any) -> _native.Destination:
        server = None if target.fanout else target.server
        key = (target.exchange, target.topic, server)
        found = self._destinations.get(key)
        if found is None:
            found = self._native_client().destination(
                self._exchange(target),
                encoded(target.topic, "topic"),
                encoded(server, "server") if server else None,
            )
            if len(self._destinations) >= _MOST_DESTINATIONS:
                self._destinations.clear()
            self._destinations[key] = found
        return found

    # Sending

    def send(
        self,
        target: Any,
        ctxt: Any,
        message: Any,
        wait_for_reply: bool | None = None,
        timeout: float | None = None,
        call_monitor_timeout: float | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> Any:
        """Sends a call, a cast or a fanout."""
        body = bodies.request(ctxt, message)
        at_least_once = bool(getattr(transport_options, "at_least_once", False))
        if wait_for_reply:
            monitor = call_monitor_timeout or None
            return self._call(target, body, timeout, monitor, Retries(retry), at_least_once)
        if target.fanout:
            return self._fanout(target, body, Retries(retry))
        return self._cast(target, body, Retries(retry), at_least_once)

    def _call(
        self,
        target: Any,
        body: bytes,
        timeout: float | None,
        monitor: float | None,
        retries: Retries,
        at_least_once: bool,
    ) -> Any:
        end = time.monotonic() + (_CALL_TIMEOUT if timeout is None else timeout)
        # With a limit of retries, the caller wants to know soon that nobody can be reached.
        wait_for_ready = retries.unlimited and not at_least_once
        while True:
            left = max(end - time.monotonic(), 0.001)
            try:
                destination = self._destination(target)
                if waiting.is_green() or _in_main_thread():
                    pending = destination.call(body, left, monitor, wait_for_ready)
                    reply, is_failure = waiting.result(pending)
                else:
                    reply, is_failure = destination.call_and_wait(
                        body, left, monitor, wait_for_ready
                    )
            except _native.Failed as failed:
                failure = Failure.of(failed)
            else:
                return bodies.answer(reply, is_failure, self._allowed_remote_exmods)
            if failure.kind == "no_route":
                if at_least_once:
                    raise failure.undeliverable(target.exchange, target.topic, body)
                if not wait_for_ready:
                    wait_for_ready = True
                    continue
            if not failure.may_pass or not retries.again(end):
                raise failure.exception()

    def _cast(self, target: Any, body: bytes, retries: Retries, at_least_once: bool) -> None:
        # Otherwise nobody looks at the outcome, but for the counters, the log and `on_outcome`.
        wants_outcome = at_least_once or not retries.unlimited
        while True:
            try:
                pending = self._destination(target).cast(body, not wants_outcome, wants_outcome)
                ended = waiting.result(pending)
            except _native.Failed as failed:
                failure = Failure.of(failed)
            else:
                if not wants_outcome or ended[0][0] == "acked":
                    return
                failure = Failure(*ended[0])
            if failure.kind == "no_route":
                if at_least_once:
                    raise failure.undeliverable(target.exchange, target.topic, body)
                if wants_outcome:
                    # A broker is there, so it can wait for a server.
                    wants_outcome = False
                    continue
            if not failure.may_pass or not retries.again():
                raise failure.exception()

    def _fanout(self, target: Any, body: bytes, retries: Retries) -> None:
        while True:
            try:
                waiting.result(self._destination(target).fanout(body, False))
                return
            except _native.Failed as failed:
                failure = Failure.of(failed)
            if not failure.may_pass or not retries.again():
                raise failure.exception()

    def send_notification(
        self, target: Any, ctxt: Any, message: Any, version: float, retry: int | None = None
    ) -> None:
        """Sends a notification. Returns when a broker keeps it or listeners have it."""
        topic, _, priority = target.topic.rpartition(".")
        if not topic or priority not in _PRIORITIES:
            raise oslo_messaging.InvalidTarget(
                f"The topic of a notification ends in a dot and one of {sorted(_PRIORITIES)}",
                target,
            )
        body = bodies.request(ctxt, message, envelope=version >= 2.0)
        exchange, topic = self._exchange(target), encoded(topic, "topic")
        retries = Retries(retry)
        while True:
            try:
                ended = waiting.result(
                    self._native_client().notify(exchange, topic, priority, body)
                )
            except _native.Failed as failed:
                ended = [failed.args]
            failures = [Failure(*one) for one in ended if one[0] not in ("acked", "stored")]
            if not failures:
                return
            # The others have it, and must not get it twice.
            is_new = len(failures) == len(ended) and all(failure.may_pass for failure in failures)
            if not is_new or not retries.again():
                raise failures[0].exception()

    # Listening

    def _places(self, batch_size: int) -> int:
        pool_size = getattr(self.conf, "executor_thread_pool_size", _POOL_SIZE)
        return int(min(max(pool_size, 2 * batch_size, 1), _native.MAX_PLACES))

    def _started(self, native: _native.Listener, what: str) -> _native.Listener:
        failure = waiting.settle(native.wait_ready(_READY))
        if failure is not None:
            LOG.warning("%s waits for its broker: %s", what, failure.text)
        return native

    def listen(self, target: Any, batch_size: int, batch_timeout: float | None) -> Any:
        """A server of the target."""
        names = (
            self._exchange(target),
            encoded(target.topic, "topic"),
            encoded(target.server, "server"),
        )
        places = self._places(batch_size)
        native = self._patiently(lambda client: _native.Listener.serve(client, *names, places))
        listener = Listener.rpc(self._started(native, f"The server of {target}"))
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def listen_for_notifications(
        self,
        targets_and_priorities: Any,
        pool: str | None,
        batch_size: int,
        batch_timeout: float | None,
    ) -> Any:
        """A listener of the topics, in the pool."""
        topics = [
            (self._exchange(target), encoded(target.topic, "topic"), priority)
            for target, priority in targets_and_priorities
        ]
        places, named = self._places(batch_size), encoded(pool, "pool") if pool else None
        native = self._patiently(
            lambda client: _native.Listener.notifications(client, topics, named, places)
        )
        listener = Listener.notifications(self._started(native, "A listener of notifications"))
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def cleanup(self) -> None:
        """Closes the connections. Waits a moment for the outcomes of what was sent."""
        client, self._client, self._closed = self._client, None, True
        self._destinations.clear()
        if client is not None:
            waiting.settle(client.close(_CLOSE))


_drivers: weakref.WeakSet[ZmqDriver] = weakref.WeakSet()


def _after_fork() -> None:
    for driver in list(_drivers):
        # A thread of the parent may have had it.
        driver._client_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _at_exit() -> None:
    # Casts leave the process in the background.
    closing = [driver._client.close(_CLOSE) for driver in list(_drivers) if driver._client]
    for pending in closing:
        pending.wait(2 * _CLOSE)
    _native.at_exit()
