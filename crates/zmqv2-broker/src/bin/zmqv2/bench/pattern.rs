//! The kinds of messages: how each is sent, and how its outcome counts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::value::RawValue;
use zmqv2_broker::cli::{Exit, Failure};
use zmqv2_client::{CallError, Notifier, Outcome, RpcClient, SendError};
use zmqv2_proto::RequestContext;

use super::results::{Ended, FailureKind};
use crate::send::call::failure;
use crate::serve::now;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pattern {
    /// Requests with a reply; each thread waits for its own
    Call,
    /// Requests that a server accepts; one thread has many outstanding
    Cast,
    /// Casts for every server; each ends when the last server has answered
    Fanout,
    /// Notifications of priority info, accepted by a listener or stored by a broker for a minute
    Notify,
}

pub(super) enum Sender {
    /// Blocks its thread until the message has ended.
    Blocking(Box<dyn Fn() -> Ended + Send + Sync>),
    /// Returns at once with a future of the end.
    Async(Box<dyn Fn() -> Result<PendingMessage, Ended> + Send + Sync>),
}

/// An outstanding message, which resolves to its end.
pub(super) type PendingMessage = Pin<Box<dyn Future<Output = Ended> + Send>>;

impl Pattern {
    /// The failure of messages that have not ended when the run is interrupted.
    pub(super) fn without_end(self) -> FailureKind {
        match self {
            Self::Call => FailureKind::Timeout,
            Self::Cast | Self::Fanout | Self::Notify => FailureKind::Unacknowledged,
        }
    }
}

pub(super) fn call(client: RpcClient, method: String, args: Box<RawValue>) -> Sender {
    Sender::Blocking(Box::new(move || {
        let began = now();
        match client.call_detailed::<Box<RawValue>>(&RequestContext::new(), &method, &args) {
            Ok(answered) => Ended { after: answered.elapsed, result: Ok(()) },
            Err(error) => Ended { after: now().saturating_duration_since(began), result: Err(failed(error)) },
        }
    }))
}

pub(super) fn cast(client: RpcClient, method: String, args: Box<RawValue>) -> Sender {
    Sender::Async(Box::new(move || {
        let handle = client.cast(&RequestContext::new(), &method, &args).map_err(not_sent)?;
        Ok(Box::pin(async move { settled(handle.await) }))
    }))
}

pub(super) fn fanout(client: RpcClient, method: String, args: Box<RawValue>) -> Sender {
    Sender::Async(Box::new(move || {
        let handle = client.fanout(&RequestContext::new(), &method, &args).map_err(not_sent)?;
        Ok(Box::pin(async move { all_settled(handle.await.results.into_iter().map(|result| result.outcome)) }))
    }))
}

pub(super) fn notify(notifier: Notifier, event_type: String, payload: Box<RawValue>) -> Sender {
    Sender::Async(Box::new(move || {
        let handle = notifier.info(&RequestContext::new(), &event_type, &payload).map_err(not_sent)?;
        Ok(Box::pin(async move { all_settled(handle.await.results.into_iter().map(|result| result.outcome)) }))
    }))
}

impl Sender {
    pub(super) fn send_and_wait(&self) -> Ended {
        match self {
            Self::Blocking(send) => send(),
            Self::Async(send) => match send() {
                Ok(pending) => wait(pending),
                Err(ended) => ended,
            },
        }
    }
}

fn wait(mut pending: PendingMessage) -> Ended {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    loop {
        if let Poll::Ready(ended) = pending.as_mut().poll(&mut Context::from_waker(&waker)) {
            return ended;
        }
        std::thread::park();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn not_sent(error: SendError) -> Ended {
    Ended { after: Duration::ZERO, result: Err(failed(error.into())) }
}

fn failed(error: CallError) -> (FailureKind, Failure) {
    let kind = match &error {
        CallError::Refused { .. } | CallError::NotSent(SendError::TooLarge { .. }) => FailureKind::Refused,
        CallError::Timeout { .. } => FailureKind::Timeout,
        _ => FailureKind::Error,
    };
    (kind, failure(error))
}

/// Of several outcomes the worst counts, and of those the slowest.
fn all_settled(outcomes: impl Iterator<Item = Outcome>) -> Ended {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Acked { elapsed, .. } | Outcome::Stored { elapsed, .. } => (0, *elapsed),
        Outcome::Unacknowledged { after, .. } => (1, *after),
        Outcome::Refused { after, .. } => (2, *after),
        _ => (3, Duration::ZERO),
    };
    outcomes.max_by_key(rank).map(settled).unwrap_or_else(|| {
        let failure = Failure::new(Exit::Failed, "it has no outcome");
        Ended { after: Duration::ZERO, result: Err((FailureKind::Error, failure)) }
    })
}

fn settled(outcome: Outcome) -> Ended {
    let (after, kind, exit, text) = match outcome {
        Outcome::Acked { elapsed, .. } | Outcome::Stored { elapsed, .. } => {
            return Ended { after: elapsed, result: Ok(()) };
        }
        Outcome::Refused { refusal, after, .. } => (after, FailureKind::Refused, Exit::Refused, refusal.to_string()),
        Outcome::Unacknowledged { after, .. } => {
            (after, FailureKind::Unacknowledged, Exit::Timeout, format!("Unacknowledged: {outcome}"))
        }
        Outcome::Directory { after, problem, .. } => {
            (after, FailureKind::Error, Exit::Timeout, format!("Directory: {problem}"))
        }
        // An outcome of a later version.
        _ => (Duration::ZERO, FailureKind::Error, Exit::Failed, outcome.to_string()),
    };
    Ended { after, result: Err((kind, Failure::new(exit, text))) }
}
