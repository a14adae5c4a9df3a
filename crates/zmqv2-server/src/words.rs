//! What lanes tell the broker over the registration's connection, once they have run what they had accepted.
//!
//! Every request that was accepted without giving its place back is followed by exactly one word, so the words are bounded
//! by the credit that the broker has given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender};

use crate::registration::Desk;

/// One word to the broker.
#[derive(Debug)]
pub(crate) enum Word {
    /// The worker of this number is free again after a cast.
    Free(u16),
}

impl Word {
    /// Whether it must reach a broker that has restarted. What only gives credit back is of no use to that one.
    fn outlives_the_broker(&self) -> bool {
        match self {
            Self::Free(_) => false,
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

    /// Sends what there is, in order, until `send` gives a word back. Without `all`, what can wait for the next broker stays.
    /// Says whether anything was sent; then there may be more.
    pub(crate) fn flush(&mut self, all: bool, mut send: impl FnMut(Word) -> Result<(), Word>) -> bool {
        self.take_in();
        let (mut any, mut stuck) = (false, false);
        for word in std::mem::take(&mut self.held) {
            if stuck || (!all && word.outlives_the_broker()) {
                self.held.push_back(word);
                continue;
            }
            match send(word) {
                Ok(()) => any = true,
                Err(word) => {
                    stuck = true;
                    self.held.push_back(word);
                }
            }
        }
        any
    }

    /// How many words are still to be told.
    pub(crate) fn missing(&self) -> usize {
        self.owed.load(Ordering::Acquire) + self.held.len()
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
