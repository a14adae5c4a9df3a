//! What one call asks for, and the errors it can end with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use zmqv2_proto::{
    Address, BodyError, Flags, Header, Kind, MessageId, MethodName, Node, Reason, Refusal, RequestContext, RequestRef,
    ServerName, Target, TopicKey, Ttl, Version,
};

use crate::delivery::table::DeliveryOptions;
use crate::outcome::call_error::CallError;
use crate::outcome::send_error::SendError;

pub(crate) const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// Whom to call, and how: what a prepared copy may change.
#[derive(Debug, Clone)]
pub(crate) struct CallOptions {
    pub(crate) target: Arc<Target>,
    /// That of the target, made once.
    pub(crate) key: TopicKey,
    pub(crate) timeout: Duration,
    pub(crate) cast_timeout: Duration,
    pub(crate) version_cap: Option<Version>,
    pub(crate) retries: u32,
    pub(crate) wait_for_ready: bool,
    /// Within what time the broker of a call is to say that it is still in flight.
    pub(crate) monitor: Option<Duration>,
}

/// One call on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) target: &'a Arc<Target>,
    pub(crate) key: &'a TopicKey,
    pub(crate) method: &'a str,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    pub(crate) monitor: Option<Duration>,
}

/// A request, ready to be sent once or several times.
#[derive(Debug)]
pub(crate) struct EncodedRequest {
    pub(crate) id: MessageId,
    pub(crate) method: MethodName,
    pub(crate) key: TopicKey,
    pub(crate) server: Option<ServerName>,
    pub(crate) flags: Flags,
    pub(crate) body: Vec<u8>,
    pub(crate) deadline: Instant,
    /// How long an answer is waited for now: until the next attempt, or the end.
    pub(crate) answer_by: Instant,
}

impl CallOptions {
    pub(crate) fn can_send(&self, version: Version) -> bool {
        self.version_cap.is_none_or(|cap| cap.serves(version))
    }

    /// The errors that need no clock.
    pub(crate) fn check(&self) -> Result<(), SendError> {
        let target = || Box::new(Target::clone(&self.target));
        if self.target.fanout {
            return Err(SendError::FanoutTarget { target: target() });
        }
        let version = self.target.version.unwrap_or_default();
        match self.version_cap {
            Some(cap) if !cap.serves(version) => Err(SendError::VersionCap { version, cap, target: target() }),
            _ => Ok(()),
        }
    }

    /// The options for the pending table; the caller adds the candidates and the size.
    pub(crate) fn delivery_options(&self, kind: Kind, request: &Request<'_>) -> DeliveryOptions {
        DeliveryOptions {
            deadline: request.deadline,
            expires: request.deadline,
            retries: self.retries,
            wait_for_ready: self.wait_for_ready,
            monitor: self.monitor.filter(|_| kind == Kind::Call),
            candidates: 0,
            bytes: 0,
            server_queue: None,
        }
    }

    /// The flags that tell brokers and servers the sender's options, for a message with so many candidates.
    pub(crate) fn flags(&self, kind: Kind, candidates: usize) -> Flags {
        let set = |on, flag| if on { flag } else { Flags::NONE };
        // At the wrong node, it would wait for a server that comes elsewhere.
        let wait_there = self.wait_for_ready && (self.target.server.is_none() || candidates <= 1);
        set(self.retries > 0, Flags::MAY_REPEAT)
            .with(set(wait_there, Flags::WAIT_FOR_READY))
            .with(set(self.monitor.is_some() && kind == Kind::Call, Flags::MONITORED))
    }
}

impl<'a> Request<'a> {
    pub(crate) fn begin(options: &'a CallOptions, timeout: Duration, method: &'a str, started: Instant) -> Self {
        let timeout = timeout.clamp(MIN_TIMEOUT, Ttl::MAX.into());
        let deadline = started + timeout;
        Self { target: &options.target, key: &options.key, method, started, deadline, monitor: options.monitor }
    }

    pub(crate) fn boxed_target(&self) -> Box<Target> {
        Box::new(Target::clone(self.target))
    }

    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    pub(crate) fn unreachable(&self, node: &Node, address: Address, now: Instant) -> CallError {
        CallError::Unreachable {
            target: self.boxed_target(),
            node: node.name.clone(),
            address,
            after: self.elapsed(now),
        }
    }

    pub(crate) fn unexpected(&self, source: BodyError) -> CallError {
        CallError::Answer { method: self.method.to_owned(), target: self.boxed_target(), source }
    }

