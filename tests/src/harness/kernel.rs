//! Facts from the kernel about processes and connections (Linux).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

pub fn memory_kib(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most resident memory that a process has had so far, in KiB.
pub fn peak_memory_kib(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a process with memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// Ids of the other processes that have `text` in their command line.
pub fn processes_with(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the command's name, which may contain anything.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// How many established TCP connections end at the IPv4 address `to`.
pub fn tcp_connections_to(to: SocketAddr) -> usize {
    let IpAddr::V4(host) = to.ip() else { panic!("{to} is not IPv4") };
    let wanted = format!("{:08X}:{:04X}", u32::from_le_bytes(Ipv4Addr::octets(&host)), to.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    // Columns: number, local, remote, state; 01 is ESTABLISHED.
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    table.lines().map(fields).filter(|f| f.len() > 3 && f[2] == wanted && f[3] == "01").count()
}

pub fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Cuts the connections that this process has accepted at a local socket. Returns how many.
pub fn cut_accepted_at(path: &Path) -> usize {
    use rustix::net::{Shutdown, SocketAddrUnix, getpeername, getsockname, shutdown};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let numbers = names_in(Path::new("/proc/self/fd")).into_iter().filter_map(|name| name.parse().ok());
    let accepted = numbers.filter(|number| {
        // A copy of the descriptor, which is the same socket.
        let Ok(fd) = pidfd_getfd(&own, *number, PidfdGetfdFlags::empty()) else { return false };
        let at = getsockname(&fd).ok().and_then(|address| SocketAddrUnix::try_from(address).ok());
        let is_there = at.is_some_and(|at| at.path_bytes() == Some(path.as_os_str().as_encoded_bytes()));
        is_there && getpeername(&fd).is_ok() && shutdown(&fd, Shutdown::Both).is_ok()
    });
    accepted.count()
}
