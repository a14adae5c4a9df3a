"""Calls, casts and fanouts, and how they fail."""

import signal
import threading
import time

import oslo_messaging
import pytest
from conftest import Broker, eventually
from oslo_messaging_zmqv2 import errors
from programs import Endpoint


def test_a_call_returns_what_the_method_returns_and_changes_no_argument(broker, bench):
    bench.serve(Endpoint())
    context, text = {"user": "ann"}, {"deep": ["é", None, 1.5]}
    client = bench.client()
    assert client.call(context, "echo", text=text) == {"deep": ["é", None, 1.5]}
    assert client.call(context, "context") == {"user": "ann"}
    assert context == {"user": "ann"}


def test_exceptions_of_the_method_arrive_and_only_allowed_ones_are_rebuilt(broker, bench):
    bench.serve(Endpoint())
    with pytest.raises(ValueError, match="too small"):
        bench.client().call({}, "fail", text="too small")
    with pytest.raises(oslo_messaging.RemoteError, match="NoSuchMethod"):
        bench.client().call({}, "nothing")
    with pytest.raises(oslo_messaging.RemoteError, match="UnsupportedVersion"):
        bench.client(version="7.0").call({}, "echo", text="")


def test_a_cast_runs_once_and_a_fanout_at_every_server(broker, bench):
    endpoints = [Endpoint() for _ in range(3)]
    for number, endpoint in enumerate(endpoints):
        bench.serve(endpoint, server=f"s{number}")
    client = bench.client()
    for number in range(30):
        client.cast({}, "note", text=number)
    eventually(lambda: sum(len(endpoint.ran) for endpoint in endpoints) == 30)
    assert sorted(one for endpoint in endpoints for one in endpoint.ran) == list(range(30))
    client.prepare(fanout=True).cast({}, "note", text="all")
    eventually(lambda: all("all" in endpoint.ran for endpoint in endpoints))
    client.prepare(server="s1").cast({}, "note", text="one")
    eventually(lambda: "one" in endpoints[1].ran)


@pytest.mark.parametrize("name", ["with space", "a/b\\c", "ü€", "50%", ".", ".."])
def test_names_that_other_drivers_take(broker, bench, name):
    bench.serve(Endpoint(), topic=name, server=name, exchange=name)
    for server in (None, name):
        client = bench.client(topic=name, server=server, exchange=name)
        assert client.call({}, "echo", text=1) == 1


def test_virtual_hosts_keep_services_apart(broker, bench):
    cell = bench.transport("zmqv2:///cell1")
    bench.serve(Endpoint(), transport=cell)
    assert bench.client(transport=bench.transport("zmqv2:///cell1")).call({}, "echo", text=1) == 1
    for url in ("zmqv2://", "zmqv2:///cell2"):
        with pytest.raises(oslo_messaging.MessagingTimeout):
            bench.client(transport=bench.transport(url), timeout=0.5).call({}, "echo", text=1)


def test_a_name_that_is_too_long_is_refused_by_name(broker, bench):
    with pytest.raises(oslo_messaging.InvalidTarget, match=r"topic has 300 bytes.*limit is 255"):
        bench.client(topic="x" * 300).call({}, "echo", text=1)


def test_a_server_that_comes_later_gets_the_call(broker, bench):
    results = []
    client = bench.client()
    caller = threading.Thread(target=lambda: results.append(client.call({}, "echo", text="hi")))
    caller.start()
    time.sleep(0.3)
    assert not results
    bench.serve(Endpoint())
    caller.join(10)
    assert results == ["hi"]


def test_without_a_server_the_call_ends_at_its_timeout_and_never_runs(broker, bench):
    began = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout) as raised:
        bench.client(timeout=1).call({}, "note", text="late")
    assert 0.9 < time.monotonic() - began < 5
    assert isinstance(raised.value, errors.Expired) and not errors.may_have_run(raised.value)


