"""Processes of the tests: ``python programs.py NAME ARGUMENTS``."""

import itertools
import os
import signal
import sys
import threading
import time

# Before anything else is imported, as eventlet wants it.
if os.environ.get("WITH_EVENTLET"):
    import eventlet

    eventlet.monkey_patch()

import oslo_messaging
from conftest import configured

EXECUTOR = "eventlet" if os.environ.get("WITH_EVENTLET") else "threading"


class Endpoint:
    """The methods of the services of the tests."""

    def __init__(self):
        self.ran = []

    def echo(self, ctxt, text):
        return text

    def context(self, ctxt):
        return ctxt

    def pid(self, ctxt):
        return os.getpid()

    def sleep(self, ctxt, seconds):
        time.sleep(seconds)
        return seconds

    def fail(self, ctxt, text):
        raise ValueError(text)

    def note(self, ctxt, text):
        self.ran.append(text)

    def noted(self, ctxt):
        return self.ran


def say(*texts):
    print(*texts, flush=True)


def transport(directory, **values):
    return oslo_messaging.get_rpc_transport(configured(directory, **values), "zmqv2://")


def server(over, name="s1"):
    target = oslo_messaging.Target(topic="topic", server=name, version="1.3")
    endpoint = Endpoint()
    endpoint.target = oslo_messaging.Target(version="1.3")
    return oslo_messaging.get_rpc_server(over, target, [endpoint], executor=EXECUTOR)


def client(over, timeout=10, **options):
    target = oslo_messaging.Target(topic="topic")
    return oslo_messaging.get_rpc_client(over, target, timeout=timeout, **options)


def serve(directory, name="s1"):
    """Serves until SIGTERM, and then ends in order."""
    over = transport(directory)
    running = server(over, name)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    running.start()
    say("ready")
    while not stop.wait(0.05):
        pass
    running.stop()
    running.wait()
    over.cleanup()
    say("stopped")


def listen(directory, topic):
    """Prints the notifications of a topic."""
    over = oslo_messaging.get_notification_transport(configured(directory), "zmqv2://")

    class Printer:
        def info(self, ctxt, publisher, event_type, payload, metadata):
            say(publisher, event_type, payload, ctxt.get("user"))

    listener = oslo_messaging.get_notification_listener(
        over, [oslo_messaging.Target(topic=topic)], [Printer()], executor=EXECUTOR
    )
    listener.start()
    say("ready")
    while True:
        time.sleep(3600)


def interrupted(directory, seconds):
    """Waits in a call until Ctrl-C."""
    over = transport(directory)
    calls = client(over, timeout=float(seconds))
    say("calling")
    began = time.monotonic()
    try:
        calls.call({}, "sleep", seconds=float(seconds))
    except KeyboardInterrupt:
        say("interrupted")
    else:
        say(f"returned after {time.monotonic() - began}")


def exits(directory, kind):
    """Ends while messages are on their way."""
    over = transport(directory)
    calls = client(over)
    if kind == "casts":
        for number in range(100):
            calls.cast({}, "note", text=number)
    elif kind == "thread":
        for _ in range(8):
            threading.Thread(target=lambda: calls.call({}, "sleep", seconds=3), daemon=True).start()
        time.sleep(0.3)
    elif kind == "busy":

        def call():
            while True:
                calls.call({}, "echo", text="x")

        for _ in range(8):
            threading.Thread(target=call, daemon=True).start()
        time.sleep(0.5)
    elif kind == "server":
        running = server(over, "s9")
        running.start()
    elif kind == "atexit":
        raise SystemExit(3)
    say("ending")


def forks(directory, count):
    """Forks while other threads call, and children that use, drop or ignore what they inherit."""
    over = transport(directory)
    calls = client(over)
    calls.call({}, "echo", text="first")
    running = server(over, "s7")
    running.start()
    ended = threading.Event()
    failures = []

    def call():
        while not ended.is_set():
            try:
                assert calls.call({}, "echo", text="parent") == "parent"
            except Exception as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    for number in range(int(count)):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if number % 3 == 0:
                    code = 0 if calls.call({}, "echo", text="child") == "child" else 2
                elif number % 3 == 1:
                    del over, calls, running
                    import gc

                    gc.collect()
                    code = 0
                else:
                    code = 0
            except BaseException as error:
                print("child", repr(error), file=sys.stderr, flush=True)
            if number % 2:
                os._exit(code)
            signal.alarm(20)
            # As a child of multiprocessing ends: with the hooks of the interpreter.
            import atexit

            atexit._run_exitfuncs()
            os._exit(code)
        codes.append(os.waitpid(child, 0)[1])
    ended.set()
    for thread in threads:
        thread.join()
    say("failures", len(failures), failures[:3])
    say("codes", sorted(set(codes)))
    running.stop()
    running.wait()
    over.cleanup()


def green(directory, count):
    """Many calls of a second at once, in green threads of one process, beside a ticking one."""
    import eventlet

    over = transport(directory, DEFAULT__executor_thread_pool_size=200)
    running = server(over)
    running.start()
    calls = client(over, timeout=30)
    ticks = []

    def tick():
        while True:
            ticks.append(time.monotonic())
            eventlet.sleep(0.01)

    ticker = eventlet.spawn(tick)
    began = time.monotonic()
    pool = eventlet.GreenPool(int(count))
    results = list(pool.imap(lambda _: calls.call({}, "sleep", seconds=1), range(int(count))))
    took = time.monotonic() - began
    ticker.kill()
    longest = max(later - earlier for earlier, later in itertools.pairwise(ticks))
    say("results", len(results))
    say("took", took)
    say("longest", longest)
    running.stop()
    running.wait()
    over.cleanup()


def many_servers(directory, count):
    """Stops many servers."""
    over = transport(directory)
    listeners = []
    from oslo_messaging import Target

    for number in range(int(count)):
        listeners.append(over._listen(Target(topic=f"t{number}", server="s"), 1, None))
    for listener in listeners:
        listener.start(lambda incoming: None)
    began = time.monotonic()
    for listener in listeners:
        listener.stop()
        listener.cleanup()
    say("stopped", time.monotonic() - began)
    over.cleanup()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
