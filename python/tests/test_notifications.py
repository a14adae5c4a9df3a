"""Notifications: versions, pools, batches, requeue, and those that wait for a listener."""

import queue
import time

import oslo_messaging
import pytest
from conftest import eventually
from oslo_context import context as oslo_context


class Collector:
    """Collects what it gets."""

    def __init__(self, result=None):
        self.events = queue.Queue()
        self.result = result

    def info(self, ctxt, publisher, event_type, payload, metadata):
        self.events.put((ctxt, publisher, event_type, payload))
        return self.result() if self.result else None

    error = info


@pytest.mark.parametrize("driver", ["messaging", "messagingv2"])
def test_both_formats_arrive_with_their_context(broker, bench, driver):
    collector = Collector()
    bench.listen(collector, "events")
    # oslo.messaging itself takes everything that may be secret out of the context.
    context = oslo_context.RequestContext(request_id="req-1")
    bench.notifier("events", driver=driver).info(context, "made", {"id": 7})
    received, *rest = collector.events.get(timeout=20)
    assert received["request_id"] == "req-1"
    assert rest == ["publisher", "made", {"id": 7}]


def test_every_pool_gets_a_copy_and_a_pool_shares_the_work(broker, bench):
    collectors = [Collector() for _ in range(3)]
    for collector, pool in zip(collectors, ["a", "b", "b"], strict=True):
        bench.listen(collector, "events", pool=pool)
    notifier = bench.notifier("events")
    for number in range(20):
        notifier.info({}, "made", number)
    counts = lambda: [collector.events.qsize() for collector in collectors]  # noqa: E731
    eventually(lambda: counts()[0] == 20 and sum(counts()) == 40, str(counts()))


def test_a_notification_waits_for_its_listener(broker, bench):
    began = time.monotonic()
    bench.notifier("events").error({}, "early", 1)
    assert time.monotonic() - began < 20
    collector = Collector()
    bench.listen(collector, "events")
    assert collector.events.get(timeout=20)[2] == "early"


def test_one_that_is_requeued_comes_again(broker, bench):
    results = iter([oslo_messaging.NotificationResult.REQUEUE])
    collector = Collector(lambda: next(results, oslo_messaging.NotificationResult.HANDLED))
    bench.listen(collector, "events", allow_requeue=True)
    bench.notifier("events").info({}, "again", 1)
    assert [collector.events.get(timeout=20)[2] for _ in range(2)] == ["again"] * 2
    with pytest.raises(queue.Empty):
        collector.events.get(timeout=0.5)


def test_batches_are_full_or_wait_for_their_timeout(broker, bench):
    batches = queue.Queue()

    class Batches:
        def info(self, messages):
            batches.put([message["payload"] for message in messages])

    bench.listen(Batches(), "events", batch_size=10, batch_timeout=2)
    notifier = bench.notifier("events")
    for number in range(25):
        notifier.info({}, "made", number)
    got = [batches.get(timeout=20) for _ in range(3)]
    assert sorted(one for batch in got for one in batch) == list(range(25))
    assert [len(batch) for batch in got] == [10, 10, 5]


def test_more_topics_than_one_registration_takes(broker, bench):
    collector = Collector()
    topics = [f"topic-{number}" for number in range(150)]
    # Two priorities of each.
    bench.listen(collector, *topics)
    for topic in (topics[0], topics[-1]):
        bench.notifier(topic).info({}, topic, 1)
        assert collector.events.get(timeout=20)[2] == topic


def test_a_message_that_python_drops_comes_again(broker, bench):
    transport = bench.notification_transport()
    target = oslo_messaging.Target(topic="events")
    listener = transport._listen_for_notifications({(target, "info")}, None, 1, None)
    poll = listener._poll_style_listener.poll
    bench.notifier("events").info({}, "made", 1)
    dropped = poll(timeout=20)
    assert len(dropped) == 1 and len({dropped[0]}) == 1
    del dropped
    again = poll(timeout=20)
    assert again[0].message["payload"] == 1
    again[0].acknowledge()
    assert poll(timeout=0.5) == []
    listener._poll_style_listener.stop()
    listener.cleanup()


def test_a_topic_without_priority_is_refused_by_name(broker, bench):
    transport = bench.notification_transport()
    with pytest.raises(oslo_messaging.InvalidTarget, match="one of"):
        transport._send_notification(oslo_messaging.Target(topic="events"), {}, {}, version=2.0)