def test_at_least_once_says_at_once_that_nobody_is_there(broker, bench):
    options = oslo_messaging.TransportOptions(at_least_once=True)
    client = bench.client(timeout=60, transport_options=options)
    began = time.monotonic()
    for send in (client.call, client.cast):
        with pytest.raises(oslo_messaging.MessageUndeliverable) as raised:
            send({}, "echo", text="")
        assert not errors.may_have_run(raised.value)
    assert time.monotonic() - began < 10
    endpoint = Endpoint()
    bench.serve(endpoint)
    assert client.call({}, "echo", text="x") == "x"
    client.cast({}, "note", text="y")
    eventually(lambda: endpoint.ran == ["y"])


def test_a_broker_that_starts_again_costs_time_and_no_call(broker, bench):
    bench.serve(Endpoint())
    client = bench.client(timeout=30)
    assert client.call({}, "echo", text=1) == 1
    broker.kill()
    results = []
    callers = [
        threading.Thread(target=lambda: results.append(client.call({}, "echo", text=2)))
        for _ in range(5)
    ]
    for caller in callers:
        caller.start()
    time.sleep(1)
    broker.start()
    for caller in callers:
        caller.join(30)
    assert results == [2] * 5


def test_without_a_broker_a_limit_of_retries_is_soon_reached(directory, bench):
    client = bench.client(timeout=60, retry=0)
    for send in (client.call, client.cast):
        began = time.monotonic()
        with pytest.raises(oslo_messaging.MessageDeliveryFailure) as raised:
            send({}, "note", text="x")
        assert time.monotonic() - began < 15
        assert isinstance(raised.value, errors.Unreachable)
        assert not errors.may_have_run(raised.value)


def test_a_cast_waits_for_a_broker_without_blocking(directory, bench):
    client = bench.client()
    began = time.monotonic()
    client.cast({}, "note", text="early")
    assert time.monotonic() - began < 5
    broker = Broker(directory)
    try:
        endpoint = Endpoint()
        bench.serve(endpoint)
        eventually(lambda: endpoint.ran == ["early"])
    finally:
        bench.close()
        bench._ends.clear()
        broker.stop()


def test_a_message_that_is_too_large_is_refused_with_the_limit(broker, bench):
    bench.serve(Endpoint())
    client = bench.client(bench.transport(rpc_zmq_max_message_bytes=2000))
    with pytest.raises(errors.TooLarge, match="2000") as raised:
        client.call({}, "echo", text="x" * 5000)
    assert not errors.may_have_run(raised.value)


def test_a_reply_that_cannot_be_written_is_an_error_of_the_caller(broker, bench):
    class Bad:
        def loop(self, ctxt):
            loop = []
            loop.append(loop)
            return loop

    bench.serve(Bad())
    with pytest.raises((ValueError, RecursionError, oslo_messaging.RemoteError)):
        bench.client().call({}, "loop")


def test_a_server_that_dies_in_the_call_is_known_at_once(broker, bench, program):
    serving = program("serve", bench.directory)
    assert serving.line() == "ready"
    client = bench.client(timeout=60)
    pid = client.call({}, "pid")
    assert pid == serving.process.pid
    killer = threading.Timer(0.5, serving.kill)
    killer.start()
    began = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout) as raised:
        client.call({}, "sleep", seconds=60)
    assert time.monotonic() - began < 15
    assert isinstance(raised.value, errors.ServerLost) and errors.may_have_run(raised.value)


def test_a_monitored_call_ends_when_its_server_hangs(broker, bench, program):
    serving = program("serve", bench.directory)
    assert serving.line() == "ready"
    client = bench.client(timeout=600, call_monitor_timeout=2)
    assert client.call({}, "sleep", seconds=3) == 3
    threading.Timer(0.5, lambda: serving.signal(signal.SIGSTOP)).start()
    began = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        client.call({}, "sleep", seconds=600)
    assert time.monotonic() - began < 60
