//! A request: its options, its deadline, and its encoded form.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use zmqv2_proto::{
    Flags, Header, Kind, MessageId, MethodName, NodeName, RequestContext, RequestRef, ServerName, Target, TopicKey,
    Ttl, Version, deadline,
};

use crate::delivery::table::DeliveryOptions;
use crate::outcome::send_error::SendError;

pub(crate) const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// The target and the options, which a prepared copy of a client may change.
#[derive(Debug, Clone)]
pub(crate) struct CallOptions {
    pub(crate) target: Arc<Target>,
    /// The key of the target, made once.
    pub(crate) key: TopicKey,
    /// `None`: the configured one.
    pub(crate) timeout: Option<Duration>,
    pub(crate) cast_timeout: Option<Duration>,
    pub(crate) version_cap: Option<Version>,
    pub(crate) retries: u32,
    pub(crate) wait_for_ready: bool,
    /// The broker of a call must confirm within this time that the call is still in flight.
    pub(crate) monitor: Option<Duration>,
    /// The node of this client.
    pub(crate) caller: Option<NodeName>,
}

/// One message on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) options: &'a CallOptions,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
}

/// A request that can be sent once or several times.
#[derive(Debug)]
pub(crate) struct EncodedRequest {
    pub(crate) id: MessageId,
    pub(crate) key: TopicKey,
    pub(crate) server: Option<ServerName>,
    pub(crate) flags: Flags,
    /// The node of this client.
    pub(crate) caller: Option<NodeName>,
    pub(crate) body: Vec<u8>,
    pub(crate) deadline: Instant,
}

impl CallOptions {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            key: target.key(),
            target: Arc::new(target),
            timeout: None,
            cast_timeout: None,
            version_cap: None,
            retries: 0,
            wait_for_ready: false,
            monitor: None,
            caller: None,
        }
    }

    /// Checks the target and the version.
    fn check(&self) -> Result<(), SendError> {
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

    /// The flags for brokers and servers. If `certain`, the message cannot have another node, so
    /// the broker may hold it until a server comes.
    pub(crate) fn flags(&self, kind: Kind, certain: bool) -> Flags {
        let set = |on, flag| if on { flag } else { Flags::NONE };
        set(self.retries > 0, Flags::MAY_REPEAT)
            .with(set(self.wait_for_ready && certain, Flags::WAIT_FOR_READY))
            .with(set(self.monitor.is_some() && kind == Kind::Call, Flags::MONITORED))
    }
}

impl<'a> Request<'a> {
    pub(crate) fn begin(options: &'a CallOptions, timeout: Duration, started: Instant) -> Self {
        let timeout = timeout.clamp(MIN_TIMEOUT, Ttl::MAX.into());
        Self { options, started, deadline: deadline(started, timeout) }
    }

    pub(crate) fn boxed_target(&self) -> Box<Target> {
        Box::new(Target::clone(&self.options.target))
    }

    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// The options for the pending table. The caller adds the size.
    pub(crate) fn delivery_options(&self, kind: Kind) -> DeliveryOptions {
        let CallOptions { retries, wait_for_ready, monitor, .. } = *self.options;
        let monitor = monitor.filter(|_| kind == Kind::Call);
        DeliveryOptions { retries, wait_for_ready, monitor, ..DeliveryOptions::new(self.deadline) }
    }

    /// Encodes the request. Every server gets the same bytes.
    pub(crate) fn encode(
        &self,
        kind: Kind,
        context: &RequestContext,
        method: &MethodName,
        args: &impl Serialize,
        limit: usize,
    ) -> Result<EncodedRequest, SendError> {
        self.options.check()?;
        let target = &self.options.target;
        let id = MessageId::random();
        let mut draft = RequestRef::new(method, args, context);
        draft.namespace = target.namespace.as_ref();
        draft.version = target.version;
        draft.unique_id = Some(id);
        let body = draft.encode().map_err(|source| SendError::Arguments {
            method: method.to_string(),
            target: self.boxed_target(),
            source,
        })?;
        self.with_body(kind, id, body, limit)
    }

    /// A request with a body that is ready.
    pub(crate) fn ready(&self, kind: Kind, body: Vec<u8>, limit: usize) -> Result<EncodedRequest, SendError> {
        self.options.check()?;
        self.with_body(kind, MessageId::random(), body, limit)
    }

    fn with_body(&self, kind: Kind, id: MessageId, body: Vec<u8>, limit: usize) -> Result<EncodedRequest, SendError> {
        let size = body.len();
        if size > limit {
            return Err(SendError::TooLarge { size, limit, target: self.boxed_target() });
        }
        let CallOptions { target, key, .. } = self.options;
        let (key, server, flags) = (key.clone(), target.server.clone(), self.options.flags(kind, false));
        Ok(EncodedRequest {
            id,
            key,
            server,
            flags,
            caller: self.options.caller.clone(),
            body,
            deadline: self.deadline,
        })
    }
}

impl EncodedRequest {
    pub(crate) fn header(&self, kind: Kind, ttl: Ttl) -> Header {
        let mut header = Header::new(kind, self.id);
        header.flags = self.flags;
        header.ttl = ttl;
        header.key = Some(self.key.clone());
        header.server.clone_from(&self.server);
        header.node.clone_from(&self.caller);
        header
    }
}
