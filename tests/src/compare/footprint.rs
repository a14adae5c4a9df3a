//! Sockets, connections, threads and memory of each process, by number of nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::stage::{Stage, TOPIC, Way, start};
use super::{Called, Plan};
use crate::kernel::memory_kib;
use crate::measure::{Progress, Spread};
use crate::messaging::Driver;
use crate::now;

/// Threads that call at the same time.
pub(super) const CALLERS: usize = 8;

/// What the processes of a driver need.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Footprint {
    pub(super) driver: String,
    pub(super) nodes: u8,
    /// Client, daemons, servers.
    pub(super) processes: Vec<Process>,
    /// TCP connections among all of them.
    pub(super) connections: usize,
}

/// What one kind of process needs, while calls are made: the most that was seen.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Process {
    pub(super) kind: &'static str,
    pub(super) sockets: Spread,
    pub(super) tcp: Spread,
    pub(super) threads: Spread,
    pub(super) memory_kib: Spread,
}

pub(super) fn measure(plan: &Plan, progress: &mut Progress) -> Result<Vec<Footprint>> {
    let mut all = Vec::new();
    for &nodes in &plan.nodes {
        for way in [Way::Legacy, Way::Zmqv2] {
            progress.step(&format!("processes of {nodes} nodes: {way}"));
            all.push(footprint(way, nodes, plan)?);
        }
    }
    Ok(all)
}

/// A server at every node; callers at one of them call all of these in turn.
fn footprint(way: Way, nodes: u8, plan: &Plan) -> Result<Footprint> {
    let mut stage = Stage::start(way.driver(), nodes, &["rpc_response_timeout=1", "rpc_thread_pool_size=8"])?;
    stage.serve_everywhere(8);
    let hosts: Vec<String> = (0..usize::from(nodes)).map(|n| stage.world.host(n).to_owned()).collect();
    // A pause: what loses its reply would hold its sockets for a second.
    let caller = if way.driver() == Driver::Legacy { Way::LegacyHelped(5) } else { way };
    let mut command = stage.contender(caller, 0);
    command.args(["call", TOPIC, "--threads", &CALLERS.to_string()]);
    for host in &hosts {
        command.args(["--server", host]);
    }
    // Long enough to reach every server several times.
    let calling = plan.calling + Duration::from_millis(20) * u32::from(nodes);
    command.args(["--seconds", &calling.as_secs_f64().to_string()]);
    let mut client = start(command).ready();
    let daemons: Vec<u32> = (0..hosts.len()).map(|n| stage.world.process(n).id()).collect();
    let servers: Vec<u32> = stage.servers.iter().map(|server| server.process.id()).collect();
    let kinds = [("client", vec![client.id()]), ("daemon", daemons), ("server", servers)];
    let mut most: Vec<Vec<[u64; 4]>> = kinds.iter().map(|(_, ids)| vec![[0; 4]; ids.len()]).collect();
    let (mut connections, end_at) = (0, now() + calling);
    while now() < end_at {
        let table = TcpTable::read();
        connections = connections.max(table.within(&hosts[0]));
        for ((_, ids), most) in kinds.iter().zip(&mut most) {
            for (id, most) in ids.iter().zip(most) {
                for (most, seen) in most.iter_mut().zip(look(*id, &table)) {
                    *most = (*most).max(seen);
                }
            }
        }
        crate::wait_until(now() + Duration::from_millis(50));
    }
    let _: Called = super::stage::said(&mut client, Duration::from_secs(60))?;
    let processes = kinds.iter().zip(&most).map(|((kind, _), most)| summary(kind, most)).collect();
    Ok(Footprint { driver: way.to_string(), nodes, processes, connections })
}

fn summary(kind: &'static str, most: &[[u64; 4]]) -> Process {
    let spread = |field: usize| {
        let values: Vec<f64> = most.iter().map(|seen| seen[field] as f64).collect();
        Spread::of(&values).unwrap_or(Spread { min: 0.0, median: 0.0, max: 0.0 })
    };
    Process { kind, sockets: spread(0), tcp: spread(1), threads: spread(2), memory_kib: spread(3) }
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
