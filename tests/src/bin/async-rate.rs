//! Measures what the async client costs: calls per second with 1,000 in flight from one thread, by
//! the handles of `call_async` and by the futures of one tokio task, in turns.
//!
//! `cargo run --release -p zmqv2-tests --bin async-rate -- [ROUNDS] [SECONDS]`. Broker, server and
//! client are processes of their own. Only ratios of the same round count.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use zmqv2_client::{CallFuture, RequestContext, RpcClient};
use zmqv2_proto::Target;
use zmqv2_tests::measure::{Contender, Progress, Sample, alternate};
use zmqv2_tests::{Cluster, build_only, now};

const IN_FLIGHT: usize = 1_000;
const PAYLOAD: usize = 128;
const TOPIC: &str = "t0";
const RATE: &str = "calls per second";

type Error = anyhow::Error;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let seconds: f64 = arguments.next().map_or(Ok(2.0), |text| text.parse())?;
    let span = Duration::from_secs_f64(seconds);
    build_only(&["zmqv2-broker", "zmqv2"]);
    let cluster = Cluster::new(1, &[TOPIC]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let _server = node.serve(TOPIC, "s1", &["--quiet"]);
    let client = node.client(Target::topic(TOPIC)?.with_server("s1")?);
    client.prepare().wait_for_ready(true).ping()?;
    let any = client.prepare().topic(TOPIC)?;

    let mut contenders = vec![
        Contender::new("call_async", || rate(span, |span| by_handles(&any, span))),
        Contender::new("unordered", || rate(span, |span| runtime()?.block_on(unordered(&any, span)))),
        Contender::new("in order", || rate(span, |span| runtime()?.block_on(in_order(&any, span)))),
    ];
    let mut progress = Progress::new(rounds * contenders.len());
    let measured = alternate(rounds, "async", &mut contenders, &mut progress)?;
    for name in ["call_async", "unordered", "in order"] {
        let series = measured.series(name, RATE).map_or(Vec::new(), |series| series.values.clone());
        let ratio = measured.ratio(name, "call_async", RATE).and_then(|ratio| ratio.spread());
        println!("{name:12} {series:.0?}  ratio to call_async: {ratio:.3?}");
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?)
}

/// The rate of `calls`, which warms up, calls for a span, and returns how many calls have ended.
fn rate(span: Duration, calls: impl Fn(Duration) -> Result<u64, Error>) -> Result<Vec<Sample>, Error> {
    calls(span / 10)?;
    let began = now();
    let ended = calls(span)?;
    Ok(vec![Sample::new(RATE, "/s", ended as f64 / began.elapsed().as_secs_f64())])
}

fn check(answer: &str) {
    assert_eq!(answer.len(), PAYLOAD, "another answer");
}

fn by_handles(client: &RpcClient, span: Duration) -> Result<u64, Error> {
    let (context, payload, until) = (RequestContext::new(), "x".repeat(PAYLOAD), now() + span);
    let mut open = VecDeque::new();
    let mut ended = 0;
    while now() < until {
        while open.len() < IN_FLIGHT {
            open.push_back(client.call_async::<String>(&context, "echo", payload.as_str())?);
        }
        // The oldest, and those behind it that have ended, too.
        while let Some(call) = open.pop_front() {
            check(&call.wait()?);
            ended += 1;
            if !open.front().is_some_and(zmqv2_client::CallHandle::is_done) {
                break;
            }
        }
    }
    for call in open {
        check(&call.wait()?);
        ended += 1;
    }
    Ok(ended)
}

/// Takes whichever call has ended.
async fn unordered(client: &RpcClient, span: Duration) -> Result<u64, Error> {
    let (context, payload, until) = (RequestContext::new(), "x".repeat(PAYLOAD), now() + span);
    let client = client.asynchronous();
    let call = || client.call::<String>(&context, "echo", payload.as_str());
    let mut open: FuturesUnordered<CallFuture<String>> = (0..IN_FLIGHT).map(|_| call()).collect();
    let mut ended = 0;
    while let Some(answer) = open.next().await {
        check(&answer?);
        ended += 1;
        if now() < until {
            open.push(call());
        }
    }
    Ok(ended)
}

/// Awaits the calls in the order in which they were sent.
async fn in_order(client: &RpcClient, span: Duration) -> Result<u64, Error> {
    let (context, payload, until) = (RequestContext::new(), "x".repeat(PAYLOAD), now() + span);
    let client = client.asynchronous();
    let mut open: VecDeque<Result<String, CallFuture<String>>> = VecDeque::new();
    let mut ended = 0;
    loop {
        while open.len() < IN_FLIGHT && now() < until {
            let mut call = client.call::<String>(&context, "echo", payload.as_str());
            let started = poll_fn(|context| std::task::Poll::Ready(Pin::new(&mut call).poll(context))).await;
            open.push_back(match started {
                std::task::Poll::Ready(answer) => Ok(answer?),
                std::task::Poll::Pending => Err(call),
            });
        }
        let Some(oldest) = open.pop_front() else { return Ok(ended) };
        let answer = match oldest {
            Ok(answer) => answer,
            Err(call) => call.await?,
        };
        check(&answer);
        ended += 1;
    }
}
