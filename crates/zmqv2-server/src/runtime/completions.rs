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
pub(crate) enum Word {
    /// The worker of this number is free again after a cast.
    Free(u16),
    /// A listener is done with a notification.
    Done(Done),
}

/// How a notification ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) id: MessageId,
    /// Of the delivery.
    pub(crate) tag: u64,
    pub(crate) key: TopicKey,
    pub(crate) deadline: Instant,
    /// The body, when it shall come again.
    pub(crate) requeue: Option<Frame>,
}

impl Word {
    /// Whether it must reach a broker that has restarted. What only gives credit back is of no use to that one.
    fn outlives_the_broker(&self) -> bool {
        match self {
            Self::Free(_) => false,
            Self::Done(done) => done.requeue.is_some(),
        }
    }
}

/// Both ends, for at most `bound` words on their way.
pub(crate) fn words(bound: usize, desk: &Arc<Desk>) -> (Teller, Outbox) {
    let (sender, receiver) = crossbeam_channel::bounded(bound);
    let owed = Arc::new(AtomicUsize::new(0));
    let teller = Teller { words: sender, owed: Arc::clone(&owed), desk: Arc::clone(desk) };
    (teller, Outbox { words: receiver, owed, held: VecDeque::new(), bound })
}

/// The lanes' end.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    words: Sender<Word>,
    owed: Arc<AtomicUsize>,
    desk: Arc<Desk>,
}

impl Teller {
    /// To be called before a request is acknowledged that a word will follow.
    pub(crate) fn owe(&self) {
        self.owed.fetch_add(1, Ordering::AcqRel);
    }

    /// Nothing is left to be told: what was owed is done, and the broker learns of it in another way.
    pub(crate) fn settle(&self) {
        // In one order with the stop flag and what is still owed: one of both sides sees the other.
        self.owed.fetch_sub(1, Ordering::SeqCst);
        // Only a server that stops waits for it.
        if self.desk.stop.load(Ordering::SeqCst) {
            self.desk.bell.ring();
        }
    }

    /// Tells the broker. Waits while there is no room, which only a broker that exceeds its credit can bring about; it ends
    /// with the registration's thread.
    pub(crate) fn tell(&self, word: Word) {
        // Without a receiver the server has stopped.
        let _ = self.words.send(word);
        self.desk.bell.ring();
    }
}

/// The end of the thread that owns the connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    words: Receiver<Word>,
    owed: Arc<AtomicUsize>,
    held: VecDeque<Word>,
    bound: usize,
}

impl Outbox {
    /// Takes in what the lanes have left. There is no broker: what would be of no use to the next one is dropped.
    pub(crate) fn hold(&mut self) {
        loop {
            let any = self.take_in();
            self.held.retain(Word::outlives_the_broker);
            if !any {
                return;
            }
        }
    }

    /// Sends what there is, in order, until `send` says that a word was not taken. Without `all`, what can wait for the next
    /// broker stays. Says whether anything was sent; then there may be more.
    pub(crate) fn flush(&mut self, all: bool, mut send: impl FnMut(&Word) -> bool) -> bool {
        self.take_in();
        let (mut any, mut stuck) = (false, false);
        let mut waiting = Vec::new();
        self.held.retain(|word| {
            if let Word::Done(done) = word
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
    pub(crate) fn missing(&self) -> usize {
        self.owed.load(Ordering::SeqCst) + self.held.len()
    }

    /// Takes in as many words as there is room for; whether there were any.
    fn take_in(&mut self) -> bool {
        let room = self.bound.saturating_sub(self.held.len());
        let before = self.held.len();
        for word in self.words.try_iter().take(room) {
            self.held.push_back(word);
            // Behind the push: a word that is owed is always seen in one of both.
            self.owed.fetch_sub(1, Ordering::AcqRel);
        }
        self.held.len() > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::wakeup::Bell;
    use std::sync::atomic::AtomicBool;

    fn ends(bound: usize) -> (Teller, Outbox) {
        words(bound, &Arc::new(Desk { stop: AtomicBool::new(false), bell: Bell::new().unwrap() }))
    }

    /// A word about a notification, told as a lane does.
    fn tell(teller: &Teller, tag: u64, requeue: bool) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let deadline = Instant::now();
        let key = TopicKey::parse("e/t").unwrap();
        let requeue = requeue.then(|| Frame::from("body"));
        teller.owe();
        teller.tell(Word::Done(Done { id: MessageId::random(), tag, key, deadline, requeue }));
    }

    /// Tags of what is sent when the broker takes `room` words.
    fn flush(outbox: &mut Outbox, all: bool, room: usize) -> Vec<u64> {
        let mut sent = Vec::new();
        let any = outbox.flush(all, |word| {
            let Word::Done(done) = word else { panic!("{word:?}") };
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
        let (teller, mut outbox) = ends(8);
        for tag in 0..6 {
            tell(&teller, tag, tag % 3 == 0);
        }
        assert_eq!(outbox.missing(), 6);
        outbox.hold();
        assert_eq!(outbox.missing(), 2);
        tell(&teller, 6, false);
        assert_eq!(flush(&mut outbox, false, 8), [6]);
        assert_eq!(flush(&mut outbox, true, 8), [0, 3]);
        assert_eq!(outbox.missing(), 0);
    }

    #[test]
    fn what_came_of_a_later_delivery_does_not_overtake_what_is_to_come_again() {
        let (teller, mut outbox) = ends(8);
        tell(&teller, 0, true);
        outbox.hold();
        let Some(Word::Done(Done { id, key, deadline, .. })) = outbox.held.front() else { panic!("nothing is held") };
        let again = Done { id: *id, tag: 1, key: key.clone(), deadline: *deadline, requeue: None };
        teller.owe();
        teller.tell(Word::Done(again));
        tell(&teller, 2, false);
        assert_eq!(flush(&mut outbox, false, 8), [2]);
        assert_eq!(flush(&mut outbox, true, 8), [0, 1]);
    }

    #[test]
    fn what_is_not_taken_is_sent_later_in_order() {
        let (teller, mut outbox) = ends(8);
        for tag in 0..4 {
            tell(&teller, tag, tag == 1);
        }
        assert_eq!(flush(&mut outbox, true, 1), [0]);
        assert!(flush(&mut outbox, true, 0).is_empty());
        assert_eq!(flush(&mut outbox, true, 8), [1, 2, 3]);
    }

    #[test]
    fn what_is_held_is_bounded_and_what_is_owed_is_missing() {
        let (teller, mut outbox) = ends(2);
        teller.owe();
        for tag in [0, 1] {
            tell(&teller, tag, true);
        }
        outbox.hold();
        for tag in [2, 3] {
            tell(&teller, tag, true);
        }
        outbox.hold();
        // A lane that told a fifth would wait.
        assert_eq!((outbox.held.len(), outbox.words.len(), outbox.missing()), (2, 2, 5));
        assert_eq!(flush(&mut outbox, true, 8), [0, 1]);
        assert_eq!(flush(&mut outbox, true, 8), [2, 3]);
        assert_eq!(outbox.missing(), 1);
    }
}
