//! The store as the event loop uses it. Without a file it does nothing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use zmqv2_proto::{Header, ServerName, Ttl};

use super::{Change, CommitThread, Contents, FileStore, Record, Store, StoreError, wall_clock_ms};
use crate::message::payload::Payload;

/// Sends changes to the thread that commits them, and relates its results to the engine's tags.
pub(crate) struct StoreWriter {
    name: String,
    commits: Option<CommitThread>,
    /// The engine's tags of the records that are being written.
    writing: HashMap<u64, u64>,
}

impl StoreWriter {
    pub(crate) fn open(path: Option<&Path>, waker: Arc<mio::Waker>) -> Result<(Self, Contents), StoreError> {
        let writing = HashMap::new();
        let Some(path) = path else {
            return Ok((Self { name: "memory".to_owned(), commits: None, writing }, Contents::default()));
        };
        let mut store = FileStore::open(path)?;
        let (name, contents) = (store.name(), store.load()?);
        let wake = move || {
            if let Err(error) = waker.wake() {
                log::error!("cannot wake the event loop: {error}");
            }
        };
        let commits = CommitThread::start(Box::new(store), Box::new(wake)).map_err(StoreError::Thread)?;
        Ok((Self { name, commits: Some(commits), writing }, contents))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.commits.is_some()
    }

    pub(crate) fn put(&mut self, tag: u64, number: u64, pool: Option<ServerName>, ttl: Ttl, payload: &Payload) {
        // A header that cannot be decoded is written unchanged. The next start reports it.
        let header = Header::decode(payload.header()).map_or_else(
            |_| payload.header().to_vec(),
            |mut header| {
                (header.server, header.ttl) = (pool, ttl);
                header.encode()
            },
        );
        let expires_ms = wall_clock_ms().saturating_add(ttl.as_millis().into());
        self.writing.insert(number, tag);
        self.submit(Change::Put(Record { number, header, body: payload.body().to_vec(), expires_ms }));
    }

    pub(crate) fn erase(&self, number: u64) {
        self.submit(Change::Erase(number));
    }

    pub(crate) fn move_to_dead_letters(&self, number: u64, why: String, deliveries: u16) {
        let (deliveries, at_ms) = (deliveries.into(), wall_clock_ms());
        self.submit(Change::MoveToDeadLetters { number, why, deliveries, at_ms });
    }

    fn submit(&self, change: Change) {
        if let Some(commits) = &self.commits {
            commits.submit(change);
        }
    }

    /// The tags of records that have been written or have failed, with the cause of the failure.
    pub(crate) fn results(&mut self) -> Vec<(u64, Result<(), String>)> {
        let mut results = Vec::new();
        while let Some(outcome) = self.commits.as_ref().and_then(CommitThread::outcome) {
            let tags = outcome.numbers.iter().filter_map(|number| self.writing.remove(number));
            results.extend(tags.map(|tag| (tag, outcome.result.clone())));
        }
        results
    }
}
