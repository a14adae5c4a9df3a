//! The chain of raw libzmq: the package `tests/raw`, built as a separate project.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, ensure};
use zmqv2_tests::{Cluster, PATIENCE, binary};

use crate::chain::Chain;
use crate::process::{MeasuredProcess, Role};
use crate::workload::{Pattern, Workload};

/// The path of the program, which is built on first use.
fn program() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BUILT.get() {
        return Ok(built.clone());
    }
    let own = binary("bench");
    let target = own.ancestors().nth(2).context("no target directory")?.join("raw");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("raw/Cargo.toml");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]).arg(manifest);
    cargo.arg("--target-dir").arg(&target);
    // Cargo finds this workspace's settings for libzmq (`.cargo/config.toml`) from the current
    // directory.
    cargo.current_dir("/").env_remove("CFLAGS").env_remove("CXXFLAGS");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().contains("ZMQ")) {
        cargo.env_remove(name);
    }
    let status = cargo.status().context("cargo does not run")?;
    ensure!(status.success(), "the raw chain cannot be built: {status}");
    Ok(BUILT.get_or_init(|| target.join("release/zmqv2-raw")).clone())
}

/// Proxy and servers with their addresses.
pub(crate) struct Site {
    pub(crate) proxy: MeasuredProcess,
    servers: Vec<MeasuredProcess>,
    pub(crate) front: String,
    // Last, because it removes the directory.
    _cluster: Cluster,
}

impl Site {
    pub(crate) fn start(servers: usize, answer: &str) -> anyhow::Result<Self> {
        let cluster = Cluster::new(1, &[]);
        let node = cluster.node(0);
        let (front, back) =
            (format!("tcp://{}:9501", node.host), format!("ipc://{}", node.file("back.sock").display()));
        let proxy = MeasuredProcess::start("zmq_proxy", Command::new(program()?).args(["proxy", &front, &back]))?;
        // One worker each: more would only compete for the processor.
        let serve =
            |_| MeasuredProcess::start("a raw server", Command::new(program()?).args(["serve", &back, "1", answer]));
        let servers = (0..servers).map(serve).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { proxy, servers, front, _cluster: cluster })
    }

    pub(crate) fn hold(&self, count: usize) -> anyhow::Result<MeasuredProcess> {
        let words = ["hold", &self.front, &count.to_string()];
        let holder = MeasuredProcess::spawn("connected raw clients", Command::new(program()?).args(words))?;
        holder.wait_ready(PATIENCE + Duration::from_millis(count as u64 * 20))?;
        Ok(holder)
    }
}

/// The same shape as zmqv2, without logic. A fanout is one cast for each server.
pub(crate) fn start(load: &Workload) -> anyhow::Result<Chain> {
    let echo = matches!(load.pattern, Pattern::Call | Pattern::Later);
    let site = Site::start(load.servers, if echo { "echo" } else { "ack" })?;
    let mut others = vec![(Role::Broker, site.proxy.id())];
    others.extend(site.servers.iter().map(|server| (Role::Server, server.id())));
    let mut kept: Vec<Box<dyn Any>> = Vec::new();
    if load.connected > 0 {
        kept.push(Box::new(site.hold(load.connected)?));
    }
    let (senders, payload, group) = (load.senders.to_string(), load.payload.to_string(), load.servers.to_string());
    let words = match load.pattern {
        Pattern::Call => vec!["call", &site.front, &senders, &payload],
        Pattern::Later | Pattern::Cast => vec!["window", &site.front, &senders, &payload, "1"],
        Pattern::Fanout => vec!["window", &site.front, &senders, &payload, &group],
    };
    let client = MeasuredProcess::start("the raw client", Command::new(program()?).args(words))?;
    kept.insert(0, Box::new(site));
    Ok(Chain { client, others, kept })
}
