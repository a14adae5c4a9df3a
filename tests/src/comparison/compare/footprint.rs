//! Sockets, connections, threads and memory of each process, by number of nodes.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::testbed::{TOPIC, Testbed, Variant, start};
use super::{CallResults, Plan};
use crate::kernel::memory_kib;
use crate::measure::{Progress, Spread, turns};
use crate::messaging::Driver;
use crate::now;

/// How calls are made during the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallStyle {
    /// This many threads, each of which waits for its answer.
    Blocking(usize),
    /// The same with a small connection pool: zmqv2 keeps little more than one connection to each
    /// node.
    SmallPool(usize),
    /// One thread with this many calls in flight, which the legacy driver cannot do.
    Async(usize),
}

pub(super) const CALL_STYLES: [CallStyle; 4] =
    [CallStyle::Blocking(1), CallStyle::Blocking(8), CallStyle::SmallPool(8), CallStyle::Async(8)];

/// A small pool keeps this many connections more than there are nodes.
pub(super) const SPARE: usize = 10;

impl CallStyle {
    /// The style that the legacy driver uses instead.
    pub(super) fn of_legacy(self) -> Self {
        match self {
            Self::Blocking(callers) | Self::SmallPool(callers) | Self::Async(callers) => Self::Blocking(callers),
        }
    }
}

impl std::fmt::Display for CallStyle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blocking(1) => f.write_str("1 caller"),
            Self::Blocking(callers) => write!(f, "{callers} callers"),
            Self::SmallPool(callers) => write!(f, "{callers} callers, small pool"),
            Self::Async(calls) => write!(f, "call_async, {calls}"),
        }
    }
}

/// The needs of all processes of a driver, over all rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Footprint {
    pub(super) driver: String,
    pub(super) nodes: u8,
    pub(super) style: String,
    pub(super) processes: Vec<ProcessFootprint>,
    pub(super) connections: Spread,
    /// Answers a second during the measurement.
    pub(super) rate: Spread,
}

/// The needs of one kind of process during calls: the maximum of each process in each round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ProcessFootprint {
    pub(super) kind: &'static str,
    pub(super) sockets: Spread,
    pub(super) tcp: Spread,
    pub(super) threads: Spread,
    pub(super) memory_kib: Spread,
}

/// The values of a driver in one style: one for each round, or one for each process in each round.
#[derive(Debug)]
struct Observations {
    variant: Variant,
    nodes: u8,
    style: CallStyle,
    connections: Vec<f64>,
    rates: Vec<f64>,
    /// The maximum of each process, by kind.
    processes: Vec<(&'static str, Vec<[u64; 4]>)>,
}

/// Starts a server at every node. A client at one node calls all of them in turn.
pub(super) fn measure(plan: &Plan, progress: &mut Progress) -> Result<Vec<Footprint>> {
    const VARIANTS: [Variant; 2] = [Variant::Legacy, Variant::Zmqv2];
    let mut all: Vec<Observations> = Vec::new();
    for &nodes in &plan.nodes {
        let styles = VARIANTS.into_iter().flat_map(|variant| CALL_STYLES.map(|style| (variant, style)));
        let possible =
            styles.filter(|(variant, style)| *variant == Variant::Zmqv2 || matches!(style, CallStyle::Blocking(_)));
        let first = all.len();
        all.extend(possible.map(|(variant, style)| Observations::new(variant, nodes, style)));
        for round in 0..plan.footprint_rounds {
            for variant in turns(round, VARIANTS.len()).map(|index| VARIANTS[index]) {
                progress.step(&format!(
                    "processes of {nodes} nodes: {variant}, round {} of {}",
                    round + 1,
                    plan.footprint_rounds
                ));
                // In zmqv2 this bounds the connections of a client, in the legacy driver those of
                // each address.
                let set = ["rpc_response_timeout=1", "rpc_thread_pool_size=8", "rpc_conn_pool_size=500"];
                let mut testbed = Testbed::start(variant.driver(), nodes, &set)?;
                testbed.serve_everywhere(8);
                for seen in all[first..].iter_mut().filter(|seen| seen.variant == variant) {
                    seen.observe(&testbed, plan)?;
                }
            }
        }
    }
    Ok(all.iter().filter_map(Observations::footprint).collect())
}

impl Observations {
    fn new(variant: Variant, nodes: u8, style: CallStyle) -> Self {
        let processes = ["client", "daemon", "server"].map(|kind| (kind, Vec::new())).to_vec();
        Self { variant, nodes, style, connections: Vec::new(), rates: Vec::new(), processes }
    }

