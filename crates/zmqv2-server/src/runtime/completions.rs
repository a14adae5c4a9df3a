//! What lanes tell the broker over the registration's connection, once they have run what they had accepted.
//!
//! Every request that was accepted without giving its place back is followed by exactly one word, so the words are bounded
//! by the credit that the broker has given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{MessageId, TopicKey};

use crate::runtime::registration::Desk;

/// One word to the broker.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The worker of this number is free again after a cast.
    WorkerFree(u16),
    /// A listener is done with a notification.
    Notification(EndedNotification),
}

/// How a notification ended.
#[derive(Debug)]
pub(crate) struct EndedNotification {
    pub(crate) id: MessageId,
    /// Of the delivery.
    pub(crate) tag: u64,
    pub(crate) key: TopicKey,
    pub(crate) deadline: Instant,
    /// The body, when it shall come again.
    pub(crate) requeue: Option<Frame>,
}

impl Completion {
    /// Whether it must reach a broker that has restarted. What only gives credit back is of no use to that one.
    fn outlives_the_broker(&self) -> bool {
        match self {
            Self::WorkerFree(_) => false,
            Self::Notification(done) => done.requeue.is_some(),
        }
    }
}

/// Both ends, for at most `bound` words on their way.
pub(crate) fn channel(bound: usize, desk: &Arc<Desk>) -> (CompletionSender, CompletionQueue) {
    let (sender, receiver) = crossbeam_channel::bounded(bound);
    let running = Arc::new(AtomicUsize::new(0));
    let completions = CompletionSender { channel: sender, running: Arc::clone(&running), desk: Arc::clone(desk) };
    (completions, CompletionQueue { channel: receiver, running, held: VecDeque::new(), bound })
}

/// The lanes' end.
#[derive(Debug, Clone)]
pub(crate) struct CompletionSender {
    channel: Sender<Completion>,
    running: Arc<AtomicUsize>,
    desk: Arc<Desk>,
}

impl CompletionSender {
    /// To be called before a request is acknowledged that a word will follow.
    pub(crate) fn begin(&self) {
        self.running.fetch_add(1, Ordering::AcqRel);
    }

    /// Nothing is left to be told: what was running is done, and the broker learns of it in another way.
    pub(crate) fn finish(&self) {
        // In one order with the stop flag and what is still running: one of both sides sees the other.
        self.running.fetch_sub(1, Ordering::SeqCst);
        // Only a server that stops waits for it.
        if self.desk.stop.load(Ordering::SeqCst) {
            self.desk.waker.wake();
        }
    }

    /// Tells the broker. Waits while there is no room, which only a broker that exceeds its credit can bring about; it ends
    /// with the registration's thread.
    pub(crate) fn send(&self, word: Completion) {
        // Without a receiver the server has stopped.
        let _ = self.channel.send(word);
        self.desk.waker.wake();
    }
}

/// The end of the thread that owns the connection.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    channel: Receiver<Completion>,
    running: Arc<AtomicUsize>,
    held: VecDeque<Completion>,
    bound: usize,
}

impl CompletionQueue {
    /// Takes in what the lanes have left. There is no broker: what would be of no use to the next one is dropped.
    pub(crate) fn hold(&mut self) {
        loop {
            let any = self.take_in();
            self.held.retain(Completion::outlives_the_broker);
            if !any {
                return;
            }
        }
    }

    /// Sends what there is, in order, until `send` says that a word was not taken. Without `all`, what can wait for the next
    /// broker stays. Says whether anything was sent; then there may be more.
    pub(crate) fn flush(&mut self, all: bool, mut send: impl FnMut(&Completion) -> bool) -> bool {
        self.take_in();
        let (mut any, mut stuck) = (false, false);
        let mut waiting = Vec::new();
        self.held.retain(|word| {
            if let Completion::Notification(done) = word
                && !all
                && (done.requeue.is_some() || waiting.contains(&done.id))
            {
                // The broker had it from its store and delivered it: what came of that stays behind, else the broker took
                // what is to come again for a new one.
                waiting.push(done.id);
                return true;
            }
            if stuck {
                return true;
            }
            let taken = send(word);
            any |= taken;
            stuck = !taken;
            stuck
        });
        any
    }

