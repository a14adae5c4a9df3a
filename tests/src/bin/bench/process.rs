//! The measured processes: their output, and their processor time and memory.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use zmqv2_tests::PATIENCE;

/// A process with the protocol of `measured_process`. It is killed when this is dropped.
pub(crate) struct MeasuredProcess {
    name: String,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl MeasuredProcess {
    /// Starts it and waits until it prints `ready`.
    pub(crate) fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let party = Self::spawn(name, command)?;
        party.wait_ready(PATIENCE)?;
        Ok(party)
    }

    /// Starts it. Call [`wait_ready`](Self::wait_ready) next.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().with_context(|| format!("cannot start {name}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{name} has no pipes")
        };
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, input, lines })
    }

    pub(crate) fn wait_ready(&self, patience: Duration) -> anyhow::Result<()> {
        match self.read_line(patience)?.as_str() {
            "ready" => Ok(()),
            other => bail!("{} printed {other:?} instead of \"ready\"", self.name),
        }
    }

    pub(crate) fn write_line(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.input, "{line}").with_context(|| format!("{} does not listen", self.name))
    }

    /// Waits for its next line.
    pub(crate) fn read_line(&self, patience: Duration) -> anyhow::Result<String> {
        self.lines.recv_timeout(patience).with_context(|| format!("{} prints nothing", self.name))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for MeasuredProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The role of a process in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Broker,
    Server,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Client, Self::Broker, Self::Server];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Broker => "broker",
            Self::Server => "server",
        }
    }
}

/// Seconds of processor time that a process has used (`/proc/PID/stat`, in steps of 10 ms).
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("a process has ended too early")?;
    // The fields follow the command's name, which may contain anything.
    let rest = stat.rsplit_once(')').context("a process without a name")?.1;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory of a process in KiB.
pub(crate) fn memory_kib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("a process has ended too early")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process without memory")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// The server of another system, which is ready when it listens. It is killed with all its
/// children.
#[cfg(feature = "peers")]
pub(crate) struct Daemon {
    child: Child,
    /// The started process may only be a parent of the one that works.
    listener: u32,
}

#[cfg(feature = "peers")]
impl Daemon {
    /// Starts it and waits until something listens at `address`.
    pub(crate) fn start(name: &str, command: &mut Command, address: &str) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt;
        // Its own process group, by which its children are found at the end.
        let spawned = command.process_group(0).stdin(Stdio::null()).spawn();
        let child = spawned.with_context(|| format!("cannot start {name}"))?;
        let mut daemon = Self { listener: child.id(), child };
        let end_at = zmqv2_tests::now() + 4 * PATIENCE;
        while std::net::TcpStream::connect(address).is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("{name} has ended: {status}");
            }
            if zmqv2_tests::now() > end_at {
                bail!("{name} does not listen at {address}");
            }
            zmqv2_tests::wait_until(zmqv2_tests::now() + Duration::from_millis(50));
        }
        daemon.listener = busiest(daemon.child.id())?;
        Ok(daemon)
    }

    pub(crate) fn id(&self) -> u32 {
        self.listener
    }

    pub(crate) fn kill(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

#[cfg(feature = "peers")]
impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The process of a group that has used the most processor time.
#[cfg(feature = "peers")]
fn busiest(group: u32) -> anyhow::Result<u32> {
    let mut found = (group, cpu_seconds(group)?);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        // State, parent, group.
        if fields.get(2).and_then(|field| field.parse().ok()) == Some(group) {
            let used = cpu_seconds(pid).unwrap_or(0.0);
            if used > found.1 {
                found = (pid, used);
            }
        }
    }
    Ok(found.0)
}
