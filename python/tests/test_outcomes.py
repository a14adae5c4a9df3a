"""Outcomes of casts, counters, the log, and the parts that need no broker."""

import logging
import queue

import oslo_messaging
import pytest
from conftest import eventually
from oslo_messaging_zmqv2 import bodies, errors, names, on_outcome, outcomes
from oslo_messaging_zmqv2.retries import Retries
from programs import Endpoint


def test_a_function_sees_the_outcomes_of_casts(broker, bench):
    failed, every = queue.Queue(), queue.Queue()
    ends = [on_outcome(failed.put), on_outcome(every.put, failures_only=False)]
    try:
        endpoint = Endpoint()
        bench.serve(endpoint)
        client = bench.client()
        client.cast({}, "note", text=1)
        outcome = every.get(timeout=20)
        assert (outcome.kind, outcome.succeeded) == ("acked", True)
        # Nobody has this server, and the fanout does not wait for one.
        client.prepare(topic="nobody", fanout=True).cast({}, "note", text=2)
        outcome = failed.get(timeout=20)
        assert outcome.kind == "no_route" and not outcome.may_have_run, outcome
        assert "nobody" in outcome.target and outcome.text
    finally:
        for end in ends:
            end()


def test_one_that_fails_is_logged_and_the_others_are_called(caplog):
    seen = []

    def bad(outcome):
        raise RuntimeError("bad")

    ends = [on_outcome(bad), on_outcome(seen.append)]
    try:
        outcomes._deliver(outcomes.Outcome("t", "busy", False, "full"))
    finally:
        for end in ends:
            end()
    assert [outcome.kind for outcome in seen] == ["busy"]
    assert "has failed" in caplog.text


def test_counters_and_the_log_tell_of_casts(broker, bench, caplog):
    caplog.set_level(logging.WARNING)
    endpoint = Endpoint()
    bench.serve(endpoint)
    transport = bench.transport()
    assert transport._driver.counters() == {}
    client = bench.client(transport)
    for number in range(3):
        client.cast({}, "note", text=number)
    eventually(lambda: transport._driver.counters()["acked"] == 3)
    client.prepare(topic="nobody", fanout=True).cast({}, "note", text=2)
    eventually(lambda: transport._driver.counters()["refused_no_route"] == 1)
    eventually(lambda: "nobody" in caplog.text)


def test_a_closed_transport_says_so(broker, bench):
    transport = bench.transport()
    client = bench.client(transport)
    transport.cleanup()
    with pytest.raises(errors.Closed, match="cleaned up"):
        client.call({}, "echo", text=1)


@pytest.mark.parametrize("kind", sorted(errors._CLASSES))
def test_every_failure_is_an_exception_of_oslo_messaging(kind):
    for may_have_run in (True, False):
        error = errors.Failure(kind, may_have_run, "text").exception()
        assert isinstance(error, oslo_messaging.MessagingException) and str(error) == "text"
        assert errors.may_have_run(error) == may_have_run


def test_an_unknown_failure_and_a_foreign_exception():
    assert isinstance(errors.Failure("new", False, "").exception(), errors.DeliveryFailure)
    assert errors.may_have_run(KeyError())


def test_names_are_encoded_once_and_differently():
    texts = ["a", "a b", "a%20b", "%", "ä", "a/b", "a\\b", ".", "..", "...", "\ud800"]
    assert len({names.encoded(text) for text in texts}) == len(texts)
    assert names.encoded("node@backend-1.example") == "node@backend-1.example"
    for bad in ("", None, 7):
        with pytest.raises(oslo_messaging.InvalidTarget):
            names.encoded(bad)


def test_retries_are_counted_and_end_in_time():
    assert not Retries(0).again()
    two = Retries(2)
    assert [two.again() for _ in range(3)] == [True, True, False]
    assert Retries(None).unlimited and Retries(-1).unlimited and not Retries(0).unlimited
    assert not Retries(None).again(end=0)


def test_bodies_that_are_none_are_errors():
    for body in (b"", b"[]", b"7", b'{"oslo.version": "9.0", "oslo.message": "{}"}', b"\xff"):
        with pytest.raises(Exception):  # noqa: B017
            bodies.unpacked(body)
    assert bodies.unpacked(b'{"method": "m", "_context_a": 1, "_timeout": 2}') == (
        {"a": 1},
        {"method": "m"},
    )
