//! The durable store as the event loop uses it: what the engine wants written goes to the recorder, what is written comes
//! back to the engine, and what an earlier run left there is taken up at the start.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_proto::control::DeadLetter;
use zmqv2_proto::{Header, HeaderView, Kind, ServerName, TopicKey, Ttl};

use crate::driver::inbox::{Names, REQUEST_OVERHEAD};
use crate::driver::{Broker, now};
use crate::engine::{Arrival, Input, Pattern};
use crate::error::BrokerError;
use crate::message::payload::Payload;
use crate::store::{Buried, Change, Contents, Durable, Record, Recorder, Store, wall_clock_ms};

/// A store with a recorder, and which of the engine's tags each record that is being written has.
#[derive(Debug)]
pub(crate) struct StoreWriter {
    name: String,
    recorder: Recorder,
    writing: HashMap<u64, u64>,
}

impl StoreWriter {
    /// Opens the file, and reads what is in it.
    pub(crate) fn open(path: &Path, waker: Arc<mio::Waker>) -> Result<(Self, Contents), BrokerError> {
        let mut store = Durable::open(path)?;
        let (name, contents) = (store.name(), store.load()?);
        let wake = move || {
            if let Err(error) = waker.wake() {
                log::error!("cannot wake the event loop: {error}");
            }
        };
        let recorder = Recorder::start(Box::new(store), Box::new(wake)).map_err(BrokerError::Events)?;
        Ok((Self { name, recorder, writing: HashMap::new() }, contents))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Writes a copy of a notification.
    pub(crate) fn put(&mut self, tag: u64, number: u64, pool: Option<ServerName>, ttl: Ttl, payload: &Payload) {
        // It was read before; what does not decode is written as it is, and says so when it is read again.
        let header = Header::decode(payload.header()).map_or_else(
            |_| payload.header().to_vec(),
            |mut header| {
                (header.server, header.ttl) = (pool, ttl);
                header.encode()
            },
        );
        let expires_ms = wall_clock_ms().saturating_add(ttl.as_millis().into());
        self.writing.insert(number, tag);
        self.recorder.order(Change::Put(Record { number, header, body: payload.body().to_vec(), expires_ms }));
    }

    pub(crate) fn erase(&self, number: u64) {
        self.recorder.order(Change::Erase(number));
    }

    pub(crate) fn bury(&self, number: u64, why: String, deliveries: u16) {
        self.recorder.order(Change::Bury { number, why, deliveries: deliveries.into(), at_ms: wall_clock_ms() });
    }

    /// Tags of what is written now, or is not, and why.
    fn outcomes(&mut self) -> Vec<(u64, Result<(), String>)> {
        let mut out = Vec::new();
        while let Some(outcome) = self.recorder.outcome() {
            let tags = outcome.numbers.iter().filter_map(|number| self.writing.remove(number));
            out.extend(tags.map(|tag| (tag, outcome.result.clone())));
        }
        out
    }
}

impl Broker {
    /// Tells the engine what the recorder has done.
    pub(crate) fn take_outcomes(&mut self) {
        let outcomes = self.writer.as_mut().map(StoreWriter::outcomes).unwrap_or_default();
        for (tag, result) in outcomes {
            self.feed(Input::StoreResult { tag, result });
        }
    }

    /// Takes up what an earlier run has left in the store.
    pub(crate) fn restore(&mut self, contents: Contents) {
        self.engine.start_numbers_at(contents.next_number());
        let (now, clock) = (now(), wall_clock_ms());
        if !contents.live.is_empty() {
            log::info!("{} notifications are in the store", contents.live.len());
        }
        for record in contents.live {
            let number = record.number;
            if !self.restore_one(&record, now, clock) {
                log::error!("record {number} of the store is no notification; it is dropped");
                self.writer.as_ref().inspect(|writer| writer.erase(number));
            }
        }
        for buried in contents.dead {
            self.restore_letter(buried, now, clock);
        }
    }

    /// Whether it is a notification.
    fn restore_one(&mut self, record: &Record, now: Instant, clock: u64) -> bool {
        let deadline = record.ttl_left(clock).deadline(now);
        let Ok(view) = HeaderView::new(&record.header) else { return false };
        if view.kind() != Kind::Notify || TopicKey::parse(view.key()).is_err() {
            return false;
        }
        let names = Names::of(&view);
        let bytes = record.header.len() + record.body.len() + REQUEST_OVERHEAD;
        let arrival = Arrival {
            pattern: Pattern::Notify,
            server: &names.server,
            ..Arrival::new(view.id(), &names.key, deadline, bytes)
        };
        let payload = Payload::copied(&record.header, &record.body);
        self.engine.handle(now, Input::Restore { number: record.number, arrival, payload });
        self.perform();
        true
    }

    fn restore_letter(&mut self, buried: Buried, now: Instant, clock: u64) {
        let Buried { record, why, deliveries, at_ms } = buried;
        let Ok(Header { key: Some(key), server, id, .. }) = Header::decode(&record.header) else { return };
        let age = Duration::from_millis(clock.saturating_sub(at_ms));
        let since = now.checked_sub(age).unwrap_or(now);
        let deliveries = deliveries.try_into().unwrap_or(u16::MAX);
        self.dead_letters.add(DeadLetter::new(key, server, id), deliveries, why, &record.body, since);
    }
}
