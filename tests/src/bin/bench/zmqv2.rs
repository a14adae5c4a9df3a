//! The chain of zmqv2: its processes, and how they are started.

use std::any::Any;
use std::collections::VecDeque;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use zmqv2_broker::cli::{CommonFlags, Failure};
use zmqv2_client::{CallHandle, CastHandle, FanoutHandle, RpcClient};
use zmqv2_proto::config::find_ipc_dir;
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{RequestContext, Target};
use zmqv2_server::{Methods, RpcServer};
use zmqv2_tests::measured_process::{Error, Window, measure, one_by_one, serve_until_stdin_ends, windowed};
use zmqv2_tests::{Cluster, Node, PATIENCE};

use crate::chain::Chain;
use crate::process::{MeasuredProcess, Role};
use crate::workload::{Pattern, Workload};

/// Time to make connections, touch memory and find workers.
const WARM_UP: Duration = Duration::from_millis(300);

/// The nodes of a run: one for the service and one for clients, which therefore use TCP.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
}

impl Site {
    pub(crate) fn new(topics: usize) -> Self {
        let cluster = Cluster::new(2, &[]);
        let host = || Value::from(vec![cluster.node(0).host.as_str()]);
        cluster.write_ring((0..topics).map(|n| (topic(n), host())).collect::<Map<_, _>>());
        Self { cluster }
    }

    pub(crate) fn service(&self) -> &Node {
        self.cluster.node(0)
    }

    /// A command for a server process. `workers`: `None` is the default.
    pub(crate) fn server(&self, n: usize, topics: usize, workers: Option<usize>) -> Command {
        let mut command = self.service().command("bench", &["serve", "--server", &format!("s{n}")]);
        command.args(["--topics", &topics.to_string()]);
        if let Some(workers) = workers {
            command.args(["--workers", &workers.to_string()]);
        }
        command
    }

    /// A command for a client process.
    pub(crate) fn client(&self, words: &[&str]) -> Command {
        self.cluster.node(1).command("bench", words)
    }
}

/// Starts broker, servers and client, and waits until they are ready.
pub(crate) fn start(load: &Workload, workers: Option<usize>) -> anyhow::Result<Chain> {
    let site = Site::new(load.topics);
    let mut kept: Vec<Box<dyn Any>> = Vec::new();
    let broker = site.service().broker();
    let mut others = vec![(Role::Broker, broker.id())];
    // If there are many servers, more threads would only use memory.
    let many = (load.topics > 1).then_some(1).or((load.servers > 1).then_some(2));
    let mut servers = Vec::new();
    for n in 0..load.servers {
        let command = &mut site.server(n, load.topics, workers.or(many));
        servers.push(MeasuredProcess::spawn(&format!("server {n}"), command)?);
    }
    for server in servers {
        server.wait_ready(PATIENCE)?;
        others.push((Role::Server, server.id()));
        kept.push(Box::new(server));
    }
    if load.connected > 0 {
        kept.push(Box::new(hold(&site, load.connected)?));
    }
    let pattern = load.pattern.to_possible_value().context("a pattern without a name")?;
    let number = |number: usize| number.to_string();
    let mut command = site.client(&["client", "--pattern", pattern.get_name()]);
    command.args(["--senders", &number(load.senders), "--payload", &number(load.payload)]);
    command.args(["--servers", &number(load.servers), "--called", &number(load.called)]);
    let client = MeasuredProcess::start("our client", &mut command)?;
    // Dropped last to first: servers before their broker, files at the end.
    kept.insert(0, Box::new(broker));
    kept.insert(0, Box::new(site));
    Ok(Chain { client, others, kept })
}

/// Connected clients in one process. Each has a few descriptors, and many systems allow 20,000 for
/// a process.
const HELD_BY_ONE: usize = 2_000;

/// Starts processes with connected clients.
pub(crate) fn hold(site: &Site, count: usize) -> anyhow::Result<Vec<MeasuredProcess>> {
    let mut holders = Vec::new();
    for first in (0..count).step_by(HELD_BY_ONE) {
        let count = HELD_BY_ONE.min(count - first);
        let holder =
            MeasuredProcess::spawn("connected clients", &mut site.client(&["hold", "--count", &count.to_string()]))?;
        holder.wait_ready(PATIENCE + Duration::from_millis(count as u64 * 20))?;
        holders.push(holder);
    }
    Ok(holders)
}

