//! Runs clients, servers and listeners that write journals, and checks the journals at the end.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use tempfile::TempDir;

use crate::checker::{Expected, Report, check};
use crate::journal::{ClientJournal, Journals, Outcome, Part, ReportedOutcome};
use crate::{Node, Process};

/// The topic of every run.
pub const TOPIC: &str = "t";

/// A directory of journals. It starts the processes that write them.
#[derive(Debug)]
pub struct JournaledRun {
    dir: TempDir,
}

/// The summary that a client prints at its end.
#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    /// Messages that the client tried to send.
    pub sent: u64,
    /// From the first message to the last outcome.
    pub seconds: f64,
    /// The peak memory before the first message, in KiB.
    pub idle_kib: u64,
    /// The peak memory at the end, in KiB.
    pub peak_kib: u64,
    /// Messages that had to wait for room.
    pub slowed: u64,
    /// Messages that were refused for lack of room.
    pub full: u64,
    /// Messages without outcome when the client was closed.
    pub open: u64,
    pub resent: u64,
    /// Answers that came too late.
    pub late: u64,
    /// Answers that belong to no message.
    pub ignored: u64,
    /// Children that it has forked.
    pub forked: u64,
}

impl Drop for JournaledRun {
    /// The journals of a failed run are kept, because only they show how it failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("the journals are kept in {}", self.dir.path().display());
        }
    }
}

impl JournaledRun {
    #[must_use]
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("zj").tempdir().expect("a temporary directory") }
    }

    /// Starts a client at `node` and waits until it is ready.
    #[must_use]
    pub fn client(&self, node: &Node, client: &str, flags: &[&str]) -> Process {
        let mut command = node.command("journal-client", &[TOPIC, "--client", client]);
        self.start(client, command.args(flags))
    }

    /// Starts a server at `node` and waits until it is registered.
    #[must_use]
    pub fn server(&self, node: &Node, server: &str, workers: usize) -> Process {
        let mut command = node.command("journal-server", &[TOPIC, "--server", server]);
        self.start(server, command.arg("--workers").arg(workers.to_string()))
    }

    /// Starts a listener of this pool at `node` and waits until it is registered.
    #[must_use]
    pub fn listener(&self, node: &Node, pool: &str, flags: &[&str]) -> Process {
        let mut command = node.command("journal-listener", &[TOPIC, "--pool", pool]);
        self.start(&format!("listener of {pool}"), command.args(flags))
    }

    fn start(&self, name: &str, command: &mut Command) -> Process {
        Process::start(name, command.arg("--journal").arg(self.dir.path())).ready()
    }

    /// Reads and checks the journals, when their processes have ended.
    pub fn check(&self, expected: &Expected) -> (Journals, Report) {
        let journals = Journals::read(self.dir.path()).expect("journals");
        let report = check(&journals, expected);
        (journals, report)
    }
}

impl Default for JournaledRun {
    fn default() -> Self {
        Self::new()
    }
}

impl Summary {
    /// Waits for the end of a client, and returns its summary.
    #[must_use]
    pub fn of(client: &mut Process, timeout: Duration) -> Self {
        let status = client.wait_end(timeout);
        assert!(status.success(), "{status}: {}", client.stderr());
        let line = client.wait_for_line("summary");
        serde_json::from_str(line.trim_start_matches("summary")).expect("a summary")
    }

    /// Stops a client with SIGTERM and waits for its end.
    #[must_use]
    pub fn stop(client: &mut Process, timeout: Duration) -> Self {
        client.signal(Signal::TERM);
        Self::of(client, timeout)
    }
}

/// Stops servers or brokers in order: servers first run the messages that they have acknowledged.
pub fn stop_all(processes: &mut [Process], timeout: Duration) {
    for process in &*processes {
        process.signal(Signal::TERM);
    }
    for process in processes {
        let status = process.wait_end(timeout);
        assert!(status.success(), "{status}: {}", process.stderr());
    }
}

/// The times at which a client learnt that a message was accepted, sorted, in milliseconds of the
/// machine's monotonic clock.
pub fn acceptance_times(client: &ClientJournal) -> Vec<u64> {
    let answered = |reported: &&ReportedOutcome| match &reported.outcome {
        Outcome::Acked { .. } | Outcome::Replied { .. } => true,
        Outcome::Report(parts) => parts.iter().any(|part| matches!(part, Part::Acked(..) | Part::Stored(..))),
        _ => false,
    };
    let mut times: Vec<_> = client.outcomes.iter().filter(answered).map(|reported| reported.at).collect();
    times.sort_unstable();
    times
}
