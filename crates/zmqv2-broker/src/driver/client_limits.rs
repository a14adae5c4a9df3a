//! The clients that take smaller bodies than this broker. Most take the same, and are not listed.

use std::collections::{HashMap, VecDeque};

use crate::engine::ClientId;

/// The most clients. Above it, those that came first are forgotten. A reply that is too large for
/// one of them breaks its connection then.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct ClientLimits {
    limits: HashMap<ClientId, usize>,
    /// In the order in which they came.
    order: VecDeque<ClientId>,
}

impl ClientLimits {
    /// Notes the limit of a client; `None`: it has none that matters.
    pub(super) fn set(&mut self, client: ClientId, limit: Option<usize>) {
        match limit {
            None => drop(self.limits.remove(&client)),
            Some(limit) => {
                if self.limits.insert(client, limit).is_none() {
                    self.order.push_back(client);
                }
                while self.order.len() > MOST {
                    let first = self.order.pop_front();
                    first.and_then(|client| self.limits.remove(&client));
                }
            }
        }
    }

    pub(super) fn of(&self, client: ClientId) -> usize {
        if self.limits.is_empty() {
            return usize::MAX;
        }
        self.limits.get(&client).copied().unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_clients_are_remembered() {
        let mut limits = ClientLimits::default();
        assert_eq!(limits.of(0), usize::MAX);
        for client in 0..=MOST as u64 {
            limits.set(client, Some(7));
            limits.set(client, Some(8));
        }
        assert_eq!([0, 1, MOST as u64].map(|client| limits.of(client)), [usize::MAX, 8, 8]);
        limits.set(1, None);
        assert_eq!((limits.of(1), limits.limits.len(), limits.order.len()), (usize::MAX, MOST - 1, MOST));
    }
}
