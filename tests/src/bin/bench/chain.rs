//! A chain of processes from client to server, and one measurement of it.

use std::any::Any;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use zmqv2_tests::PATIENCE;
use zmqv2_tests::measure::Sample;

use crate::process::{MeasuredProcess, Role, cpu_seconds, memory_kib};

/// Processes that are connected and ready.
pub(crate) struct Chain {
    pub(crate) client: MeasuredProcess,
    /// The other processes by role, without clients that are only connected.
    pub(crate) others: Vec<(Role, u32)>,
    /// Everything that must live as long as the chain. Dropped last to first.
    pub(crate) kept: Vec<Box<dyn Any>>,
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.client.kill();
        while self.kept.pop().is_some() {}
    }
}

/// The result that a client prints.
#[derive(Debug, Deserialize)]
struct ClientResult {
    messages: u64,
    seconds: f64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
}

/// Names of what is measured.
pub(crate) const RATE: &str = "rate";
pub(crate) const P50: &str = "p50";
pub(crate) const P99: &str = "p99";

/// The name of a role's processor time per message.
pub(crate) fn cpu_of(role: Role) -> String {
    format!("{} CPU", role.name())
}

/// The name of a role's resident memory.
pub(crate) fn memory_of(role: Role) -> String {
    format!("{} memory", role.name())
}

impl Chain {
    /// Measures for `span`: rate, latencies, processor time per message and memory of each role.
    pub(crate) fn measure(mut self, span: Duration) -> anyhow::Result<Vec<Sample>> {
        let client = [(Role::Client, self.client.id())];
        let all: Vec<(Role, u32)> = client.into_iter().chain(self.others.iter().copied()).collect();
        let cpu = |role: Role| all.iter().filter(|(s, _)| *s == role).map(|(_, pid)| cpu_seconds(*pid)).sum();
        let before = Role::ALL.map(cpu).into_iter().collect::<anyhow::Result<Vec<f64>>>()?;
        self.client.write_line(&span.as_secs_f64().to_string())?;
        let line = self.client.read_line(span + PATIENCE)?;
        let after = Role::ALL.map(cpu).into_iter().collect::<anyhow::Result<Vec<f64>>>()?;
        let result: ClientResult = serde_json::from_str(&line).with_context(|| format!("a client printed {line:?}"))?;
        let mut samples = vec![Sample::new(RATE, "1/s", result.messages as f64 / result.seconds)];
        samples.extend(result.p50_us.map(|value| Sample::new(P50, "us", value)));
        samples.extend(result.p99_us.map(|value| Sample::new(P99, "us", value)));
        for (index, role) in Role::ALL.into_iter().enumerate() {
            let pids: Vec<u32> = all.iter().filter(|(s, _)| *s == role).map(|(_, pid)| *pid).collect();
            if pids.is_empty() {
                continue;
            }
            let micros = (after[index] - before[index]) * 1e6 / result.messages.max(1) as f64;
            samples.push(Sample::new(cpu_of(role), "us", micros));
            let memory = pids.iter().map(|pid| memory_kib(*pid)).sum::<anyhow::Result<f64>>()?;
            samples.push(Sample::new(memory_of(role), "MiB", memory / 1024.0));
        }
        Ok(samples)
    }
}
