//! Reports of workers to the broker over the registration's connection: each says that a request
//! has ended that was acknowledged before it ran.
//!
//! Every such request keeps its place at the broker until it ends. So the number of requests that
//! the broker sends at a time bounds the number of reports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{MessageId, TopicKey};

use crate::runtime::wakeup::RegistrationWaker;

/// An acknowledged request has ended.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The worker of this number has run a cast and is free.
    WorkerFree(u16),
    Notification {
        id: MessageId,
        /// The tag of the delivery.
        tag: u64,
        key: TopicKey,
        deadline: Instant,
        /// The body, if the broker shall deliver the notification again.
        requeue: Option<Frame>,
    },
}

/// Both ends of a channel for at most `bound` completions.
pub(crate) fn channel(bound: usize, wakeup: &Arc<RegistrationWaker>) -> (CompletionSender, CompletionQueue) {
    let (sender, receiver) = crossbeam_channel::bounded(bound);
    let running = Arc::new(AtomicUsize::new(0));
    let completions = CompletionSender { channel: sender, running: Arc::clone(&running), wakeup: Arc::clone(wakeup) };
    (completions, CompletionQueue { channel: receiver, running, unsent: VecDeque::new(), bound })
}

/// The workers' end.
#[derive(Debug, Clone)]
pub(crate) struct CompletionSender {
    channel: Sender<Completion>,
    /// How many acknowledged requests have not ended.
    running: Arc<AtomicUsize>,
    wakeup: Arc<RegistrationWaker>,
}

impl CompletionSender {
    /// A request that has not ended is about to be acknowledged.
    pub(crate) fn begin(&self) {
        self.running.fetch_add(1, Ordering::AcqRel);
    }

    /// A request has ended, and the broker learns of it in another way.
    pub(crate) fn end_unsent(&self) {
        // This counter and the stop flag are in one order: either this thread sees the flag, or
        // the registration's thread sees the new count.
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.wakeup.is_stopped() {
            self.wakeup.waker.wake();
        }
    }

    /// Tells the broker that a request has ended. Waits while the channel is full, which happens
    /// only if a broker sends more than it may. The wait ends with the registration's thread.
    pub(crate) fn send(&self, completion: Completion) {
        // Without a receiver the server has stopped.
        let _ = self.channel.send(completion);
        self.wakeup.waker.wake();
    }
}

/// The end of the registration's thread, which owns the connection.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    channel: Receiver<Completion>,
    running: Arc<AtomicUsize>,
    unsent: VecDeque<Completion>,
    bound: usize,
}

impl CompletionQueue {
    /// Takes in the completions of workers while there is no broker. Keeps only requeued
    /// notifications: the next broker gives all places anew.
    pub(crate) fn keep_for_next_broker(&mut self) {
        loop {
            self.unsent.retain(|completion| matches!(completion, Completion::Notification { requeue: Some(_), .. }));
            if !self.take_in() {
                return;
            }
        }
    }

    /// Gives everything to `send`, in order, until that returns `false`. If the broker has not
    /// `accepted` the registration yet, requeued notifications stay. Returns whether anything was
    /// sent; then there may be more.
    pub(crate) fn flush(&mut self, accepted: bool, mut send: impl FnMut(&Completion) -> bool) -> bool {
        self.take_in();
        let (mut any, mut full) = (false, false);
        let mut waiting = Vec::new();
        self.unsent.retain(|completion| {
            if let Completion::Notification { id, requeue, .. } = completion
                && !accepted
                && (requeue.is_some() || waiting.contains(id))
            {
                // The broker may have delivered a notification of its store again. If the end of
                // that delivery overtook an earlier requeue, the broker would take the requeued
                // notification for a new one.
                waiting.push(*id);
                return true;
            }
            full = full || !send(completion);
            any |= !full;
            full
        });
        any
    }

    /// How many requests have not ended, or have ended without a report to the broker.
    pub(crate) fn outstanding(&self) -> usize {
        self.running.load(Ordering::SeqCst) + self.unsent.len()
    }

    /// Takes in as many completions as the bound allows. Returns whether there were any.
    fn take_in(&mut self) -> bool {
        let room = self.bound.saturating_sub(self.unsent.len());
        let before = self.unsent.len();
        for completion in self.channel.try_iter().take(room) {
            self.unsent.push_back(completion);
            // After the push, so that `outstanding` never misses it.
            self.running.fetch_sub(1, Ordering::AcqRel);
        }
        self.unsent.len() > before
    }
}

#[cfg(test)]
#[path = "tests/completions.rs"]
mod tests;
