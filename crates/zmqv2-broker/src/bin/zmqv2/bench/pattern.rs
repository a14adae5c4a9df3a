//! The patterns: how each sends one message, and what its outcome counts as.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::value::RawValue;
use zmqv2_broker::cli::{Exit, Failure};
use zmqv2_client::{CallError, Notifier, Outcome, RpcClient, SendError};
use zmqv2_proto::RequestContext;

use super::tally::{Ended, Kind};
use crate::call::failure;
use crate::serve::now;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Pattern {
    /// Requests with a reply; each thread waits for its own
    Call,
    /// Requests that a server accepts; one thread has many on their way
    Cast,
    /// Requests that every server accepts; as casts, each ended when the last server has answered
    Fanout,
    /// Notifications of priority info, each accepted by a listener or stored by a broker, and kept for at most a minute
    Notify,
}

/// Sends messages, one a time. Each pattern is a closure of one of these two forms.
pub(super) enum Sender {
    /// Blocks its thread until the message has ended.
    Blocking(Box<dyn Fn() -> Ended + Send + Sync>),
    /// Lets the message go, and tells later how it ended.
    Later(Box<dyn Fn() -> Result<Ticket, Ended> + Send + Sync>),
}

/// The end of a message that is on its way.
pub(super) type Ticket = Pin<Box<dyn Future<Output = Ended> + Send>>;

impl Pattern {
    /// What a message counts as that has no end when the run is cut short.
    pub(super) fn silence(self) -> Kind {
        match self {
            Self::Call => Kind::Timeout,
            Self::Cast | Self::Fanout | Self::Notify => Kind::Unacknowledged,
        }
    }
}

pub(super) fn call(client: RpcClient, method: String, args: Box<RawValue>) -> Sender {
    let context = RequestContext::new();
    Sender::Blocking(Box::new(move || {
        let began = now();
        match client.call_detailed::<Box<RawValue>>(&context, &method, &args) {
            Ok(answered) => Ended { after: answered.elapsed, how: Ok(()) },
            Err(error) => Ended { after: now().saturating_duration_since(began), how: Err(fault(error)) },
        }
    }))
}

pub(super) fn cast(client: RpcClient, method: String, args: Box<RawValue>) -> Sender {
    let context = RequestContext::new();
    Sender::Later(Box::new(move || {
        let handle = client.cast(&context, &method, &args).map_err(not_sent)?;
        Ok(Box::pin(async move { settled(handle.await) }))
    }))
}

pub(super) fn fanout(client: RpcClient, method: String, args: Box<RawValue>) -> Sender {
    let context = RequestContext::new();
    Sender::Later(Box::new(move || {
        let handle = client.fanout(&context, &method, &args).map_err(not_sent)?;
        Ok(Box::pin(async move { all_settled(handle.await.results.into_iter().map(|result| result.outcome)) }))
    }))
}

pub(super) fn notify(notifier: Notifier, event_type: String, payload: Box<RawValue>) -> Sender {
    let context = RequestContext::new();
    Sender::Later(Box::new(move || {
        let handle = notifier.info(&context, &event_type, &payload).map_err(not_sent)?;
        Ok(Box::pin(async move { all_settled(handle.await.results.into_iter().map(|result| result.outcome)) }))
    }))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call => "call",
            Self::Cast => "cast",
            Self::Fanout => "fanout",
            Self::Notify => "notify",
        })
    }
}

impl Sender {
    /// Sends one message and waits for its end.
    pub(super) fn send_and_wait(&self) -> Ended {
        match self {
            Self::Blocking(send) => send(),
            Self::Later(send) => match send() {
                Ok(ticket) => wait(ticket),
                Err(ended) => ended,
            },
        }
    }
}

/// Runs a future on this thread, which is its whole executor.
fn wait(mut ticket: Ticket) -> Ended {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    loop {
        if let Poll::Ready(ended) = ticket.as_mut().poll(&mut Context::from_waker(&waker)) {
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

/// The client did not take it over.
fn not_sent(error: SendError) -> Ended {
    Ended { after: Duration::ZERO, how: Err(fault(error.into())) }
}

fn fault(error: CallError) -> (Kind, Failure) {
    let kind = match &error {
        CallError::Refused { .. } | CallError::NotSent(SendError::TooLarge { .. }) => Kind::Refused,
        CallError::Timeout { .. } => Kind::Timeout,
        _ => Kind::Error,
    };
    (kind, failure(error))
}

/// A message that has several outcomes is as good as its worst, and as slow as its slowest.
fn all_settled(outcomes: impl Iterator<Item = Outcome>) -> Ended {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Acked { elapsed, .. } | Outcome::Stored { elapsed, .. } => (0, *elapsed),
        Outcome::Unacknowledged { after, .. } => (1, *after),
        Outcome::Refused { after, .. } => (2, *after),
        _ => (3, Duration::ZERO),
    };
    outcomes.max_by_key(rank).map_or_else(
        || {
            let failure = Failure::new(Exit::Failed, anyhow::anyhow!("it went to nobody, and nobody said why"));
            Ended { after: Duration::ZERO, how: Err((Kind::Error, failure)) }
        },
        settled,
    )
}

fn settled(outcome: Outcome) -> Ended {
    let (after, kind, exit, told) = match outcome {
        Outcome::Acked { elapsed, .. } | Outcome::Stored { elapsed, .. } => {
            return Ended { after: elapsed, how: Ok(()) };
        }
        Outcome::Refused { refusal, after, .. } => (after, Kind::Refused, Exit::Refused, refusal.to_string()),
        Outcome::Unacknowledged { after, .. } => {
            (after, Kind::Unacknowledged, Exit::Timeout, format!("Unacknowledged: {outcome}"))
        }
        // An outcome that is not known here yet.
        _ => (Duration::ZERO, Kind::Error, Exit::Failed, outcome.to_string()),
    };
    Ended { after, how: Err((kind, Failure::new(exit, anyhow::anyhow!(told)))) }
}
