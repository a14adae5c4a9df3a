//! `zmqv2 demo`: broker, servers and clients on one machine, each in its own process.

mod load;
mod processes;
mod screen;

use std::time::Duration;

use anyhow::{Context, ensure};
use zmqv2_broker::cli::{CommonFlags, Failure, on_stop_signal};
use zmqv2_proto::config::{LONGEST_SOCKET_NAME_BYTES, MAX_SOCKET_PATH_BYTES};

use crate::serve::now;
use load::{Latencies, Load, client};
use processes::{Children, Node};
use screen::{Line, Screen, thousands};

/// The longest time of one step on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many calls are measured.
const CALLS: usize = 1000;
/// How many calls must be answered before the next restart.
const CALLS_BETWEEN_RESTARTS: usize = 100;

pub(crate) fn run(common: &CommonFlags) -> Result<(), Failure> {
    // Loaded only to report its errors: the demo uses its own ports and directories.
    common.setup(log::LevelFilter::Warn)?;
    let children = Children::default();
    let to_stop = children.clone();
    // Without its children the demo fails at the next step, and cleans up.
    on_stop_signal(move || to_stop.stop())?;
    let result = demo(&children);
    Ok(if children.interrupted() { result.context("interrupted") } else { result }?)
}

fn demo(children: &Children) -> anyhow::Result<()> {
    let started = now();
    let dir = tempfile::Builder::new().prefix("zmqv2-demo-").tempdir().context("cannot make a temporary directory")?;
    let longest = MAX_SOCKET_PATH_BYTES - LONGEST_SOCKET_NAME_BYTES - 1;
    let length = dir.path().as_os_str().len();
    ensure!(
        length <= longest,
        "the path of the temporary directory {} has {length} bytes, sockets in it allow {longest}: set TMPDIR to a shorter one",
        dir.path().display()
    );
    let screen = Screen::new();
    let node = Node::new(dir.path(), children, screen)?;

    screen.say(Line::Heading, "one broker, two servers of the topic \"demo\", and clients, each a process:")?;
    let start_broker = || node.start("broker", &["broker", "--port", "0", "--bind", "127.0.0.1"]);
    let start_server = |name| node.start(name, &["serve", "demo", "--server", name, "--workers", "2"]);
    let mut broker = start_broker()?;
    let (mut alpha, mut beta) = (start_server("alpha")?, start_server("beta")?);

    screen.heading("calls to the topic reach its servers in turn:")?;
    for n in 1..=4 {
        node.run(&["call", "demo", "echo", &format!("{{\"n\": {n}}}"), "--verbose"], 0)?;
    }
    screen.heading("a call to one server only:")?;
    node.run(&["call", "demo", "echo", "\"only for beta\"", "--server", "beta", "--verbose"], 0)?;
    screen.heading("a remote error, no server, a slow server: each caller learns the outcome:")?;
    node.run(&["call", "demo", "fail", "\"as asked\""], 3)?;
    node.run(&["call", "nobody", "echo"], 4)?;
    node.run(&["call", "demo", "sleep", "5", "--timeout", "0.3"], 5)?;
    screen.heading("a cast has no result, but its sender learns which server accepted it:")?;
    node.run(&["cast", "demo", "echo", "\"for one of you\""], 0)?;
    screen.heading("a fanout goes to every server:")?;
    node.run(&["fanout", "demo", "echo", "\"for all of you\""], 0)?;
    screen.heading("a notification is kept until one listener of each pool has handled it:")?;
    node.run(&["notify", "events", "demo.early", "{\"n\": 1}"], 0)?;
    let mut listener = node.start("listener", &["listen", "events"])?;
    node.run(&["notify", "events", "demo.late", "{\"n\": 2}"], 0)?;
    listener.show_lines(2)?;

    screen.heading("a client calls while the servers and the broker are restarted:")?;
    let load = Load::start(client(dir.path())?, children)?;
    load.wait_answered(CALLS_BETWEEN_RESTARTS)?;
    alpha.stop()?;
    alpha = start_server("alpha")?;
    load.wait_answered(CALLS_BETWEEN_RESTARTS)?;
    beta.stop()?;
    beta = start_server("beta")?;
    load.wait_answered(CALLS_BETWEEN_RESTARTS)?;
    broker.stop()?;
    broker = start_broker()?;
    load.wait_answered(CALLS_BETWEEN_RESTARTS)?;
    let calls = load.stop()?;
    let (answered, failed, pause) = (thousands(calls.answered), calls.failed, millis(calls.longest_pause));
    screen.say(Line::Figure, &format!("{answered} calls, {failed} failed, longest pause {pause:.0} ms"))?;

    screen.heading(&format!("{} calls over one connection, one after another:", thousands(CALLS)))?;
    let measured = Latencies::measure(&client(dir.path())?, CALLS)?;
    let [p50, p99] = [50, 99].map(|percent| millis(measured.percentile(percent)));
    let took = measured.took.as_secs_f64();
    screen.say(Line::Figure, &format!("p50 {p50:.3} ms, p99 {p99:.3} ms, all in {took:.2} s"))?;

    screen.heading("stopping the servers, then the broker; each finishes its requests first:")?;
    for process in [listener, alpha, beta, broker] {
        process.stop()?;
    }
    let took = now().saturating_duration_since(started).as_secs_f64();
    Ok(screen.say(Line::Heading, &format!("done in {took:.1} s"))?)
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
