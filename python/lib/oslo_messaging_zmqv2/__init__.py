"""The driver zmqv2 for oslo.messaging.

A service needs no import of this package: ``transport_url = zmqv2://`` is enough. What is here is
for services that want to know more than oslo.messaging tells: the outcomes of casts (`outcomes`),
and the exceptions of calls (`errors`).
"""

from oslo_messaging_zmqv2.errors import (
    ConnectionLost,
    Expired,
    ServerLost,
    Unreachable,
    may_have_run,
)
from oslo_messaging_zmqv2.outcomes import Outcome, on_outcome

__all__ = [
    "ConnectionLost",
    "Expired",
    "Outcome",
    "ServerLost",
    "Unreachable",
    "may_have_run",
    "on_outcome",
]
