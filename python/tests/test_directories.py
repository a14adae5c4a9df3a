"""Two nodes that find each other by a file, and through Redis."""

import json
import os
import shutil
import socket
import subprocess
import tempfile

import pytest
from conftest import Bench, Broker, eventually
from oslo_messaging_zmqv2 import errors
from programs import Endpoint


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Node:
    """A broker, and services beside it."""

    def __init__(self, name, port, url):
        self.directory = tempfile.mkdtemp(prefix="zmqv2-node-", dir="/tmp")
        self.name, self.port, self.url = name, port, url
        flags = ("--host", name, "--set", f"transport_url={url}")
        self.broker = Broker(self.directory, *flags, port=port)
        self.bench = Bench(self.directory)

    def transport(self):
        return self.bench.transport(self.url, rpc_zmq_host=self.name, rpc_zmq_port=self.port)

    def close(self):
        self.bench.close()
        self.broker.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def names():
    """Two nodes of one machine, and their ports."""
    return {"127.0.0.1": free_port(), "127.0.0.2": free_port()}


def ring(tmp_path, names):
    path = tmp_path / "ring.json"
    nodes = [{"node": name, "address": f"{name}:{port}"} for name, port in names.items()]
    path.write_text(json.dumps({"topic": nodes, "events.info": nodes}))
    return f"zmqv2+ring://{path}"


@pytest.fixture
def redis(tmp_path):
    if shutil.which("redis-server") is None:
        if os.environ.get("ZMQV2_REQUIRE_ALL"):
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )

    def answers():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(answers)
    yield f"zmqv2+redis://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.mark.parametrize("kind", ["ring", "redis"])
def test_a_directory_connects_two_nodes(kind, tmp_path, names, request):
    url = ring(tmp_path, names) if kind == "ring" else request.getfixturevalue("redis")
    nodes = [Node(name, port, url) for name, port in names.items()]
    try:
        endpoints = [Endpoint(), Endpoint()]
        for node, endpoint, name in zip(nodes, endpoints, ("s1", "s2"), strict=True):
            node.bench.serve(endpoint, node.transport(), server=name)
        client = nodes[0].bench.client(nodes[0].transport(), timeout=20)
        for server in ("s1", "s2"):
            assert client.prepare(server=server).call({}, "echo", text=server) == server
        client.prepare(fanout=True).cast({}, "note", text="all")
        eventually(lambda: all(endpoint.ran == ["all"] for endpoint in endpoints))
        # After the end of a node, at most the call that was on its way there is lost.
        nodes[1].broker.kill()
        lost = 0
        for number in range(10):
            try:
                assert client.call({}, "echo", text=number) == number
            except errors.ServerLost:
                lost += 1
        assert lost <= 1
        nodes[1].broker.start()
        assert client.prepare(server="s2").call({}, "echo", text="again") == "again"
    finally:
        for node in nodes:
            node.close()
