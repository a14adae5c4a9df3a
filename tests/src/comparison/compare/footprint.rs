//! Sockets, connections, threads and memory of each process, by number of nodes.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::testbed::{Stage, TOPIC, Way, start};
use super::{Called, Plan};
use crate::kernel::memory_kib;
use crate::measure::{Progress, Spread, turns};
use crate::messaging::Driver;
use crate::now;

/// How calls are made while it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// By so many threads, each of which waits for its answer.
    Blocking(usize),
    /// The same, with a pool of zmqv2 that keeps little more than one connection to each node.
    SmallPool(usize),
    /// By one thread with so many calls on their way, which the legacy driver cannot.
    Async(usize),
}

pub(super) const MANNERS: [Manner; 4] =
    [Manner::Blocking(1), Manner::Blocking(8), Manner::SmallPool(8), Manner::Async(8)];

/// How many connections more than nodes a small pool keeps.
pub(super) const SPARE: usize = 10;

impl Manner {
    /// What the legacy driver does instead where it cannot do the same.
    pub(super) fn of_legacy(self) -> Self {
        match self {
            Self::Blocking(callers) | Self::SmallPool(callers) | Self::Async(callers) => Self::Blocking(callers),
        }
    }
}

impl std::fmt::Display for Manner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blocking(1) => f.write_str("1 caller"),
            Self::Blocking(callers) => write!(f, "{callers} callers"),
            Self::SmallPool(callers) => write!(f, "{callers} callers, small pool"),
            Self::Async(calls) => write!(f, "call_async, {calls}"),
        }
    }
}

/// What the processes of a driver need, in all rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Footprint {
    pub(super) driver: String,
    pub(super) nodes: u8,
    pub(super) manner: String,
    /// Client, daemons, servers.
    pub(super) processes: Vec<Process>,
    /// TCP connections among all of them.
    pub(super) connections: Spread,
    /// Answers a second meanwhile.
    pub(super) rate: Spread,
}

/// What one kind of process needs, while calls are made: the most that was seen, of each process in each round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Process {
    pub(super) kind: &'static str,
    pub(super) sockets: Spread,
    pub(super) tcp: Spread,
    pub(super) threads: Spread,
    pub(super) memory_kib: Spread,
}

/// What was seen of a driver in one manner: one value of each round, or of each process in each round.
#[derive(Debug)]
struct Seen {
    way: Way,
    nodes: u8,
    manner: Manner,
    connections: Vec<f64>,
    rates: Vec<f64>,
    /// The most of each process, by kind.
    processes: Vec<(&'static str, Vec<[u64; 4]>)>,
}

/// A server at every node; a client at one of them calls all of these in turn.
pub(super) fn measure(plan: &Plan, progress: &mut Progress) -> Result<Vec<Footprint>> {
    const WAYS: [Way; 2] = [Way::Legacy, Way::Zmqv2];
    let mut all: Vec<Seen> = Vec::new();
    for &nodes in &plan.nodes {
        let manners = WAYS.into_iter().flat_map(|way| MANNERS.map(|manner| (way, manner)));
        let possible = manners.filter(|(way, manner)| *way == Way::Zmqv2 || matches!(manner, Manner::Blocking(_)));
        let first = all.len();
        all.extend(possible.map(|(way, manner)| Seen::new(way, nodes, manner)));
        for round in 0..plan.footprint_rounds {
            for way in turns(round, WAYS.len()).map(|index| WAYS[index]) {
                progress.step(&format!(
                    "processes of {nodes} nodes: {way}, round {} of {}",
                    round + 1,
                    plan.footprint_rounds
                ));
                // zmqv2 counts the connections of a client, the legacy driver those of each address.
                let set = ["rpc_response_timeout=1", "rpc_thread_pool_size=8", "rpc_conn_pool_size=500"];
                let mut stage = Stage::start(way.driver(), nodes, &set)?;
                stage.serve_everywhere(8);
                for seen in all[first..].iter_mut().filter(|seen| seen.way == way) {
                    seen.look(&stage, plan)?;
                }
            }
        }
    }
    Ok(all.iter().filter_map(Seen::footprint).collect())
}

impl Seen {
    fn new(way: Way, nodes: u8, manner: Manner) -> Self {
        let processes = ["client", "daemon", "server"].map(|kind| (kind, Vec::new())).to_vec();
        Self { way, nodes, manner, connections: Vec::new(), rates: Vec::new(), processes }
    }

