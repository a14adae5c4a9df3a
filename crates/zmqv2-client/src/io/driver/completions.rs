//! The end of a message: it is counted, observed and told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use zmqv2_proto::{Kind, Reason, Target};

use super::Driver;
use crate::delivery::table::Ending;
use crate::io::outbound::{Content, Parcel, Receipt, Word};
use crate::outcome::completion::{Given, Promise};
use crate::outcome::result_group::Share;
use crate::outcome::{Finish, Outcome};

/// What is told when room has been given back.
pub(super) enum Told {
    One(Promise, Finish),
    Part(Share),
}

impl Driver {
    /// The message has its outcome; it is told when its room has been given back.
    pub(super) fn end(&mut self, parcel: Parcel, ending: Ending<Word>, now: Instant) {
        if let Ending::NoAnswer { candidate } = &ending
            && let Some(topic) = parcel.content.for_any()
            && let Some(destination) = parcel.destination(*candidate, &self.router)
        {
            self.router.health().mark_refused(&destination.address, &topic, now);
        }
        if parcel.content.kind == Kind::Inquire {
            // It took no room, and is no message of its own.
            self.inquiries -= 1;
            let finish = parcel.finish(ending, &self.router, now);
            if let Receipt::One(promise) = parcel.receipt {
                promise.give(finish);
            }
            return;
        }
        if let Some(search) = &parcel.search {
            match &ending {
                Ending::Answered(_) => search.found(),
                Ending::ConnectionLost { .. } => search.not_found(),
                Ending::Refused(refusal, _) if refusal.reason == Reason::ServerLost => search.not_found(),
                _ => {}
            }
        }
        self.ended_bytes += parcel.options.bytes;
        let told = if matches!(parcel.receipt, Receipt::One(_)) {
            self.end_one(parcel, ending, now)
        } else {
            self.end_part(parcel, ending, now)
        };
        self.ended.extend(told);
    }

    fn end_one(&mut self, parcel: Parcel, ending: Ending<Word>, now: Instant) -> Option<Told> {
        let finish = parcel.finish(ending, &self.router, now);
        let Receipt::One(promise) = parcel.receipt else { return None };
        self.tally.end(&finish);
        if parcel.content.kind == Kind::Cast {
            let outcome = finish.outcome();
            if !outcome.is_acked() && !promise.is_expected() {
                log::warn!("cast {} to {}: {outcome}", parcel.content.id, parcel.content.target);
            }
            self.observe(&parcel.content.target, &outcome);
        }
        Some(Told::One(promise, finish))
    }

    /// Every receiver has an outcome of its own.
    fn end_part(&mut self, parcel: Parcel, ending: Ending<Word>, now: Instant) -> Option<Told> {
        let rest = match ending {
            Ending::Answered(word) => Err(word),
            other => Ok(parcel.finish(other, &self.router, now)),
        };
        let Parcel { content, receipt: Receipt::Part(mut share), .. } = parcel else { return None };
        let results = match rest {
            Ok(finish) => share.end(Some(&finish)),
            Err(word) => {
                // The last of too many is not kept either; the others are.
                let _ = share.note(word, now);
                share.end(None)
            }
        };
        self.tally.copies.fetch_add((results.len() as u64).saturating_sub(1), Ordering::Relaxed);
        let Content { id, kind, .. } = *content;
        let mut target = Target::clone(&content.target);
        for result in results {
            self.tally.end_part(&result.outcome);
            if result.server.is_some() {
                target.server = result.server;
            } else {
                target.server.clone_from(&content.target.server);
            }
            if !result.outcome.is_taken_over() && !share.is_expected() {
                log::warn!("{kind:?} {id} to {target}: {}", result.outcome);
            }
            self.observe(&target, &result.outcome);
        }
        Some(Told::Part(share))
    }

    fn observe(&self, target: &Target, outcome: &Outcome) {
        if let Some(observer) = &self.rules.observer
            && catch_unwind(AssertUnwindSafe(|| observer(target, outcome))).is_err()
        {
            log::error!("the observer of outcomes panicked");
        }
    }

    /// Gives back the room of what has ended, and then tells it. Nobody is woken before all is told: whoever was would run
    /// at once, find one outcome, and sleep again until the next.
    pub(super) fn settle(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let full = self.line.gate.make_room(self.ended.len(), std::mem::take(&mut self.ended_bytes));
        for told in self.ended.drain(..) {
            match told {
                Told::One(promise, finish) => {
                    self.given.extend(Some(promise.put(finish)).filter(Given::is_awaited));
                }
                Told::Part(share) => drop(share),
            }
        }
        if full {
            self.line.gate.announce();
        }
        self.given.drain(..).for_each(Given::announce);
    }
}
