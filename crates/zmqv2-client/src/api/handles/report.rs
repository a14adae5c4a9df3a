//! The handle and the report of a message with several outcomes: a fanout or a notification.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use zmqv2_proto::{MessageId, NodeName, ServerName, Topic};

use crate::outcome::Outcome;
use crate::outcome::receiver_tracker::ReceiverResult;
use crate::outcome::result_group::GroupReceiver;

/// The handle of a message with several outcomes: a [`FanoutHandle`](crate::FanoutHandle) or a
/// [`NotifyHandle`](crate::NotifyHandle).
///
/// A handle is `Send` and `Sync`. It can be polled, waited on, awaited on any executor, or dropped.
/// After a drop, the outcomes still go to the counters and to the
/// [observer](crate::RpcClientBuilder::observer). A warning is logged for each outcome that is
/// neither `Acked` nor `Stored`.
#[derive(Debug)]
#[must_use = "without the handle, only the counters, the observer and the log show the outcomes"]
pub struct ReportHandle<R> {
    pub(super) id: MessageId,
    receiver: GroupReceiver,
    results: PhantomData<fn() -> R>,
}

/// The outcomes of a message: a [`FanoutReport`](crate::FanoutReport) or a
/// [`NotifyReport`](crate::NotifyReport).
///
/// `{}` shows one line of counts. `{:#}` adds a line for each outcome that is neither `Acked` nor
/// `Stored`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report<R> {
    /// The results: one for each server (fanout), or for each topic and pool (notification).
    pub results: Vec<R>,
    /// The number of nodes or pools that may still give results. It is 0 in a complete report.
    pub open: usize,
    incomplete: Option<Arc<str>>,
}

/// One result of a report.
pub trait ReportResult: fmt::Display + Sized {
    /// Whether a broker can store this kind of message.
    const CAN_BE_STORED: bool;

    /// `receiver` is a server of a fanout, or a pool of a notification.
    fn new(topic: Topic, node: Option<NodeName>, receiver: Option<ServerName>, outcome: Outcome) -> Self;
    fn outcome(&self) -> &Outcome;
}

impl<R: ReportResult> ReportHandle<R> {
    pub(crate) fn new(id: MessageId, receiver: GroupReceiver) -> Self {
        Self { id, receiver, results: PhantomData }
    }

    /// The report, if it is complete.
    #[must_use]
    pub fn report(&self) -> Option<Report<R>> {
        self.receiver.is_complete().then(|| self.so_far())
    }

    /// Waits for the report. Returns `None` if it is not complete within `timeout`. It is complete
    /// at most 50 ms after the timeout of the message. In a callback of a client (an observer or a
    /// waker), this returns at once, because it would wait for its own thread.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<Report<R>> {
        self.receiver.wait(timeout).then(|| self.so_far())
    }

    /// Waits for the report, and gives the handle back if it is not complete within `timeout`. So a
    /// program can look at signals between two waits.
    ///
    /// # Errors
    /// The handle itself. In a callback of a client this returns at once, as [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Report<R>, Self> {
        self.wait(timeout).ok_or(self)
    }

    /// Whether the report is complete. If not, `waker` is woken when it is.
    pub(super) fn poll_ended(&self, waker: &Waker) -> bool {
        self.receiver.poll(waker)
    }

    /// The results that are known now.
    #[must_use]
    pub fn so_far(&self) -> Report<R> {
        let incomplete = self.receiver.incomplete();
        self.receiver.look(|parts, open| {
            let results = parts.iter().flat_map(|part| part.tracker.results().iter().map(move |result| (part, result)));
            let results = results.map(|(part, ReceiverResult { server, node, outcome })| {
                R::new(part.topic.clone(), node.clone(), server.clone(), outcome.clone())
            });
            Report { results: results.collect(), open, incomplete }
        })
    }
}

impl<R: ReportResult> Future for ReportHandle<R> {
    type Output = Report<R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Report<R>> {
        if !self.receiver.poll(context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(self.so_far())
    }
}

impl<R: ReportResult> Report<R> {
    /// The number of results that are `Acked`.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.count(Outcome::is_acked)
    }

    /// The number of results that are `Stored`: 0 for a fanout.
    #[must_use]
    pub fn stored(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Stored { .. }))
    }

    /// The number of results that are `Refused`.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Refused { .. }))
    }

    /// The number of results that are [`Directory`](Outcome::Directory): no server was found, and
    /// the directory could not say that there is none.
    #[must_use]
    pub fn not_found(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Directory { .. }))
    }

    /// Why there may be servers, or pools of listeners, that got no message: when it was sent, the
    /// directory could not say that its list was complete. `None`: the list was complete.
    ///
    /// This can be after an outage of the directory, or while it cannot be read or written. Send
    /// the message again later, if every server must get it.
    #[must_use]
    pub fn may_be_incomplete(&self) -> Option<&str> {
        self.incomplete.as_deref()
    }

    /// The number of results that are `Unacknowledged`.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Unacknowledged { .. }))
    }

    /// Whether the report is complete, and has at least one result, and every result is `Acked`.
    /// False if it [may be incomplete](Self::may_be_incomplete).
    #[must_use]
    pub fn all_acked(&self) -> bool {
        self.are_all(self.acked())
    }

    /// Whether the report is complete, and has at least one result, and every result is `Acked` or
    /// `Stored`. Then the sender has nothing left to do. False if it
    /// [may be incomplete](Self::may_be_incomplete).
    #[must_use]
    pub fn all_taken_over(&self) -> bool {
        self.are_all(self.count(Outcome::is_taken_over))
    }

    fn are_all(&self, count: usize) -> bool {
        self.open == 0 && self.incomplete.is_none() && count > 0 && count == self.results.len()
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.results.iter().filter(|result| which(result.outcome())).count()
    }
}

impl<R: ReportResult> fmt::Display for Report<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accepted by {} of {}", self.acked(), self.results.len())?;
        if R::CAN_BE_STORED {
            write!(f, ", {} stored", self.stored())?;
        }
        write!(f, ", {} refused, {} unacknowledged", self.refused(), self.unacknowledged())?;
        if self.not_found() > 0 {
            write!(f, ", {} not found", self.not_found())?;
        }
        if self.open > 0 {
            write!(f, ", {} open", self.open)?;
        }
        if let Some(reason) = &self.incomplete {
            write!(f, "; there may be others: {reason}")?;
        }
        if f.alternate() {
            for result in self.results.iter().filter(|result| !result.outcome().is_taken_over()) {
                write!(f, "\n{result}")?;
            }
        }
        Ok(())
    }
}
