//! Ends messages: counts and observes them, and gives their results to the receivers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use zmqv2_proto::{Kind, Target};

use super::Driver;
use crate::delivery::attempt::Verdict;
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::outcome::completion::{CompletionSender, Wakeup};
use crate::outcome::receiver_answer::ReceiverAnswer;
use crate::outcome::result_group::PartSender;
use crate::outcome::{Completion, Outcome};
use crate::wake::wake;

/// A message that has ended.
pub(super) enum Ended {
    Single(CompletionSender, Completion),
    Part(PartSender),
}

impl Driver {
    /// Ends a message. Its receiver gets the result in [`settle`](Self::settle), after its capacity
    /// is released.
    pub(super) fn complete(&mut self, mut outbound: Outbound, result: Result<ReceiverAnswer, Verdict>, now: Instant) {
        if let Err(Verdict::NoAnswer { candidate }) = &result
            && let Some(topic) = outbound.message.for_any()
            && let Some(destination) = outbound.route.destination(*candidate, &self.router)
        {
            self.router.health().mark_refused(&destination.address, &topic, now);
        }
        if outbound.message.kind == Kind::Inquire {
            // A question has no capacity, no counter and no observer.
            self.inquiries -= 1;
            let completion = outbound.completion(result, &self.router, now);
            if let ResultSender::Single(sender) = outbound.result_sender {
                sender.complete(completion).wake();
            }
            return;
        }
        outbound.route.learn(&result);
        self.ended_bytes += outbound.options.bytes;
        let completion = outbound.completion(result, &self.router, now);
        let Outbound { message, result_sender, .. } = outbound;
        self.ended.push(match result_sender {
            ResultSender::Single(sender) => self.complete_single(&message, sender, completion),
            ResultSender::Part(sender) => self.complete_part(&message, sender, completion, now),
        });
    }

    fn complete_single(&self, message: &Message, sender: CompletionSender, completion: Completion) -> Ended {
        self.counters.count_completion(&completion);
        if message.kind == Kind::Cast {
            let outcome = completion.outcome();
            if !outcome.is_acked() && !sender.has_receiver() {
                log::warn!("cast {} to {}: {outcome}", message.id, message.target);
            }
            self.observe(&message.target, &outcome);
        }
        Ended::Single(sender, completion)
    }

    /// Every receiver has its own outcome.
    fn complete_part(&self, message: &Message, mut sender: PartSender, completion: Completion, now: Instant) -> Ended {
        let results = match completion.result {
            Ok(answer) => {
                // If there were too many answers, the last one is dropped.
                let _ = sender.record(answer, now);
                sender.end(None)
            }
            Err(_) => sender.end(Some(&completion.outcome())),
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
        Ended::Part(sender)
    }

    fn observe(&self, target: &Target, outcome: &Outcome) {
        if let Some(observer) = &self.settings.observer
            && catch_unwind(AssertUnwindSafe(|| observer.0(target, outcome))).is_err()
        {
            log::error!("the observer of outcomes panicked");
        }
    }

    /// Releases the capacity of ended messages, then gives all results, then wakes those that
    /// wait. A thread that is woken earlier would find one outcome and sleep again until the
    /// next.
    pub(super) fn settle(&mut self) {
        if !self.ended.is_empty() {
            let bytes = std::mem::take(&mut self.ended_bytes);
            self.queue.admission.release_without_waking(self.ended.len(), bytes, &mut self.due);
        }
        for ended in self.ended.drain(..) {
            match ended {
                Ended::Single(sender, completion) => {
                    self.wakeups.extend(Some(sender.complete(completion)).filter(Wakeup::has_waiter));
                }
                Ended::Part(sender) => drop(sender),
            }
        }
        self.due.drain(..).for_each(wake);
        self.wakeups.drain(..).for_each(Wakeup::wake);
    }
}