    /// How many words are still to be told.
    pub(crate) fn outstanding(&self) -> usize {
        self.running.load(Ordering::SeqCst) + self.held.len()
    }

    /// Takes in as many words as there is room for; whether there were any.
    fn take_in(&mut self) -> bool {
        let room = self.bound.saturating_sub(self.held.len());
        let before = self.held.len();
        for word in self.channel.try_iter().take(room) {
            self.held.push_back(word);
            // Behind the push: a word that is running is always seen in one of both.
            self.running.fetch_sub(1, Ordering::AcqRel);
        }
        self.held.len() > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::wakeup::Waker;
    use std::sync::atomic::AtomicBool;

    fn ends(bound: usize) -> (CompletionSender, CompletionQueue) {
        channel(bound, &Arc::new(Desk { stop: AtomicBool::new(false), waker: Waker::new().unwrap() }))
    }

    /// A word about a notification, told as a lane does.
    fn tell(sender: &CompletionSender, tag: u64, requeue: bool) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let deadline = Instant::now();
        let key = TopicKey::parse("e/t").unwrap();
        let requeue = requeue.then(|| Frame::from("body"));
        sender.begin();
        sender.send(Completion::Notification(EndedNotification {
            id: MessageId::random(),
            tag,
            key,
            deadline,
            requeue,
        }));
    }

    /// Tags of what is sent when the broker takes `room` words.
    fn flush(queue: &mut CompletionQueue, all: bool, room: usize) -> Vec<u64> {
        let mut sent = Vec::new();
        let any = queue.flush(all, |word| {
            let Completion::Notification(done) = word else { panic!("{word:?}") };
            if sent.len() < room {
                sent.push(done.tag);
                return true;
            }
            false
        });
        assert_eq!(any, !sent.is_empty());
        sent
    }

    #[test]
    fn without_a_broker_only_what_the_next_one_needs_is_kept() {
        let (sender, mut queue) = ends(8);
        for tag in 0..6 {
            tell(&sender, tag, tag % 3 == 0);
        }
        assert_eq!(queue.outstanding(), 6);
        queue.hold();
        assert_eq!(queue.outstanding(), 2);
        tell(&sender, 6, false);
        assert_eq!(flush(&mut queue, false, 8), [6]);
        assert_eq!(flush(&mut queue, true, 8), [0, 3]);
        assert_eq!(queue.outstanding(), 0);
    }

    #[test]
    fn what_came_of_a_later_delivery_does_not_overtake_what_is_to_come_again() {
        let (sender, mut queue) = ends(8);
        tell(&sender, 0, true);
        queue.hold();
        let Some(Completion::Notification(EndedNotification { id, key, deadline, .. })) = queue.held.front() else {
            panic!("nothing is held")
        };
        let again = EndedNotification { id: *id, tag: 1, key: key.clone(), deadline: *deadline, requeue: None };
        sender.begin();
        sender.send(Completion::Notification(again));
        tell(&sender, 2, false);
        assert_eq!(flush(&mut queue, false, 8), [2]);
        assert_eq!(flush(&mut queue, true, 8), [0, 1]);
    }

    #[test]
    fn what_is_not_taken_is_sent_later_in_order() {
        let (sender, mut queue) = ends(8);
        for tag in 0..4 {
            tell(&sender, tag, tag == 1);
        }
        assert_eq!(flush(&mut queue, true, 1), [0]);
        assert!(flush(&mut queue, true, 0).is_empty());
        assert_eq!(flush(&mut queue, true, 8), [1, 2, 3]);
    }

    #[test]
    fn what_is_held_is_bounded_and_what_is_owed_is_missing() {
        let (sender, mut queue) = ends(2);
        sender.begin();
        for tag in [0, 1] {
            tell(&sender, tag, true);
        }
        queue.hold();
        for tag in [2, 3] {
            tell(&sender, tag, true);
        }
        queue.hold();
        // A lane that told a fifth would wait.
        assert_eq!((queue.held.len(), queue.channel.len(), queue.outstanding()), (2, 2, 5));
        assert_eq!(flush(&mut queue, true, 8), [0, 1]);
        assert_eq!(flush(&mut queue, true, 8), [2, 3]);
        assert_eq!(queue.outstanding(), 1);
    }
}
