"""Python and Rust at the two ends, in both directions."""

import json
import queue
import subprocess

import oslo_messaging
import pytest
from conftest import PROGRAMS, eventually
from programs import Endpoint


class Rust:
    """The tool of the Rust workspace."""

    def __init__(self, directory):
        self.directory = directory
        self.running = []

    def run(self, *arguments):
        command = [PROGRAMS / "zmqv2", *arguments, "--ipc-dir", self.directory]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def start(self, *arguments):
        command = [PROGRAMS / "zmqv2", *arguments, "--ipc-dir", self.directory]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.running.append(process)
        return process


@pytest.fixture
def rust(broker):
    tool = Rust(broker.directory)
    yield tool
    for process in tool.running:
        process.kill()
        process.wait()


class Versioned(Endpoint):
    target = oslo_messaging.Target(namespace="n", version="1.3")


def test_a_rust_client_calls_a_python_service(rust, bench):
    endpoint = Endpoint()
    bench.serve(endpoint)
    called = rust.run("call", "topic", "echo", '{"text": {"é": [1, null]}}')
    assert (called.returncode, json.loads(called.stdout)) == (0, {"é": [1, None]}), called
    failed = rust.run("call", "topic", "fail", '{"text": "too small"}')
    assert failed.returncode == 3 and "ValueError" in failed.stderr, failed
    unknown = rust.run("call", "topic", "nothing")
    assert unknown.returncode == 3 and "NoSuchMethod" in unknown.stderr, unknown
    assert rust.run("cast", "topic", "note", '{"text": 1}').returncode == 0
    assert rust.run("fanout", "topic", "note", '{"text": 2}').returncode == 0
    eventually(lambda: sorted(endpoint.ran) == [1, 2])


def test_versions_and_namespaces_are_those_of_both_languages(rust, bench):
    bench.serve(Versioned())
    of = ("call", "topic", "echo", '{"text": 1}', "--namespace", "n")
    assert rust.run(*of, "--version", "1.2").returncode == 0
    refused = rust.run(*of, "--version", "1.4")
    assert refused.returncode == 3 and "UnsupportedVersion" in refused.stderr, refused


def test_a_python_client_calls_a_rust_service(rust, bench):
    rust.start("serve", "topic", "--server", "s1", "--version", "1.3")
    client = bench.client(timeout=20)
    assert client.call({"user": "ann"}, "echo", text=[1, "é"]) is not None
    with pytest.raises(oslo_messaging.RemoteError) as raised:
        client.call({}, "fail")
    assert raised.value.exc_type
    with pytest.raises(oslo_messaging.RemoteError, match="NoSuchMethod"):
        client.call({}, "nothing")
    with pytest.raises(oslo_messaging.RemoteError, match="UnsupportedVersion"):
        bench.client(version="1.9").call({}, "echo")
    client.cast({}, "echo")
    client.prepare(fanout=True).cast({}, "echo")


def test_a_rust_service_sees_the_context_of_python(rust, bench):
    rust.start("serve", "topic", "--server", "s1", "--exec", "cat")
    seen = bench.client(timeout=20).call({"user": "ann"}, "boot", cores=2)
    assert (seen["method"], seen["args"], seen["context"]) == (
        "boot",
        {"cores": 2},
        {"user": "ann"},
    )


def test_notifications_in_both_directions(rust, bench):
    events = queue.Queue()

    class Collector:
        def info(self, ctxt, publisher, event_type, payload, metadata):
            events.put((publisher, event_type, payload))

    bench.listen(Collector(), "from-rust")
    told = rust.run("notify", "from-rust", "made", '{"id": 7}', "--publisher", "rust")
    assert told.returncode == 0, told
    assert events.get(timeout=20) == ("rust", "made", {"id": 7})

    listening = rust.start("listen", "from-python", "--count", "2")
    for driver in ("messaging", "messagingv2"):
        bench.notifier("from-python", driver=driver).info({}, "made", {"id": 8})
    lines = [json.loads(listening.stdout.readline()) for _ in range(2)]
    assert [line["payload"] for line in lines] == [{"id": 8}] * 2
    assert lines[0]["publisher_id"] == "publisher"
    assert listening.wait(20) == 0


def test_a_name_of_python_is_a_percent_name_in_rust(rust, bench):
    bench.serve(Endpoint(), topic="a b", server="s/1")
    called = rust.run("call", "a%20b", "echo", '{"text": 1}', "--server", "s%2F1")
    assert called.returncode == 0, called
