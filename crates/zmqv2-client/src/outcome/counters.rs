//! Counts the messages of a client and their outcomes.

use std::sync::atomic::{AtomicU64, Ordering};

use zmqv2_proto::Reason;

use crate::outcome::call_error::CallError;
use crate::outcome::receiver_answer::AnswerKind;
use crate::outcome::{Completion, Outcome};

/// The messages of a client and their outcomes: casts, fanouts, notifications, and calls that do
/// not block.
///
/// Each outcome of a message counts once. While no message is on its way:
/// `accepted + copies = acked + stored + replied + refused + unacknowledged + open`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Messages for which the sender got a handle. A fanout counts once for each node, a
    /// notification once for each pool that the directory lists.
    pub accepted: u64,
    /// Additional outcomes: of the second and every further server or pool of a node.
    pub copies: u64,
    /// Messages sent for the first time.
    pub sent: u64,
    /// Messages sent again, by a retry or because another node refused.
    pub resent: u64,
    /// Outcomes [`Acked`](Outcome::Acked).
    pub acked: u64,
    /// Outcomes [`Stored`](Outcome::Stored).
    pub stored: u64,
    /// Calls that a server answered, with a result or an error.
    pub replied: u64,
    /// Messages refused, for any reason.
    pub refused: u64,
    /// Messages without an answer, sent or not. Outcomes [`Directory`](Outcome::Directory) count
    /// here.
    pub unacknowledged: u64,
    /// Messages without an outcome yet.
    pub open: u64,
    /// Answers that came after the end of their message.
    pub late: u64,
    /// Answers that were not valid, or belonged to no message.
    pub ignored: u64,
    by_reason: [u64; REASONS],
}

const REASONS: usize = Reason::ALL.len();

impl Counters {
    /// Messages refused for `reason`.
    #[must_use]
    pub fn refused_for(&self, reason: Reason) -> u64 {
        self.by_reason[reason.index()]
    }
}

/// The counters of a running client.
#[derive(Debug, Default)]
pub(crate) struct LiveCounters {
    pub(crate) accepted: AtomicU64,
    pub(crate) copies: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) resent: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) ignored: AtomicU64,
    acked: AtomicU64,
    stored: AtomicU64,
    replied: AtomicU64,
    refused: AtomicU64,
    unacknowledged: AtomicU64,
    by_reason: [AtomicU64; REASONS],
}

impl LiveCounters {
    pub(crate) fn count_completion(&self, completion: &Completion) {
        match &completion.result {
            Ok(answer) if matches!(answer.kind, AnswerKind::Reply { .. }) => count(&self.replied),
            Ok(_) => count(&self.acked),
            Err(CallError::Refused { refusal, .. }) => self.count_refusal(refusal.reason),
            Err(_) => count(&self.unacknowledged),
        }
    }

    /// Counts one outcome of a message with several receivers.
    pub(crate) fn count_outcome(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Acked { .. } => count(&self.acked),
            Outcome::Stored { .. } => count(&self.stored),
            Outcome::Refused { refusal, .. } => self.count_refusal(refusal.reason),
            Outcome::Directory { .. } | Outcome::Unacknowledged { .. } => count(&self.unacknowledged),
        }
    }

    fn count_refusal(&self, reason: Reason) {
        count(&self.by_reason[reason.index()]);
        count(&self.refused);
    }

    pub(crate) fn read(&self, open: usize) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            accepted: get(&self.accepted),
            copies: get(&self.copies),
            sent: get(&self.sent),
            resent: get(&self.resent),
            acked: get(&self.acked),
            stored: get(&self.stored),
            replied: get(&self.replied),
            refused: get(&self.refused),
            unacknowledged: get(&self.unacknowledged),
            open: open as u64,
            late: get(&self.late),
            ignored: get(&self.ignored),
            by_reason: self.by_reason.each_ref().map(get),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