fn topic(n: usize) -> String {
    format!("t{n}")
}

/// A server process.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The name of its servers
    #[arg(long)]
    server: String,
    /// How many topics, each with a server of its own
    #[arg(long)]
    topics: usize,
    /// How many workers each of them has
    #[arg(long)]
    workers: Option<usize>,
    #[command(flatten)]
    common: CommonFlags,
}

impl Serve {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let config = self.common.setup(log::LevelFilter::Warn)?.config;
        let transport = Transport::new(TransportOptions::from(&config));
        let mut servers = Vec::new();
        for n in 0..self.topics {
            let methods = Methods::new()
                .method("echo", |payload: String| Ok(payload))?
                .method("note", |payload: String| {
                    drop(payload);
                    Ok(())
                })?
                .method("pause", |millis: u64| {
                    pause(Duration::from_millis(millis));
                    Ok(())
                })?;
            let target = Target::topic(topic(n))?.with_server(&self.server)?;
            let builder = RpcServer::builder(target).endpoint(methods).transport(transport.clone());
            let builder = builder.ipc_dir(find_ipc_dir(&config)?).config(config.clone());
            let builder = match self.workers {
                Some(workers) => builder.workers(workers),
                None => builder,
            };
            servers.push(builder.start()?);
        }
        for server in &servers {
            server.wait_ready(PATIENCE)?;
        }
        serve_until_stdin_ends().map_err(failed)
    }
}

#[expect(clippy::disallowed_methods, reason = "the handler must be slow")]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

pub(crate) fn failed(error: Error) -> Failure {
    Failure::new(zmqv2_broker::cli::Exit::Failed, anyhow::anyhow!(error))
}

/// A client process.
#[derive(Debug, Args)]
pub(crate) struct Client {
    #[arg(long)]
    pattern: Pattern,
    #[arg(long)]
    senders: usize,
    #[arg(long)]
    payload: usize,
    #[arg(long)]
    servers: usize,
    #[arg(long)]
    called: usize,
    #[command(flatten)]
    common: CommonFlags,
}

impl Client {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let client = client(&self.common)?;
        let services =
            (0..self.called).map(|n| client.prepare().topic(topic(n))).collect::<Result<Vec<RpcClient>, _>>()?;
        let services = Turns { services, next: Arc::default() };
        let payload = "x".repeat(self.payload);
        if self.pattern == Pattern::Call {
            let one = |_| {
                let (services, payload) = (services.clone(), payload.clone());
                move || {
                    let answer: String = services.next().call(&RequestContext::new(), "echo", &payload)?;
                    check(&answer, &payload)
                }
            };
            let mut senders: Vec<_> = (0..self.senders).map(one).collect();
            return measure(WARM_UP, |span| one_by_one(&mut senders, span)).map_err(failed);
        }
        let (context, pattern, servers) = (RequestContext::new(), self.pattern, self.servers);
        let mut pipeline = Pipeline { services, payload, context, pattern, servers, open: VecDeque::new() };
        measure(WARM_UP, |span| windowed(&mut pipeline, self.senders, span)).map_err(failed)
    }
}

pub(crate) fn client(common: &CommonFlags) -> Result<RpcClient, Failure> {
    let setup = common.setup(log::LevelFilter::Warn)?;
    let builder = RpcClient::builder(Target::topic(topic(0))?).matchmaker(setup.directory()?);
    Ok(builder.ipc_dir(find_ipc_dir(&setup.config)?).config(setup.config).build()?)
}

fn check(answer: &str, payload: &str) -> Result<(), Error> {
    if answer == payload { Ok(()) } else { Err("another payload came back".into()) }
}

/// Services in turn; clones share the turn.
#[derive(Clone)]
struct Turns {
    services: Vec<RpcClient>,
    next: Arc<AtomicUsize>,
}

impl Turns {
    fn next(&self) -> &RpcClient {
        match &self.services[..] {
            [one] => one,
            many => &many[self.next.fetch_add(1, Ordering::Relaxed) % many.len()],
        }
    }
}

enum Open {
    Call(CallHandle<String>),
    Cast(CastHandle),
    Fanout(FanoutHandle),
}

struct Pipeline {
    services: Turns,
    payload: String,
    context: RequestContext,
    pattern: Pattern,
    servers: usize,
    open: VecDeque<Open>,
}

