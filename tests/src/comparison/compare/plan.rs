//! How much is measured.

use std::time::Duration;

use super::Variant;

/// The sizes of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rounds: usize,
    pub footprint_rounds: usize,
    pub fault_rounds: usize,
    /// The numbers of calling threads.
    pub callers: Vec<usize>,
    /// How long each of them calls.
    pub calling: Duration,
    pub casts: u64,
    pub fanouts: u64,
    /// The numbers of servers of a fanout.
    pub fanout_servers: Vec<usize>,
    pub nodes: Vec<u8>,
    pub fault_messages: u64,
    /// The variants that are measured under faults.
    pub fault_variants: Vec<Variant>,
}

impl Plan {
    /// The full plan, for the report: less than ten minutes on two cores.
    #[must_use]
    pub fn full() -> Self {
        Self {
            rounds: 5,
            footprint_rounds: 3,
            fault_rounds: 3,
            callers: vec![1, 8, 64],
            calling: Duration::from_millis(1_500),
            casts: 20_000,
            fanouts: 500,
            fanout_servers: vec![3, 30],
            nodes: vec![1, 10, 50],
            fault_messages: 3_000,
            fault_variants: vec![Variant::Legacy, Variant::Zmqv2, Variant::Zmqv2Patient],
        }
    }

    /// A plan that only shows that everything works.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            footprint_rounds: 1,
            fault_rounds: 1,
            callers: vec![1, 4],
            calling: Duration::from_millis(300),
            casts: 300,
            fanouts: 20,
            fanout_servers: vec![2],
            nodes: vec![1, 2],
            fault_messages: 2_600,
            fault_variants: vec![Variant::Legacy, Variant::Zmqv2],
        }
    }

    pub(super) fn steps(&self) -> usize {
        let speed = self.rounds * (3 * self.callers.len() + 2 + 2 * self.fanout_servers.len());
        let footprint = 2 * self.footprint_rounds * self.nodes.len();
        speed + footprint + self.fault_rounds * super::faults::FAULTS.len() * self.fault_variants.len()
    }
}
