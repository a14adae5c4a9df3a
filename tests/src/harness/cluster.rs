//! Nodes on one machine. Each has a loopback address and a socket directory. All share one
//! directory of services: a ring file, or Redis.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Map, Value};
use tempfile::TempDir;
use zmqv2_client::RpcClient;
use zmqv2_proto::control::StatusReport;
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{Config, Target};

use crate::{Finished, PATIENCE, Process, binary};

#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    ring_file: PathBuf,
    _claim: TcpListener,
    // Removed last.
    _dir: TempDir,
}

#[derive(Debug)]
pub struct Node {
    /// Its address, which is also its name.
    pub host: String,
    pub ipc_dir: PathBuf,
    /// Options that name the directory of services, as `option=value`.
    directory: Vec<String>,
    ring_file: PathBuf,
}

/// The first three bytes of an address. No other cluster on this machine has them while the
/// listener lives.
///
/// Process id and counter keep test binaries and their tests apart most of the time. The listener
/// always does.
fn claim_subnet() -> (String, TcpListener) {
    static CLUSTERS: AtomicU8 = AtomicU8::new(0);
    let first = std::process::id();
    let mut tries = (0..250).map(|n| {
        let subnet = format!("127.{}.{}", 1 + (first + n) % 250, CLUSTERS.fetch_add(1, Ordering::Relaxed));
        TcpListener::bind(format!("{subnet}.1:9500")).map(|claim| (subnet, claim))
    });
    tries.find_map(Result::ok).expect("a free subnet of the loopback network")
}

impl Cluster {
    /// Makes `count` nodes, with each topic of `topics` on all of them.
    #[must_use]
    pub fn new(count: u8, topics: &[&str]) -> Self {
        let cluster = Self::nodes_of(count, None);
        let all: Vec<_> = cluster.nodes.iter().map(|node| Value::from(node.host.as_str())).collect();
        cluster.write_ring(topics.iter().map(|topic| ((*topic).to_owned(), Value::from(all.clone()))).collect());
        cluster
    }

    /// Makes `count` nodes with these options, as `option=value`. They name the directory of
    /// services.
    #[must_use]
    pub fn with_directory(count: u8, options: &[String]) -> Self {
        Self::nodes_of(count, Some(options))
    }

    fn nodes_of(count: u8, directory: Option<&[String]>) -> Self {
        let dir = tempfile::Builder::new().prefix("zq").tempdir().expect("a temporary directory");
        let ring_file = dir.path().join("ring.json");
        let (subnet, claim) = claim_subnet();
        let nodes = (2..2 + count)
            .map(|n| {
                let ipc_dir = dir.path().join(format!("n{n}"));
                std::fs::create_dir(&ipc_dir).expect("a directory");
                let ring = || vec!["rpc_zmq_matchmaker=ring".to_owned(), format!("ringfile={}", ring_file.display())];
                let directory = directory.map_or_else(ring, <[_]>::to_vec);
                Node { host: format!("{subnet}.{n}"), ipc_dir, directory, ring_file: ring_file.clone() }
            })
            .collect();
        Self { nodes, ring_file, _claim: claim, _dir: dir }
    }

    pub fn write_ring(&self, ring: Map<String, Value>) {
        self.write_ring_text(&Value::from(ring).to_string());
    }

    /// Replaces the ring file with any text.
    pub fn write_ring_text(&self, text: &str) {
        let next = self.ring_file.with_extension("next");
        std::fs::write(&next, text).expect("a file");
        std::fs::rename(&next, &self.ring_file).expect("a file");
    }

    pub fn node(&self, n: usize) -> &Node {
        &self.nodes[n]
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

impl Node {
    /// A command that runs a binary with the flags of this node.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(name));
        // A subcommand comes before its flags.
        let (verb, arguments) = match arguments.split_first() {
            Some((first, rest)) if !first.starts_with('-') => (Some(first), rest),
            _ => (None, arguments),
        };
        command.args(verb);
        command.args(self.directory.iter().flat_map(|option| ["--set", option]));
        command.args(["--host", &self.host, "--bind", &self.host]).arg("--ipc-dir").arg(&self.ipc_dir);
        // Later settings win.
        command.args(arguments);
        // Settings in the environment of the test run are not meant for the nodes.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OS_")) {
            command.env_remove(name);
        }
        command
    }

    /// Starts the node's broker and waits until it is ready.
    #[must_use]
    pub fn broker(&self) -> Process {
        self.broker_with(&[])
    }

    /// Starts the node's broker with more flags.
    #[must_use]
    pub fn broker_with(&self, flags: &[&str]) -> Process {
        Process::start(&format!("broker of {}", self.host), &mut self.command("zmqv2-broker", flags)).ready()
    }

    /// Starts `zmqv2 serve` and waits until it is ready.
    #[must_use]
    pub fn serve(&self, topic: &str, server: &str, flags: &[&str]) -> Process {
        let mut command = self.command("zmqv2", &["serve", topic, "--server", server]);
        Process::start(&format!("server {server}"), command.args(flags)).ready()
    }

    /// Runs a command of the tool to its end.
    pub fn tool(&self, arguments: &[&str]) -> Finished {
        Process::run(&mut self.command("zmqv2", arguments))
    }

    /// The options of a process at this node, as `option=value`: host, bind address, socket
    /// directory and directory of services. Both drivers know these names.
    pub fn options(&self) -> Vec<String> {
        let own = [
            format!("rpc_zmq_host={}", self.host),
            format!("rpc_zmq_bind_address={}", self.host),
            format!("rpc_zmq_ipc_dir={}", self.ipc_dir.display()),
        ];
        own.into_iter().chain(self.directory.iter().cloned()).collect()
    }

    /// The node's configuration, for clients and servers inside the test.
    pub fn config(&self) -> Config {
        let options = self.options();
        let pairs = options.iter().map(|option| option.split_once('=').expect("option=value"));
        let builder = pairs.fold(Config::builder(), |builder, (name, value)| builder.set(name, value));
        builder.build().expect("a valid configuration").config
    }

    /// A client inside the test's process, at this node.
    pub fn client(&self, target: Target) -> RpcClient {
        self.client_with(target, |_| {})
    }

    pub fn client_with(&self, target: Target, change: impl FnOnce(&mut Config)) -> RpcClient {
        let mut config = self.config();
        change(&mut config);
        let directory = zmqv2_matchmaker::open(&config).expect("a directory");
        let builder = RpcClient::builder(target).matchmaker(directory).ipc_dir(&self.ipc_dir);
        builder.config(config).build().expect("a client")
    }

    /// The status report of the node's broker.
    pub fn status(&self) -> StatusReport {
        let transport = Transport::new(TransportOptions::default());
        zmqv2_broker::query_status(&transport, &self.ipc_dir, PATIENCE).expect("a report")
    }

    /// The ring file, which all nodes share.
    pub fn ring_file(&self) -> &Path {
        &self.ring_file
    }

    /// The path of a file in the node's socket directory.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.ipc_dir.join(name)
    }
}
