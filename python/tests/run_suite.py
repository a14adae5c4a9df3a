"""Runs the functional suite of oslo.messaging, from the package that is installed, over zmqv2.

    python run_suite.py MODE DIRECTORY [TEST ...]

MODE is ``eventlet`` (as the suite is shipped) or ``threads``. A broker listens in DIRECTORY.
Nothing of the suite is changed. From outside, this program

- names the socket directory of the broker,
- lets in the two tests that ask for ``rabbit://`` in the URL, because zmqv2 has what they test,
- with ``threads``, leaves out eventlet, which the suite asks for. The tests of casts then have one
  thread for each server. They take for granted that the methods of a server do not overlap, which
  is so with green threads, because none of the methods waits.
"""

import functools
import os
import sys

CORE = "oslo_messaging.tests.functional.test_functional"
LOGGER = "oslo_messaging.tests.functional.notify.test_logger"
#: Tests that are for RabbitMQ only by their first line.
GATED = ("test_mandatory_call", "test_monitor_long_call")


class LetIn(str):
    """A URL that a test takes for one of RabbitMQ."""

    def startswith(self, prefix: object, *bounds: int) -> bool:  # type: ignore[override]
        return prefix == "rabbit://" or str.startswith(self, prefix, *bounds)  # type: ignore[arg-type]


def use_threads() -> None:
    import eventlet

    eventlet.monkey_patch = lambda *_, **__: None
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)
    from oslo_messaging import server

    start = server.MessageHandlingServer.__init__

    def start_with_threads(self, transport, dispatcher, executor=None):  # type: ignore[no-untyped-def]
        start(self, transport, dispatcher, "threading")

    server.MessageHandlingServer.__init__ = start_with_threads


def main() -> None:
    mode, directory, *tests = sys.argv[1:]
    if mode == "threads":
        use_threads()
    elif mode != "eventlet":
        sys.exit(f"the mode is eventlet or threads, not {mode}")
    os.environ["RPC_TRANSPORT_URL"] = os.environ["NOTIFY_TRANSPORT_URL"] = "zmqv2://"

    from oslo_messaging import server
    from oslo_messaging.tests.functional import utils
    from oslo_messaging_zmqv2 import options
    from testtools import run

    for option in options.options()[options.GROUP]:
        if option.name == "rpc_zmq_ipc_dir":
            option.default = directory
    set_up = utils.SkipIfNoTransportURL.setUp

    def let_in(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        set_up(self, *args, **kwargs)
        if self.id().rsplit(".", 1)[-1] in GATED:
            self.rpc_url = LetIn(self.rpc_url)
        if mode == "threads" and "CastTestCase" in self.id():
            start = server.MessageHandlingServer.start
            self.addCleanup(setattr, server.MessageHandlingServer, "start", start)
            # The driver is not told this size, so the broker still gives the casts out in turn.
            # oslo.messaging looks for the marks that `wraps` copies.
            one = functools.wraps(start)(lambda self: start(self, override_pool_size=1))
            server.MessageHandlingServer.start = one

    utils.SkipIfNoTransportURL.setUp = let_in
    run.main(["run_suite.py", *(tests or [CORE, LOGGER])], sys.stdout)


if __name__ == "__main__":
    main()