    /// Calls, and looks at all processes meanwhile.
    fn look(&mut self, stage: &Stage, plan: &Plan) -> Result<()> {
        let hosts: Vec<String> = (0..usize::from(self.nodes)).map(|n| stage.world.host(n).to_owned()).collect();
        // Long enough to reach every server several times.
        let calling = plan.calling + Duration::from_millis(20) * u32::from(self.nodes);
        let mut client = start(self.command(stage, &hosts, calling)).ready();
        let daemons: Vec<u32> = (0..hosts.len()).map(|n| stage.world.process(n).id()).collect();
        let servers: Vec<u32> = stage.servers.iter().map(|server| server.process.id()).collect();
        let ids = [vec![client.id()], daemons, servers];
        let mut most: Vec<Vec<[u64; 4]>> = ids.iter().map(|ids| vec![[0; 4]; ids.len()]).collect();
        let (mut connections, end_at) = (0, now() + calling);
        while now() < end_at {
            let table = TcpTable::read();
            connections = connections.max(table.within(&hosts[0]));
            for (id, most) in ids.iter().flatten().zip(most.iter_mut().flatten()) {
                for (most, seen) in most.iter_mut().zip(look(*id, &table)) {
                    *most = (*most).max(seen);
                }
            }
            crate::wait_until(now() + Duration::from_millis(50));
        }
        let called: Called = super::testbed::said(&mut client, Duration::from_secs(60))?;
        self.connections.push(connections as f64);
        self.rates.push(called.answered as f64 / called.seconds);
        for ((_, all), most) in self.processes.iter_mut().zip(most) {
            all.extend(most);
        }
        Ok(())
    }

    fn command(&self, stage: &Stage, hosts: &[String], calling: Duration) -> Command {
        // A pause: what loses its reply would hold its sockets for a second.
        let caller = if self.way.driver() == Driver::Legacy { Way::LegacyHelped(3) } else { self.way };
        let mut command = stage.contender(caller, 0);
        if let Manner::SmallPool(_) = self.manner {
            command.args(["--set", &format!("rpc_conn_pool_size={}", hosts.len() + SPARE)]);
        }
        command.args(["call", TOPIC, "--seconds", &calling.as_secs_f64().to_string()]);
        match self.manner {
            Manner::Blocking(callers) | Manner::SmallPool(callers) => {
                command.args(["--threads", &callers.to_string()]);
            }
            Manner::Async(calls) => {
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
            Some(Process { kind, sockets, tcp, threads, memory_kib })
        };
        Some(Footprint {
            driver: self.way.to_string(),
            nodes: self.nodes,
            manner: self.manner.to_string(),
            processes: self.processes.iter().filter_map(process).collect(),
            connections: Spread::of(&self.connections)?,
            rate: Spread::of(&self.rates)?,
        })
    }
}

/// Sockets, established TCP connections, threads and resident KiB of a process; zeros when it is gone.
fn look(id: u32, table: &TcpTable) -> [u64; 4] {
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

/// The kernel's table of TCP connections.
struct TcpTable {
    established: BTreeSet<u64>,
    /// Both ends of each.
    ends: Vec<(String, String)>,
}

impl TcpTable {
    fn read() -> Self {
        let (mut established, mut ends) = (BTreeSet::new(), Vec::new());
        // Sockets for both families have their IPv4 connections in the second one.
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

    /// How many connections to the daemons of the cluster of `host` there are.
    fn within(&self, host: &str) -> usize {
        let octets: Vec<u8> = host.split('.').filter_map(|octet| octet.parse().ok()).collect();
        let [a, b, c, _] = octets[..] else { return 0 };
        // The kernel prints an address as the number that its bytes make in memory; the port of all daemons is 9501.
        let network = format!("{c:02X}{b:02X}{a:02X}:251D");
        self.ends.iter().filter(|(_, remote)| remote.ends_with(&network)).count()
    }
}
