//! A request that the program has polled.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::{BodyError, Flags, Kind, MessageId, NodeName, Reason, Refusal, Reply, Request};

use super::repeats::Repeats;
use crate::rpc::counters::LiveCounters;
use crate::runtime::cancellation::Cancellation;
use crate::runtime::shared_socket::Deferred;
use crate::runtime::worker::answer_to;

/// A request of a [`PullServer`](crate::PullServer). It can be sent to another thread, and answered
/// there, later.
///
/// Answer a call with [`reply`](Self::reply). [`acknowledge`](Self::acknowledge) a cast before it
/// runs, and [`finish`](Self::finish) it when it has run. A request that is dropped before that goes
/// back to the broker, which gives it to another server, or to this one again.
///
/// A child that was forked can do nothing with the requests of its parent, and dropping them there
/// does nothing.
///
/// Each request has one of the server's [places](crate::PullServerBuilder::places) until it is
/// answered, finished or dropped.
#[must_use = "a request that is dropped goes back to the broker"]
pub struct PulledRequest {
    /// `None` once it was answered.
    request: Option<Deferred>,
    repeats: Arc<Repeats>,
    counters: Arc<LiveCounters>,
    /// It was acknowledged or answered, so another one with its id does not run.
    settled: bool,
}

/// How a call ended, for [`PulledRequest::reply_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// The body has a result.
    Result,
    /// The body has the error of the method.
    Failure,
}

impl PulledRequest {
    pub(super) fn new(request: Deferred, repeats: &Arc<Repeats>, counters: &Arc<LiveCounters>) -> Self {
        let request = Some(request);
        Self { request, repeats: Arc::clone(repeats), counters: Arc::clone(counters), settled: false }
    }

    fn get(&self) -> &Deferred {
        self.request.as_ref().expect("it is taken only by methods that consume it")
    }

    /// The message's id. It is the same if the client sends the request again.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.get().header.id
    }

    /// The caller's node. `None`: the caller or its broker is of an earlier version.
    #[must_use]
    pub fn node(&self) -> Option<&NodeName> {
        self.get().header.node.as_ref()
    }

    /// Whether the sender waits for a reply. Otherwise it is a cast, or a copy of a fanout.
    #[must_use]
    pub fn is_call(&self) -> bool {
        self.get().header.kind == Kind::Call
    }

    /// The sender gives up at this time.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.get().deadline
    }

    /// Whether somebody still waits for the answer.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        self.get().cancellation()
    }

    /// The body as it came: JSON text, of the form in `docs/wire-protocol.md`.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.get().body()
    }

    /// Reads the body: method, arguments and context.
    ///
    /// # Errors
    /// [`BodyError`]: it is no request. Refuse it then with `Malformed`.
    pub fn decode(&self) -> Result<Request, BodyError> {
        Request::decode(self.body())
    }

    /// Tells the sender of a cast that this server runs it. From then on it does not go back. For a
    /// call it does nothing: only the reply tells the caller.
    pub fn acknowledge(&mut self) {
        if self.settled || self.is_call() || !self.get().is_own() {
            return;
        }
        self.settled = true;
        self.counters.casts.add();
        if let Some(request) = &mut self.request {
            request.acknowledge();
        }
        self.repeats.answered(self.id(), &None);
    }

    /// Ends a cast that has run. Acknowledges it first if need be. A call needs a reply, so this gives
    /// it back.
    pub fn finish(mut self) {
        self.acknowledge();
    }

    /// Answers a call. Ends a cast, whose sender gets no reply.
    pub fn reply(self, reply: &Reply) {
        let kind = if matches!(reply, Reply::Failure(_)) { BodyKind::Failure } else { BodyKind::Result };
        match reply.encode() {
            Ok(body) => self.reply_bytes(body, kind),
            Err(error) => self.refuse(Reason::Malformed, format!("the reply cannot be written: {error}")),
        }
    }

    /// Answers a call with a ready body, as [`Reply::encode`] writes it. Ends a cast.
    ///
    /// The caller of a reply that is too large gets the reason `TooLarge` instead, with its size and
    /// the limit.
    pub fn reply_bytes(mut self, body: Vec<u8>, kind: BodyKind) {
        if !self.is_call() {
            if kind == BodyKind::Failure {
                self.counters.failed_casts.add();
            }
            return self.finish();
        }
        let Some(request) = self.request.take().filter(Deferred::is_own) else { return };
        self.settled = true;
        self.counters.calls.add();
        let flags = match kind {
            BodyKind::Result => Flags::NONE,
            BodyKind::Failure => Flags::FAILURE,
        };
        if kind == BodyKind::Failure {
            self.counters.failed_calls.add();
        }
        let (id, may_repeat) = (request.header.id, request.header.flags.contains(Flags::MAY_REPEAT));
        let gave_up = kind == BodyKind::Failure && request.cancellation().was_seen();
        let fits = request.worker().check_reply(body.len(), &format_args!("request {id}"));
        let stored = (may_repeat && !gave_up && fits.is_ok()).then(|| Arc::new((flags, body.clone())));
        match fits {
            Ok(()) => {
                let mut answer = answer_to(&request.header, Kind::Reply);
                answer.flags = flags;
                request.finish(answer, body);
            }
            Err(refusal) => request.refuse(&refusal),
        }
        if may_repeat {
            self.repeats.answered(id, &stored);
        }
    }

    /// Refuses a request that does not run: its sender gets the reason and the text. Without effect on
    /// a cast that was acknowledged.
    pub fn refuse(mut self, reason: Reason, detail: impl Into<String>) {
        if self.settled {
            return;
        }
        let Some(request) = self.request.take().filter(Deferred::is_own) else { return };
        self.repeats.forget(request.header.id);
        request.refuse(&Refusal::new(reason, detail));
    }

    /// Gives a request back that does not run here, as dropping it does.
    pub fn give_back(self) {}
}

impl Drop for PulledRequest {
    fn drop(&mut self) {
        if !self.settled
            && let Some(request) = self.request.as_ref().filter(|request| request.is_own())
        {
            self.repeats.forget(request.header.id);
        }
    }
}

impl fmt::Debug for PulledRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.request.as_ref().map(|request| &request.header);
        f.debug_struct("PulledRequest")
            .field("id", &header.map(|header| header.id))
            .field("kind", &header.map(|header| header.kind))
            .field("settled", &self.settled)
            .finish_non_exhaustive()
    }
}