    /// The request as it will be sent to any server.
    pub(crate) fn encode(
        &self,
        kind: Kind,
        options: &CallOptions,
        context: &RequestContext,
        args: &impl Serialize,
        max_message_bytes: usize,
    ) -> Result<EncodedRequest, SendError> {
        options.check()?;
        let id = MessageId::random();
        let method = MethodName::new(self.method)?;
        let mut draft = RequestRef::new(&method, args, context);
        draft.namespace = self.target.namespace.as_ref();
        draft.version = self.target.version;
        draft.unique_id = Some(id);
        let body = draft.encode().map_err(|source| SendError::Arguments {
            method: method.to_string(),
            target: self.boxed_target(),
            source,
        })?;
        let (size, limit) = (body.len(), max_message_bytes);
        if size > limit {
            return Err(SendError::TooLarge { size, limit, target: self.boxed_target() });
        }
        let server = self.target.server.clone();
        let (key, flags, deadline) = (self.key.clone(), options.flags(kind, 1), self.deadline);
        Ok(EncodedRequest { id, method, key, server, flags, body, deadline, answer_by: deadline })
    }

    /// Nobody could be asked.
    pub(crate) fn no_route(&self, now: Instant) -> CallError {
        let refusal = Refusal::new(Reason::NoRoute, format!("the directory knows no node of {}", self.target));
        CallError::Refused { refusal, target: self.boxed_target(), node: None, after: self.elapsed(now) }
    }

    /// Nobody took it in all the time that it was to wait for somebody.
    pub(crate) fn never_ready(&self, now: Instant) -> CallError {
        let refusal = Refusal::new(Reason::Expired, format!("nobody became ready to take it for {}", self.target));
        CallError::Refused { refusal, target: self.boxed_target(), node: None, after: self.elapsed(now) }
    }
}

impl EncodedRequest {
    pub(crate) fn header(&self, kind: Kind, ttl: Ttl) -> Header {
        let mut header = Header::new(kind, self.id);
        header.flags = self.flags;
        header.ttl = ttl;
        header.key = Some(self.key.clone());
        header.server.clone_from(&self.server);
        header
    }
}

/// Whether the request may have run, and may be sent again by whoever asked for retries.
pub(crate) fn may_be_repeated(error: &CallError) -> bool {
    match error {
        CallError::Refused { refusal, .. } => refusal.reason == Reason::ServerLost,
        CallError::ConnectionLost { .. } | CallError::Timeout { .. } => true,
        _ => false,
    }
}

/// Whether the request surely did not run and another node may take it.
pub(crate) fn may_go_elsewhere(error: &CallError) -> bool {
    match error {
        CallError::Refused { refusal, .. } => refusal.reason.another_node_may_take_it(),
        CallError::Unreachable { .. } => true,
        _ => false,
    }
}

/// Whether the directory, which could not say where to go, may say it later.
pub(crate) fn directory_may_recover(error: &CallError) -> bool {
    matches!(error, CallError::NotSent(SendError::Directory { source, .. }) if source.may_pass())
}

/// Which of two failures to report: that somebody is busy says most, because asking again later will help; then that
/// somebody is stopping, for the same reason; then the last refusal; then the last node that could not be reached.
pub(crate) fn failure_to_report(before: Option<CallError>, error: CallError) -> CallError {
    let rank = |error: &CallError| match error.reason() {
        Some(Reason::Busy) => 3,
        Some(Reason::ShuttingDown) => 2,
        Some(_) => 1,
        None => 0,
    };
    match before {
        Some(before) if rank(&before) > rank(&error) => before,
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: Reason) -> CallError {
        let target = Box::new(Target::topic("t").unwrap());
        CallError::Refused { refusal: Refusal::new(reason, ""), target, node: None, after: Duration::ZERO }
    }

    #[test]
    fn busy_is_reported_rather_than_no_route_and_a_refusal_rather_than_silence() {
        let dead = || CallError::Unreachable {
            target: Box::new(Target::topic("t").unwrap()),
            node: "n".parse().unwrap(),
            address: Address::Tcp("n".parse().unwrap()),
            after: Duration::ZERO,
        };
        let report =
            |errors: Vec<CallError>| errors.into_iter().fold(None, |before, e| Some(failure_to_report(before, e)));
        let reason = |errors| report(errors).unwrap().reason();
        assert_eq!(reason(vec![refused(Reason::Busy), refused(Reason::NoRoute), dead()]), Some(Reason::Busy));
        assert_eq!(reason(vec![refused(Reason::NoRoute), refused(Reason::ShuttingDown)]), Some(Reason::ShuttingDown));
        assert_eq!(reason(vec![refused(Reason::ShuttingDown), refused(Reason::NoRoute)]), Some(Reason::ShuttingDown));
        assert_eq!(reason(vec![dead(), refused(Reason::NoRoute), dead()]), Some(Reason::NoRoute));
        assert_eq!(reason(vec![dead(), dead()]), None);
    }
}
