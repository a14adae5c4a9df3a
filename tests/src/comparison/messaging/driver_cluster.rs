//! Nodes with the daemons of one of the drivers.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value};
use zmqv2_proto::Priority;

use super::{Messaging, OverLegacy, OverZmqv2};
use crate::legacy::{Help, Options};
use crate::{Cluster, Process, binary};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// The legacy driver, in Rust.
    Legacy,
    Zmqv2,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy",
            Self::Zmqv2 => "zmqv2",
        })
    }
}

/// The settings of a driver in one process.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Modules whose errors keep their class.
    pub allowed_modules: Vec<String>,
    pub response_timeout: Duration,
    pub help: Help,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            allowed_modules: Vec::new(),
            response_timeout: Duration::from_secs(10),
            // Most tests are not about replies that arrive too early. On a busy machine joining
            // takes long, and no event announces it.
            help: Help { shared_context: false, pause: Duration::from_millis(250) },
        }
    }
}

/// A few nodes, each with a daemon.
#[derive(Debug)]
pub struct DriverCluster {
    driver: Driver,
    cluster: Cluster,
    daemons: Vec<Process>,
    ring: Map<String, Value>,
    set: Vec<String>,
}

impl DriverCluster {
    /// Starts `nodes` nodes. Each topic and its notifications are on all of them. `set`: options
    /// for the daemons, `NAME=VALUE`.
    #[must_use]
    pub fn start(driver: Driver, nodes: u8, topics: &[&str], set: &[&str]) -> Self {
        let cluster = Cluster::new(nodes, &[]);
        let set = set.iter().map(|pair| (*pair).to_owned()).collect();
        let mut world = Self { driver, cluster, daemons: Vec::new(), ring: Map::new(), set };
        let all: Vec<usize> = (0..usize::from(nodes)).collect();
        for topic in topics {
            world.place(topic, &all);
        }
        for n in all {
            world.daemons.push(world.daemon(n));
        }
        world
    }

    /// Puts a topic and its notifications on these nodes.
    pub fn place(&mut self, topic: &str, nodes: &[usize]) {
        let hosts: Vec<Value> = nodes.iter().map(|n| self.host(*n).into()).collect();
        // In the legacy driver a dot would start the name of a host.
        let notified = Priority::ALL.into_iter().flat_map(|p| [format!("{topic}.{p}"), format!("{topic}-{p}")]);
        for name in std::iter::once(topic.to_owned()).chain(notified) {
            self.ring.insert(name, hosts.clone().into());
        }
        self.cluster.write_ring(self.ring.clone());
    }

    pub fn restart_daemon(&mut self, n: usize) {
        self.daemons[n].kill9();
        self.daemons[n] = self.daemon(n);
    }

    pub fn stop_daemon(&mut self, n: usize) {
        self.daemons[n].kill9();
    }

    fn daemon(&self, n: usize) -> Process {
        let node = self.cluster.node(n);
        let mut command = match self.driver {
            Driver::Zmqv2 => node.command("zmqv2-broker", &[]),
            Driver::Legacy => {
                let mut command = Command::new(binary("legacy-receiver"));
                command.args(node.options().iter().flat_map(|pair| ["--set", pair]));
                command
            }
        };
        for pair in &self.set {
            command.args(["--set", pair]);
        }
        Process::start(&format!("daemon of {}", node.host), &mut command).ready()
    }

    pub fn driver(&self) -> Driver {
        self.driver
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn host(&self, n: usize) -> &str {
        &self.cluster.node(n).host
    }

    #[must_use]
    pub fn process(&self, n: usize) -> &Process {
        &self.daemons[n]
    }

    /// The driver as a process at node `n`.
    pub fn at(&self, n: usize) -> Box<dyn Messaging> {
        self.at_with(n, Setup::default())
    }

    /// The driver as a process at node `n`, with these settings.
    pub fn at_with(&self, n: usize, setup: Setup) -> Box<dyn Messaging> {
        match self.driver {
            Driver::Zmqv2 => Box::new(OverZmqv2::new(self.cluster.node(n), setup)),
            Driver::Legacy => {
                let options = Options::from_pairs(&self.cluster.node(n).options()).expect("options");
                Box::new(OverLegacy::new(options, setup))
            }
        }
    }
}
