//! Whatever span or count a caller gives, nothing panics, and what would succeed still succeeds.

mod support;

use std::time::Duration;

use support::{Act, Broker, Seen, builder};
use zmqv2_client::{Closed, RpcClientBuilder, WhenFull};
use zmqv2_proto::{Config, Kind, RequestContext};

const LONG: Duration = Duration::from_secs(20);
const EXTREMES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_millis(1 << 32),
    Duration::from_secs(u64::MAX),
    Duration::MAX,
];

fn context() -> RequestContext {
    RequestContext::new()
}

fn answer(seen: &Seen) -> Act {
    match seen.header.kind {
        Kind::Call | Kind::Cast => seen.good(),
        Kind::Fanout => seen.acks("n1", &["s1"], 0),
        _ => seen.ack(),
    }
}

/// Sends one message of each kind, and closes the client.
fn use_it(builder: RpcClientBuilder, what: &str) {
    let client = builder.build().unwrap();
    assert_eq!(client.call::<u8>(&context(), "m", &7).unwrap(), 7, "{what}");
    assert_eq!(client.call_async::<u8>(&context(), "m", &7).unwrap().wait().unwrap(), 7, "{what}");
    let handle = client.cast(&context(), "m", &()).unwrap();
    assert!(handle.wait(Duration::MAX).unwrap().is_acked(), "{what}");
    let report = client.fanout(&context(), "m", &()).unwrap().wait(Duration::MAX).unwrap();
    assert!(report.all_acked(), "{what}: {report:#}");
    let notifier = client.notifier("p").timeout(Duration::MAX).time_to_live(Duration::MAX).retry(u32::MAX);
    let report = notifier.info(&context(), "e", &()).unwrap().wait(Duration::MAX).unwrap();
    assert!(report.all_taken_over(), "{what}: {report:#}");
    assert_eq!(client.close(Duration::MAX), client.close(Duration::ZERO), "{what}");
}

#[test]
fn any_span_of_a_message_is_taken() {
    let broker = Broker::start(answer);
    let node = || builder([broker.node("n1")]);
    for span in EXTREMES {
        use_it(node().call_monitor_timeout(span), &format!("call_monitor_timeout({span:?})"));
        if span > Duration::from_secs(1) {
            use_it(node().timeout(span).cast_timeout(span), &format!("timeout({span:?})"));
            use_it(node().timeout(span).cast_timeout(span).retry(u32::MAX), &format!("timeout({span:?}) and retry"));
            use_it(node().timeout(span).wait_for_ready(true).call_monitor_timeout(span), &format!("all {span:?}"));
        }
    }
    for retries in [1, 10_000, u32::MAX] {
        use_it(node().retry(retries), &format!("retry({retries})"));
        let short = Duration::from_secs(5);
        use_it(node().timeout(short).cast_timeout(short).retry(retries), &format!("5 s and retry({retries})"));
    }
    for count in [0, 1, usize::MAX] {
        use_it(node().max_outstanding(count), &format!("max_outstanding({count})"));
        use_it(node().max_outstanding_bytes(count), &format!("max_outstanding_bytes({count})"));
        use_it(node().max_outstanding(count).when_full(WhenFull::Wait), &format!("wait at {count}"));
    }
}

#[test]
fn a_zero_span_ends_at_once_and_the_client_goes_on() {
    let broker = Broker::start(answer);
    let client = builder([broker.node("n1")]).build().unwrap();
    for span in [Duration::ZERO, Duration::from_nanos(1)] {
        let hurried = client.prepare().timeout(span).retry(u32::MAX);
        let _ = hurried.call::<u8>(&context(), "m", &7);
        let _ = hurried.call_async::<u8>(&context(), "m", &7).unwrap().wait();
        assert!(hurried.cast(&context(), "m", &()).unwrap().wait(LONG).is_some());
        let notifier = client.notifier("p").timeout(span).time_to_live(span);
        assert!(notifier.info(&context(), "e", &()).unwrap().wait(LONG).is_some());
        assert_eq!(client.cast(&context(), "m", &()).unwrap().wait(span).map_or(0, |_| 1) / 2, 0);
    }
    assert_eq!(client.call::<u8>(&context(), "m", &7).unwrap(), 7);
    let Closed { open, .. } = client.close(LONG);
    assert_eq!(open, 0);
}

#[test]
fn any_configured_span_and_count_is_taken() {
    let broker = Broker::start(answer);
    for span in EXTREMES {
        for count in [0, usize::MAX] {
            let mut config = Config::default();
            for field in [
                &mut config.busy_poll,
                &mut config.adaptive_poll,
                &mut config.connect_timeout,
                &mut config.drain_timeout,
                &mut config.heartbeat_freq,
                &mut config.heartbeat_ttl,
            ] {
                *field = span;
            }
            if span > Duration::from_secs(1) {
                (config.cast_timeout, config.response_timeout) = (span, span);
            } else {
                // A connection needs some time.
                config.connect_timeout = Duration::from_secs(5);
            }
            (config.conn_pool_size, config.io_threads) = (count, count as u16);
            (config.high_water_mark, config.io_batch_bytes) = (count as u32, count as u32);
            use_it(builder([broker.node("n1")]).config(config), &format!("{span:?} and {count}"));
        }
    }
}
