//! The end of a message: it is counted, observed, and handed to its receiver.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use zmqv2_proto::{Kind, Reason, Target};

use super::Driver;
use crate::delivery::table::Ending;
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::outcome::completion::{CompletionSender, Wakeup};
use crate::outcome::receiver_answer::ReceiverAnswer;
use crate::outcome::result_group::PartSender;
use crate::outcome::{Completion, Outcome};

/// A message that has ended. Its receiver gets the result when its room has been given back.
pub(super) enum Ended {
    Single(CompletionSender, Completion),
    Part(PartSender),
}

impl Driver {
    /// The message has ended. Its receiver gets the result in [`settle`](Self::settle), when its room has been given back.
    pub(super) fn complete(&mut self, outbound: Outbound, ending: Ending<ReceiverAnswer>, now: Instant) {
        if let Ending::NoAnswer { candidate } = &ending
            && let Some(topic) = outbound.message.for_any()
            && let Some(destination) = outbound.destination(*candidate, &self.router)
        {
            self.router.health().mark_refused(&destination.address, &topic, now);
        }
        if outbound.message.kind == Kind::Inquire {
            // It took no room, and is no message of its own.
            self.inquiries -= 1;
            let completion = outbound.completion(ending, &self.router, now);
            if let ResultSender::Single(sender) = outbound.result_sender {
                sender.complete(completion);
            }
            return;
        }
        if let Some(search) = &outbound.search {
            match &ending {
                Ending::Answered(_) => search.found(),
                Ending::ConnectionLost { .. } => search.not_found(),
                Ending::Refused(refusal, _) if refusal.reason == Reason::ServerLost => search.not_found(),
                _ => {}
            }
        }
        self.ended_bytes += outbound.options.bytes;
        let ended = if matches!(outbound.result_sender, ResultSender::Single(_)) {
            self.complete_single(outbound, ending, now)
        } else {
            self.complete_part(outbound, ending, now)
        };
        self.ended.extend(ended);
    }

    fn complete_single(&mut self, outbound: Outbound, ending: Ending<ReceiverAnswer>, now: Instant) -> Option<Ended> {
        let completion = outbound.completion(ending, &self.router, now);
        let ResultSender::Single(sender) = outbound.result_sender else { return None };
        self.counters.count_completion(&completion);
        if outbound.message.kind == Kind::Cast {
            let outcome = completion.outcome();
            if !outcome.is_acked() && !sender.has_receiver() {
                log::warn!("cast {} to {}: {outcome}", outbound.message.id, outbound.message.target);
            }
            self.observe(&outbound.message.target, &outcome);
        }
        Some(Ended::Single(sender, completion))
    }

    /// Every receiver has an outcome of its own.
    fn complete_part(&mut self, outbound: Outbound, ending: Ending<ReceiverAnswer>, now: Instant) -> Option<Ended> {
        let rest = match ending {
            Ending::Answered(answer) => Err(answer),
            other => Ok(outbound.completion(other, &self.router, now)),
        };
        let Outbound { message, result_sender: ResultSender::Part(mut sender), .. } = outbound else { return None };
        let results = match rest {
            Ok(completion) => sender.end(Some(&completion)),
            Err(answer) => {
                // The last of too many is not kept either; the others are.
                let _ = sender.record(answer, now);
                sender.end(None)
            }
        };
        self.counters.copies.fetch_add((results.len() as u64).saturating_sub(1), Ordering::Relaxed);
        let Message { id, kind, .. } = *message;
        let mut target = Target::clone(&message.target);
        for result in results {
            self.counters.count_outcome(&result.outcome);
            if result.server.is_some() {
                target.server = result.server;
            } else {
                target.server.clone_from(&message.target.server);
            }
            if !result.outcome.is_taken_over() && !sender.has_receiver() {
                log::warn!("{kind:?} {id} to {target}: {}", result.outcome);
            }
            self.observe(&target, &result.outcome);
        }
        Some(Ended::Part(sender))
    }

    fn observe(&self, target: &Target, outcome: &Outcome) {
        if let Some(observer) = &self.settings.observer
            && catch_unwind(AssertUnwindSafe(|| observer(target, outcome))).is_err()
        {
            log::error!("the observer of outcomes panicked");
        }
    }

    /// Gives back the room of messages that have ended, then hands out all results, then wakes the waiting threads. A
    /// thread that was woken earlier would run at once, find one outcome, and sleep again until the next.
    pub(super) fn settle(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let full = self.queue.admission.release_without_waking(self.ended.len(), std::mem::take(&mut self.ended_bytes));
        for ended in self.ended.drain(..) {
            match ended {
                Ended::Single(sender, completion) => {
                    self.wakeups.extend(Some(sender.complete_silently(completion)).filter(Wakeup::has_waiter));
                }
                Ended::Part(sender) => drop(sender),
            }
        }
        if full {
            self.queue.admission.wake_waiting();
        }
        self.wakeups.drain(..).for_each(Wakeup::wake);
    }
}
