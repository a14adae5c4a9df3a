//! The nodes and processes of one driver.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use crate::messaging::{Driver, DriverCluster};
use crate::{PATIENCE, Process, binary, within};

pub(super) const TOPIC: &str = "t";

/// A server must have run its messages by then.
const SETTLED_BY: Duration = Duration::from_secs(60);

/// A driver, and the way in which it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The legacy driver as it is.
    Legacy,
    /// The legacy driver at its best: the SUB socket of a call uses an existing context, and has
    /// this many milliseconds to join.
    LegacyHelped(u64),
    /// zmqv2 with its defaults.
    Zmqv2,
    /// zmqv2 with messages that wait for a server, and are sent again when they may be lost.
    Zmqv2Patient,
}

impl Variant {
    pub fn driver(self) -> Driver {
        match self {
            Self::Legacy | Self::LegacyHelped(_) => Driver::Legacy,
            Self::Zmqv2 | Self::Zmqv2Patient => Driver::Zmqv2,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::LegacyHelped(_) => "legacy, helped",
            Self::Zmqv2 => "zmqv2",
            Self::Zmqv2Patient => "zmqv2, patient",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Nodes with daemons, and the servers at these nodes.
#[derive(Debug)]
pub struct Testbed {
    pub(super) nodes: DriverCluster,
    pub(super) servers: Vec<ServerProcess>,
    dir: tempfile::TempDir,
    set: Vec<String>,
    started: usize,
}

#[derive(Debug)]
pub(super) struct ServerProcess {
    pub(super) process: Process,
    state: PathBuf,
    pub(super) journal: PathBuf,
}

impl Testbed {
    /// Starts `nodes` nodes with a daemon each. `set`: options of all processes.
    pub fn start(driver: Driver, nodes: u8, set: &[&str]) -> Result<Self> {
        Ok(Self {
            nodes: DriverCluster::start(driver, nodes, &[TOPIC], set),
            servers: Vec::new(),
            dir: tempfile::tempdir()?,
            set: set.iter().map(|pair| (*pair).to_owned()).collect(),
            started: 0,
        })
    }

    /// A command of `compare-process` at a node.
    pub(super) fn process(&self, variant: Variant, node: usize) -> Command {
        let place = self.nodes.cluster().node(node);
        let mut command = Command::new(binary("compare-process"));
        if variant.driver() == Driver::Legacy {
            command.arg("--legacy");
        }
        match variant {
            Variant::Zmqv2Patient => drop(command.arg("--patient")),
            Variant::LegacyHelped(ms) => drop(command.args(["--help-with", &ms.to_string()])),
            Variant::Legacy | Variant::Zmqv2 => {}
        }
        command.args(place.options().iter().chain(&self.set).flat_map(|pair| ["--set", pair]));
        command
    }

    /// Starts a server at a node, and waits until it is ready.
    pub(super) fn serve(&mut self, node: usize, server: &str, workers: usize, takes: Duration) {
        let variant = if self.nodes.driver() == Driver::Legacy { Variant::Legacy } else { Variant::Zmqv2 };
        self.started += 1;
        let file = |kind: &str| self.dir.path().join(format!("{kind}-{}", self.started));
        let (state, journal) = (file("state"), file("journal"));
        let mut command = self.process(variant, node);
        command.args(["serve", TOPIC, "--server", server, "--workers", &workers.to_string()]);
        command.args(["--takes", &takes.as_micros().to_string()]);
        command.arg("--state").arg(&state).arg("--journal").arg(&journal);
        let process = Process::start(&format!("server {server}"), &mut command).ready();
        self.servers.push(ServerProcess { process, state, journal });
    }

    /// Starts a server at every node, under the name of the node.
    pub(super) fn serve_everywhere(&mut self, workers: usize) {
        for n in 0..self.nodes.cluster().nodes().len() {
            let host = self.nodes.host(n).to_owned();
            self.serve(n, &host, workers, Duration::ZERO);
        }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The number of messages that have run at all servers, and the time of the last one.
    pub(super) fn ran(&self) -> (u64, u64) {
        let states = self.servers.iter().map(ServerProcess::ran);
        states.fold((0, 0), |(count, last), (more, at)| (count + more, last.max(at)))
    }

    /// Waits until `expected` messages have run, or none has run for `quiet`. Returns their number
    /// and the time of the last one. If servers still run messages too late, these would count as
    /// lost, so that is an error.
    pub(super) fn settle(&self, expected: u64, quiet: Duration) -> Result<(u64, u64)> {
        let (mut seen, mut since) = (self.ran(), crate::now());
        let settled = within(SETTLED_BY, || {
            let ran = self.ran();
            if ran.0 != seen.0 {
                (seen, since) = (ran, crate::now());
            }
            seen.0 >= expected || since.elapsed() > quiet
        });
        let by_server: Vec<u64> = self.servers.iter().map(|server| server.ran().0).collect();
        ensure!(
            settled,
            "servers still run messages after {SETTLED_BY:?}: {} have run, by server {by_server:?}",
            seen.0
        );
        Ok(self.ran())
    }

    /// The number of each message that has run, once for each execution.
    pub(super) fn journal(&self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for server in &self.servers {
            let text = std::fs::read_to_string(&server.journal).unwrap_or_default();
            // The last line of a killed server may be cut off.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            for line in whole.lines() {
                numbers.push(line.parse().with_context(|| format!("{line:?} in {}", server.journal.display()))?);
            }
        }
        Ok(numbers)
    }
}

impl ServerProcess {
    pub(super) fn ran(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(&self.state).unwrap_or_default();
        let (count, last) = text.split_once(' ').unwrap_or_default();
        (count.parse().unwrap_or(0), last.parse().unwrap_or(0))
    }
}

pub(super) fn start(mut command: Command) -> Process {
    Process::start("compare-process", &mut command)
}

/// Waits for the end of a `compare-process`, and reads its results.
pub(super) fn results_of<T: DeserializeOwned>(process: &mut Process, patience: Duration) -> Result<T> {
    let ended = within(patience, || !crate::kernel::is_alive(process.id()));
    ensure!(ended, "a compare-process did not end within {patience:?}: {}", process.stderr());
    let status = process.wait_end(PATIENCE);
    ensure!(status.success(), "a compare-process failed: {}", process.stderr());
    Ok(serde_json::from_str(&process.stdout_to_end())?)
}
