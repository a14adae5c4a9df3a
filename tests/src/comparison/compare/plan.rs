//! How much is measured.

use std::time::Duration;

use super::Variant;

/// The sizes of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Alternations of everything that is fast or slow.
    pub rounds: usize,
    /// Alternations of what processes need.
    pub footprint_rounds: usize,
    /// Alternations of faults.
    pub fault_rounds: usize,
    /// Numbers of threads that call.
    pub callers: Vec<usize>,
    /// How long they do.
    pub calling: Duration,
    /// Casts of a round.
    pub casts: u64,
    /// Fanouts of a round.
    pub fanouts: u64,
    /// Numbers of servers of a fanout.
    pub fanout_servers: Vec<usize>,
    /// Numbers of nodes.
    pub nodes: Vec<u8>,
    /// Messages of a fault.
    pub fault_messages: u64,
    /// Who meets the faults.
    pub fault_variants: Vec<Variant>,
}

impl Plan {
    /// What the report of a release says: less than ten minutes on two cores.
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

    /// Only enough to see that everything works.
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

    /// How many steps that are.
    pub(super) fn steps(&self) -> usize {
        let speed = self.rounds * (3 * self.callers.len() + 2 + 2 * self.fanout_servers.len());
        let footprint = 2 * self.footprint_rounds * self.nodes.len();
        speed + footprint + self.fault_rounds * super::faults::FAULTS.len() * self.fault_variants.len()
    }
}
