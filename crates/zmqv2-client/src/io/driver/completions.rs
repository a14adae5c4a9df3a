//! The end of a message: it is counted, observed and told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use zmqv2_proto::{Kind, Reason, Target};

use super::Driver;
use crate::delivery::table::Ending;
use crate::io::outbound::{Content, Parcel, Receipt, ReceiverAnswer};
use crate::outcome::completion::{CompletionSender, Wakeup};
use crate::outcome::result_group::PartSender;
use crate::outcome::{Completion, Outcome};

/// What is told when room has been given back.
pub(super) enum Told {
    One(CompletionSender, Completion),
    Part(PartSender),
}

impl Driver {
    /// The message has its outcome; it is told when its room has been given back.
    pub(super) fn end(&mut self, parcel: Parcel, ending: Ending<ReceiverAnswer>, now: Instant) {
        if let Ending::NoAnswer { candidate } = &ending
            && let Some(topic) = parcel.content.for_any()
            && let Some(destination) = parcel.destination(*candidate, &self.router)
        {
            self.router.health().mark_refused(&destination.address, &topic, now);
        }
        if parcel.content.kind == Kind::Inquire {
            // It took no room, and is no message of its own.
            self.inquiries -= 1;
            let completion = parcel.completion(ending, &self.router, now);
            if let Receipt::One(sender) = parcel.receipt {
                sender.complete(completion);
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

    fn end_one(&mut self, parcel: Parcel, ending: Ending<ReceiverAnswer>, now: Instant) -> Option<Told> {
        let completion = parcel.completion(ending, &self.router, now);
        let Receipt::One(sender) = parcel.receipt else { return None };
        self.counters.count_completion(&completion);
        if parcel.content.kind == Kind::Cast {
            let outcome = completion.outcome();
            if !outcome.is_acked() && !sender.has_receiver() {
                log::warn!("cast {} to {}: {outcome}", parcel.content.id, parcel.content.target);
            }
            self.observe(&parcel.content.target, &outcome);
        }
        Some(Told::One(sender, completion))
    }

    /// Every receiver has an outcome of its own.
    fn end_part(&mut self, parcel: Parcel, ending: Ending<ReceiverAnswer>, now: Instant) -> Option<Told> {
        let rest = match ending {
            Ending::Answered(answer) => Err(answer),
            other => Ok(parcel.completion(other, &self.router, now)),
        };
        let Parcel { content, receipt: Receipt::Part(mut sender), .. } = parcel else { return None };
        let results = match rest {
            Ok(completion) => sender.end(Some(&completion)),
            Err(answer) => {
                // The last of too many is not kept either; the others are.
                let _ = sender.record(answer, now);
                sender.end(None)
            }
        };
        self.counters.copies.fetch_add((results.len() as u64).saturating_sub(1), Ordering::Relaxed);
        let Content { id, kind, .. } = *content;
        let mut target = Target::clone(&content.target);
        for result in results {
            self.counters.count_outcome(&result.outcome);
            if result.server.is_some() {
                target.server = result.server;
            } else {
                target.server.clone_from(&content.target.server);
            }
            if !result.outcome.is_taken_over() && !sender.has_receiver() {
                log::warn!("{kind:?} {id} to {target}: {}", result.outcome);
            }
            self.observe(&target, &result.outcome);
        }
        Some(Told::Part(sender))
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
                Told::One(sender, completion) => {
                    self.wakeups.extend(Some(sender.complete_silently(completion)).filter(Wakeup::has_waiter));
                }
                Told::Part(sender) => drop(sender),
            }
        }
        if full {
            self.line.gate.announce();
        }
        self.wakeups.drain(..).for_each(Wakeup::wake);
    }
}
