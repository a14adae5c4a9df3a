"""Brokers, transports and services for the tests."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging import opts as messaging_opts

TESTS = pathlib.Path(__file__).parent
PROGRAMS = pathlib.Path(os.environ.get("ZMQV2_PROGRAMS", TESTS.parent.parent / "target" / "debug"))
#: How long something may take that surely happens, in seconds.
PATIENCE = 30.0


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """Waits until the condition holds, and gives its value."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what or condition}"
        time.sleep(0.01)
    return value


class Broker:
    """A broker of this test."""

    def __init__(self, directory: str, *flags: str, port: int = 0) -> None:
        self.directory = directory
        self.port = port
        self.flags = flags
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        command = [PROGRAMS / "zmqv2-broker", "--ipc-dir", self.directory]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), *self.flags], stderr=subprocess.PIPE, text=True
        )
        errors = self.process.stderr
        assert errors is not None
        before = []
        for line in errors:
            before.append(line)
            if line.startswith("ready:"):
                break
        else:
            raise AssertionError(f"the broker does not start: {before}")
        #: What it says when it is ready.
        self.line = before[-1]
        threading.Thread(target=errors.read, daemon=True).start()

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture
def directory() -> Iterator[str]:
    """A socket directory. The path of a socket is short."""
    path = tempfile.mkdtemp(prefix="zmqv2-py-", dir="/tmp")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def broker(directory: str) -> Iterator[Broker]:
    started = Broker(directory)
    yield started
    started.stop()


def configured(directory: str, **values: Any) -> Any:
    """A configuration of its own. Values are of the group of the driver, or ``group.name``."""
    from oslo_messaging_zmqv2 import options

    conf = cfg.ConfigOpts()
    for group, opts in messaging_opts.list_opts():
        conf.register_opts(opts, group=group)
    for group in ("oslo_messaging_tracing", "oslo_messaging_metrics"):
        # Later releases of oslo.messaging ask for these, and declare them in `cfg.CONF` only.
        if group in cfg.CONF:
            for name in cfg.CONF[group]:
                conf.register_opt(cfg.CONF._get_opt_info(name, group)["opt"], group=group)
    options.register(conf)
    conf([], project="test", default_config_files=[])
    conf.set_override("rpc_zmq_ipc_dir", directory, group=options.GROUP)
    for name, value in values.items():
        group, _, option = name.rpartition("__")
        group = None if group == "DEFAULT" else group or options.GROUP
        conf.set_override(option, value, group=group)
    return conf


class Bench:
    """Makes transports, servers and clients, and ends them."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._ends: list[Callable[[], None]] = []

    def transport(self, url: str = "zmqv2://", exmods: Any = None, **values: Any) -> Any:
        transport = oslo_messaging.get_rpc_transport(
            configured(self.directory, **values), url, allowed_remote_exmods=exmods
        )
        self._ends.append(transport.cleanup)
        return transport

    def notification_transport(self, url: str = "zmqv2://", **values: Any) -> Any:
        transport = oslo_messaging.get_notification_transport(
            configured(self.directory, **values), url
        )
        self._ends.append(transport.cleanup)
        return transport

    def serve(self, endpoint: Any, transport: Any = None, **target: Any) -> Any:
        server = oslo_messaging.get_rpc_server(
            transport or self.transport(),
            oslo_messaging.Target(**{"topic": "topic", "server": "s1", **target}),
            [endpoint],
            executor="threading",
        )
        self.run(server)
        return server

    def run(self, server: Any) -> None:
        server.start()

        def end() -> None:
            server.stop()
            server.wait()

        self._ends.append(end)

    def client(self, transport: Any = None, timeout: float = 10, **options: Any) -> Any:
        target = {
            name: options.pop(name)
            for name in ("topic", "server", "fanout", "exchange", "namespace", "version")
            if name in options
        }
        return oslo_messaging.get_rpc_client(
            transport or self.transport(),
            oslo_messaging.Target(**{"topic": "topic", **target}),
            timeout=timeout,
            **options,
        )

    def listen(self, endpoint: Any, *topics: str, pool: str | None = None, **options: Any) -> Any:
        transport = self.notification_transport()
        make = oslo_messaging.get_notification_listener
        if "batch_size" in options:
            make = oslo_messaging.get_batch_notification_listener
        listener = make(
            transport,
            [oslo_messaging.Target(topic=topic) for topic in topics],
            [endpoint],
            executor="threading",
            pool=pool,
            **options,
        )
        self.run(listener)
        return listener

    def notifier(self, *topics: str, driver: str = "messagingv2", **options: Any) -> Any:
        return oslo_messaging.Notifier(
            self.notification_transport(),
            "publisher",
            driver=driver,
            topics=list(topics),
            **options,
        )

    def close(self) -> None:
        for end in reversed(self._ends):
            end()


@pytest.fixture
def bench(directory: str) -> Iterator[Bench]:
    made = Bench(directory)
    yield made
    made.close()


class Program:
    """A process that runs a function of ``programs.py``."""

    def __init__(self, name: str, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, TESTS / "programs.py", name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self.errors = ""
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout: float = PATIENCE) -> int:
        """Waits for the end, and gives the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(5)
        return code

    def kill(self) -> None:
        """Ends it and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(name: str, *arguments: str, **environment: str) -> Program:
        started.append(Program(name, *arguments, **environment))
        return started[-1]

    yield start
    for one in started:
        one.kill()
