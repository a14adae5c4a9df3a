"""Forks, signals, the end of the interpreter, and stopping."""

import signal
import time

import pytest
from conftest import PATIENCE, eventually
from programs import Endpoint


@pytest.fixture
def serving(broker, bench):
    endpoint = Endpoint()
    bench.serve(endpoint)
    return endpoint


def test_children_use_drop_or_ignore_what_they_inherit(serving, bench, program):
    forking = program("forks", bench.directory, "30")
    assert forking.line() == "failures 0 []", forking.errors
    assert forking.line() == "codes [0]", forking.errors
    assert forking.end() == 0, forking.errors


def test_control_c_is_seen_at_once_in_a_call(serving, bench, program):
    calling = program("interrupted", bench.directory, "60")
    assert calling.line() == "calling"
    # It is in the call when the server has it.
    time.sleep(0.5)
    began = time.monotonic()
    calling.signal(signal.SIGINT)
    assert calling.line() == "interrupted", calling.errors
    assert time.monotonic() - began < 5
    assert calling.end() == 0, calling.errors


def test_casts_that_are_on_their_way_at_the_end_arrive(serving, bench, program):
    assert program("exits", bench.directory, "casts").end() == 0
    eventually(lambda: len(serving.ran) == 100)


@pytest.mark.parametrize("kind", ["thread", "busy", "server"])
def test_the_interpreter_ends_quickly_whatever_its_threads_do(serving, bench, program, kind):
    for _ in range(3):
        ending = program("exits", bench.directory, kind)
        assert ending.line() == "ending", ending.errors
        began = time.monotonic()
        assert ending.end() == 0, ending.errors
        assert time.monotonic() - began < 10, ending.errors
        assert "Fatal" not in ending.errors and "panicked" not in ending.errors, ending.errors


def test_a_server_that_gets_sigterm_ends_what_it_has_begun(broker, bench, program):
    serving = program("serve", bench.directory)
    assert serving.line() == "ready"
    client = bench.client(timeout=30)
    client.call({}, "echo", text="warm")
    import threading

    results = []
    caller = threading.Thread(target=lambda: results.append(client.call({}, "sleep", seconds=2)))
    caller.start()
    time.sleep(0.5)
    serving.signal(signal.SIGTERM)
    caller.join(PATIENCE)
    assert results == [2]
    assert serving.line() == "stopped", serving.errors
    assert serving.end() == 0


def test_many_servers_stop_in_less_than_a_second_each(broker, bench, program):
    stopping = program("many_servers", bench.directory, "20")
    word, seconds = stopping.line().split()
    assert word == "stopped"
    # Each takes milliseconds; a wait for a timeout would be seconds.
    assert float(seconds) < 10, stopping.errors
    assert stopping.end() == 0, stopping.errors


def test_green_threads_do_not_wait_for_each_other(broker, bench, program):
    green = program("green", bench.directory, "60", WITH_EVENTLET="1")
    lines = dict(green.line().split() for _ in range(3)) if green else {}
    assert lines["results"] == "60", green.errors
    # One after the other they would take 60 s, and with 20 threads of tpool 3 s.
    assert float(lines["took"]) < 2.9, lines
    assert float(lines["longest"]) < 0.9, lines
    assert green.end() == 0, green.errors
