"""The exceptions of the driver, and how the native part's failures become exceptions.

Services catch the exceptions of oslo.messaging, so every exception here is one of them, too. Each
of them says in `may_have_run` whether the method may have run. If it did not, it is safe to send
again.
"""

from typing import Any, cast

import oslo_messaging
from oslo_messaging import exceptions

from oslo_messaging_zmqv2 import _native


class Timeout(exceptions.MessagingTimeout):  # type: ignore[misc]
    """No reply came in time."""

    may_have_run = True


class Expired(Timeout):
    """The time ended before a server had taken the request. It did not run and never will."""

    may_have_run = False


class ServerLost(Timeout):
    """The server died while it had the request. The driver knows it at once."""


class ConnectionLost(ServerLost):
    """The connection broke while a server had the request."""


class DeliveryFailure(exceptions.MessageDeliveryFailure):  # type: ignore[misc]
    """The message was not delivered. The method did not run."""

    may_have_run = False


class Unreachable(DeliveryFailure, exceptions.MessagingTimeout):  # type: ignore[misc]
    """No broker that knows the target could be reached in time.

    It is a `MessagingTimeout`, too, because that is what services expect while the bus is away.
    """


class Busy(DeliveryFailure):
    """A bound of the broker or of this process is reached."""


class TooLarge(DeliveryFailure):
    """The message, or its reply, is larger than the option ``rpc_zmq_max_message_bytes`` allows.

    If `may_have_run` is true, the method ran and its reply was too large.
    """


class Unauthorized(DeliveryFailure):
    """This process may not send this."""


class Malformed(DeliveryFailure):
    """The message cannot be read at the other end, or cannot be written here."""


class NoServer(DeliveryFailure):
    """No server of the target is known."""


class NoMethod(DeliveryFailure):
    """The server has no such method. Casts only: a call gets the remote error."""


class DirectoryFailure(DeliveryFailure):
    """The directory could not say where the target is."""


class Closed(DeliveryFailure):
    """The transport was closed, or belongs to the parent of this process."""


class InvalidOptions(exceptions.MessagingException, ValueError):  # type: ignore[misc]
    """An option of the driver, or the transport URL, has a value that is not allowed."""

    may_have_run = False


_CLASSES: dict[str, type[Exception]] = {
    "timeout": Timeout,
    "expired": Expired,
    "server_lost": ServerLost,
    "connection_lost": ConnectionLost,
    "unacknowledged": Timeout,
    "unreachable": Unreachable,
    "busy": Busy,
    "full": Busy,
    "shutting_down": Unreachable,
    "too_large": TooLarge,
    "unauthorized": Unauthorized,
    "malformed": Malformed,
    "no_route": NoServer,
    "no_method": NoMethod,
    "directory": DirectoryFailure,
    "closed": Closed,
    "inherited": Closed,
    "invalid_name": Malformed,
}

#: What may succeed when it is sent again.
_PASSING = frozenset({"unreachable", "busy", "full", "shutting_down", "directory", "no_route"})


class Failure:
    """A failure of the native part: a word, whether the method may have run, and a sentence."""

    def __init__(self, kind: str, may_have_run: bool, text: str) -> None:
        self.kind = kind
        self.may_have_run = may_have_run
        self.text = text

    @classmethod
    def of(cls, failed: _native.Failed) -> "Failure":
        """The failure that the native part has raised."""
        kind, may_have_run, text = failed.args
        return cls(kind, may_have_run, text)

    @property
    def may_pass(self) -> bool:
        """Whether the same message can be sent again, and may then succeed."""
        return not self.may_have_run and self.kind in _PASSING

    def exception(self) -> Exception:
        """The exception for services."""
        error = _CLASSES.get(self.kind, DeliveryFailure)(self.text)
        cast(Any, error).may_have_run = self.may_have_run
        return error

    def undeliverable(self, exchange: str, topic: str, message: Any) -> Exception:
        """The exception of ``at_least_once``: nobody is there."""
        error = oslo_messaging.exceptions.MessageUndeliverable(
            self.exception(), exchange, topic, message
        )
        cast(Any, error).may_have_run = False
        return cast(Exception, error)


def may_have_run(error: BaseException) -> bool:
    """Whether the method of a call that raised ``error`` may have run.

    An exception that the method has raised, or that is not the driver's, counts as "may have run".
    """
    return bool(getattr(error, "may_have_run", True))
