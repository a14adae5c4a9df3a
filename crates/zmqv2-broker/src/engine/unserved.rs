//! Topics without a server, in which requests wait for one. They are bounded for each client, so
//! that no client uses up what others need (promise P5), and in all.

use std::collections::HashMap;

use super::Limits;

/// The number of a client's connection. It means nothing outside of the driver.
pub type ClientId = u64;

/// The numbers of topics without a server.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    total: usize,
    /// Of each client whose request was the first of such a topic.
    by_client: HashMap<ClientId, usize>,
}

impl Unserved {
    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn add(&mut self, client: Option<ClientId>) {
        self.total += 1;
        if let Some(client) = client {
            *self.by_client.entry(client).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, client: Option<ClientId>) {
        self.total -= 1;
        if let Some(client) = client
            && let Some(count) = self.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
    }

    /// Why this client cannot wait for one more topic.
    pub(super) fn why_full(&self, client: Option<ClientId>, limits: &Limits) -> Option<String> {
        let Limits { unserved_topics: most, unserved_topics_of_client: share, .. } = *limits;
        if self.total >= most {
            return Some(format!("messages wait for {most} topics that nobody serves, which is the most"));
        }
        let has = client.and_then(|client| self.by_client.get(&client)).is_some_and(|count| *count >= share);
        has.then(|| {
            format!(
                "messages of this client's connection wait for {share} topics that nobody serves, which is the most \
                 for one connection"
            )
        })
    }
}