    /// Makes calls, and samples all processes during them.
    fn observe(&mut self, testbed: &Testbed, plan: &Plan) -> Result<()> {
        let hosts: Vec<String> = (0..usize::from(self.nodes)).map(|n| testbed.nodes.host(n).to_owned()).collect();
        // Long enough to reach every server several times.
        let calling = plan.calling + Duration::from_millis(20) * u32::from(self.nodes);
        let mut client = start(self.command(testbed, &hosts, calling)).ready();
        let daemons: Vec<u32> = (0..hosts.len()).map(|n| testbed.nodes.process(n).id()).collect();
        let servers: Vec<u32> = testbed.servers.iter().map(|server| server.process.id()).collect();
        let ids = [vec![client.id()], daemons, servers];
        let mut most: Vec<Vec<[u64; 4]>> = ids.iter().map(|ids| vec![[0; 4]; ids.len()]).collect();
        let (mut connections, end_at) = (0, now() + calling);
        while now() < end_at {
            let table = TcpTable::read();
            connections = connections.max(table.within(&hosts[0]));
            for (id, most) in ids.iter().flatten().zip(most.iter_mut().flatten()) {
                for (most, seen) in most.iter_mut().zip(process_figures(*id, &table)) {
                    *most = (*most).max(seen);
                }
            }
            crate::wait_until(now() + Duration::from_millis(50));
        }
        let called: CallResults = super::testbed::results_of(&mut client, Duration::from_secs(60))?;
        self.connections.push(connections as f64);
        self.rates.push(called.answered as f64 / called.seconds);
        for ((_, all), most) in self.processes.iter_mut().zip(most) {
            all.extend(most);
        }
        Ok(())
    }

    fn command(&self, testbed: &Testbed, hosts: &[String], calling: Duration) -> Command {
        // The legacy driver needs the pause: a call that loses its reply would keep its sockets for
        // a second.
        let caller = if self.variant.driver() == Driver::Legacy { Variant::LegacyHelped(3) } else { self.variant };
        let mut command = testbed.process(caller, 0);
        if let CallStyle::SmallPool(_) = self.style {
            command.args(["--set", &format!("rpc_conn_pool_size={}", hosts.len() + SPARE)]);
        }
        command.args(["call", TOPIC, "--seconds", &calling.as_secs_f64().to_string()]);
        match self.style {
            CallStyle::Blocking(callers) | CallStyle::SmallPool(callers) => {
                command.args(["--threads", &callers.to_string()]);
            }
            CallStyle::Async(calls) => {
                command.args(["--window", &calls.to_string()]);
            }
        }
        command.args(hosts.iter().flat_map(|host| ["--server", host]));
        command
    }

    fn footprint(&self) -> Option<Footprint> {
        let process = |(kind, most): &(&'static str, Vec<[u64; 4]>)| {
            let spread = |field: usize| Spread::of(&most.iter().map(|seen| seen[field] as f64).collect::<Vec<_>>());
            let [sockets, tcp, threads, memory_kib] = [spread(0)?, spread(1)?, spread(2)?, spread(3)?];
            Some(ProcessFootprint { kind, sockets, tcp, threads, memory_kib })
        };
        Some(Footprint {
            driver: self.variant.to_string(),
            nodes: self.nodes,
            style: self.style.to_string(),
            processes: self.processes.iter().filter_map(process).collect(),
            connections: Spread::of(&self.connections)?,
            rate: Spread::of(&self.rates)?,
        })
    }
}

/// Sockets, established TCP connections, threads and resident KiB of a process; zeros when it is
/// gone.
fn process_figures(id: u32, table: &TcpTable) -> [u64; 4] {
    let Ok(files) = std::fs::read_dir(format!("/proc/{id}/fd")) else { return [0; 4] };
    let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    let names = links.map(|link| link.to_string_lossy().into_owned());
    let inodes: Vec<u64> =
        names.filter_map(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect();
    let tcp = inodes.iter().filter(|inode| table.established.contains(inode)).count();
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
    let memory = if threads > 0 && crate::kernel::is_alive(id) { memory_kib(id) } else { 0 };
    [inodes.len() as u64, tcp as u64, threads as u64, memory]
}

struct TcpTable {
    established: BTreeSet<u64>,
    ends: Vec<(String, String)>,
}

impl TcpTable {
    fn read() -> Self {
        let (mut established, mut ends) = (BTreeSet::new(), Vec::new());
        // Sockets for both families list their IPv4 connections in the second file.
        for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                // Columns: number, local, remote, state (01: established), ..., inode.
                if fields.len() > 9 && fields[3] == "01" {
                    established.extend(fields[9].parse::<u64>());
                    ends.push((fields[1].to_owned(), fields[2].to_owned()));
                }
            }
        }
        Self { established, ends }
    }

    /// The number of connections to daemons of the cluster of `host`.
    fn within(&self, host: &str) -> usize {
        let octets: Vec<u8> = host.split('.').filter_map(|octet| octet.parse().ok()).collect();
        let [a, b, c, _] = octets[..] else { return 0 };
        // The kernel prints the address bytes in memory order. The port of all daemons is 9501.
        let network = format!("{c:02X}{b:02X}{a:02X}:251D");
        self.ends.iter().filter(|(_, remote)| remote.ends_with(&network)).count()
    }
}
