//! Takes over the notifications that an earlier run has left in the store.

use std::time::{Duration, Instant};

use zmqv2_proto::control::DeadLetter;
use zmqv2_proto::{Header, HeaderView, Kind, TopicKey};

use super::actions::Routing;
use crate::engine::Input;
use crate::message::arrival::Names;
use crate::message::payload::Payload;
use crate::store::{Contents, DeadRecord, Record, wall_clock_ms};

pub(super) fn restore(routing: &mut Routing, contents: Contents) {
    routing.start_numbers_at(contents.next_number());
    let (now, wall_clock) = (routing.read_clock(), wall_clock_ms());
    if !contents.live.is_empty() {
        log::info!("{} notifications are in the store", contents.live.len());
    }
    for record in contents.live {
        if !restore_notification(routing, &record, now, wall_clock) {
            log::error!("record {} of the store is no notification; it is dropped", record.number);
            routing.store.erase(record.number);
        }
    }
    for dead in contents.dead {
        restore_dead_letter(routing, dead, now, wall_clock);
    }
}

/// Returns false if the record is not a notification.
fn restore_notification(routing: &mut Routing, record: &Record, now: Instant, wall_clock: u64) -> bool {
    let Ok(view) = HeaderView::new(&record.header) else { return false };
    if view.kind() != Kind::Notify || TopicKey::parse(view.key()).is_err() {
        return false;
    }
    let mut names = Names::default();
    // The time to live has gone on while no broker was running.
    let arrival = names.arrival(&view, record.ttl_left(wall_clock), record.bytes(), now);
    let payload = Payload::copied(&record.header, &record.body);
    routing.handle(Input::Restore { number: record.number, arrival, payload });
    true
}

fn restore_dead_letter(routing: &mut Routing, dead: DeadRecord, now: Instant, wall_clock: u64) {
    let DeadRecord { record, why, deliveries, at_ms } = dead;
    let Ok(Header { key: Some(key), server, id, .. }) = Header::decode(&record.header) else { return };
    let age = Duration::from_millis(wall_clock.saturating_sub(at_ms));
    let mut letter = DeadLetter::new(key, server, id);
    (letter.deliveries, letter.why) = (deliveries, why);
    routing.dead_letters.add(letter, &record.body, now.checked_sub(age).unwrap_or(now));
}