impl Pipeline {
    fn end(&self, open: Open) -> Result<(), Error> {
        match open {
            Open::Call(handle) => check(&handle.wait()?, &self.payload),
            Open::Cast(handle) => match handle.wait(PATIENCE) {
                Some(outcome) if outcome.is_acked() => Ok(()),
                other => Err(format!("a cast came to {other:?}").into()),
            },
            Open::Fanout(handle) => match handle.wait(PATIENCE) {
                Some(report) if report.all_acked() && report.acked() == self.servers => Ok(()),
                other => Err(format!("a fanout came to {other:?}").into()),
            },
        }
    }
}

impl Window for Pipeline {
    fn send(&mut self) -> Result<(), Error> {
        let (service, context, payload) = (self.services.next(), &self.context, self.payload.as_str());
        self.open.push_back(match self.pattern {
            Pattern::Cast => Open::Cast(service.cast(context, "note", payload)?),
            Pattern::Fanout => Open::Fanout(service.fanout(context, "note", payload)?),
            Pattern::Call | Pattern::Later => Open::Call(service.call_async(context, "echo", payload)?),
        });
        Ok(())
    }

    /// Waits for the oldest, and also takes those behind it that have ended.
    fn settle(&mut self) -> Result<usize, Error> {
        let mut settled = 0;
        while let Some(open) = self.open.pop_front() {
            self.end(open)?;
            settled += 1;
            let more = self.open.front().is_some_and(|open| match open {
                Open::Call(handle) => handle.is_done(),
                Open::Cast(handle) => handle.outcome().is_some(),
                Open::Fanout(handle) => handle.report().is_some(),
            });
            if !more {
                break;
            }
        }
        Ok(settled)
    }
}

/// A process with many clients that have called once and are silent.
#[derive(Debug, Args)]
pub(crate) struct Hold {
    /// How many
    #[arg(long)]
    count: usize,
    #[command(flatten)]
    common: CommonFlags,
}

impl Hold {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let setup = self.common.setup(log::LevelFilter::Warn)?;
        let (config, directory) = (&setup.config, setup.directory()?);
        let transport = Transport::new(TransportOptions::from(config));
        let mut clients = Vec::new();
        for _ in 0..self.count {
            let builder = RpcClient::builder(Target::topic(topic(0))?).matchmaker(Arc::clone(&directory));
            let builder = builder.ipc_dir(find_ipc_dir(config)?).config(config.clone());
            let client = builder.transport(transport.clone()).build()?;
            client.ping()?;
            clients.push(client);
        }
        serve_until_stdin_ends().map_err(failed)
    }
}

/// A process that has many calls outstanding when a server dies.
#[derive(Debug, Args)]
pub(crate) struct Outstanding {
    /// How many
    #[arg(long)]
    count: usize,
    #[command(flatten)]
    common: CommonFlags,
}

impl Outstanding {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let client = client(&self.common)?;
        client.ping()?;
        let context = RequestContext::new();
        let send = |_| client.call_async::<()>(&context, "pause", &20_u64);
        let handles = (0..self.count).map(send).collect::<Result<Vec<_>, _>>()?;
        println!("ready");
        let (mut answered, mut lost, mut other) = (0_u64, 0_u64, 0_u64);
        for handle in handles {
            match handle.wait() {
                Ok(()) => answered += 1,
                Err(error) if error.reason() == Some(zmqv2_client::Reason::ServerLost) => lost += 1,
                Err(error) => {
                    eprintln!("{error}");
                    other += 1;
                }
            }
        }
        println!("{answered} {lost} {other}");
        Ok(())
    }
}

/// Kills one of two servers under load. Returns how many calls were answered, lost and ended
/// otherwise, and how many were in flight.
pub(crate) fn kill_one(count: usize, workers: Option<usize>) -> anyhow::Result<[f64; 4]> {
    let site = Site::new(1);
    let _broker = site.service().broker();
    let mut servers = Vec::new();
    for n in 0..2 {
        servers.push(MeasuredProcess::start("a server", &mut site.server(n, 1, workers))?);
    }
    let client =
        MeasuredProcess::start("our client", &mut site.client(&["outstanding", "--count", &count.to_string()]))?;
    let in_flight = site.service().status().in_flight;
    servers[0].kill();
    let line = client.read_line(Duration::from_secs(120))?;
    let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let [answered, lost, other] = numbers[..] else { bail!("a client printed {line:?}") };
    Ok([answered, lost, other, in_flight as f64])
}
