//! The header: the only frame of a message that a broker reads. `docs/wire-protocol.md` defines it.

use crate::naming::{InvalidName, MAX_NAME_BYTES, NodeName, ServerName, TopicKey};
use crate::refusal::Reason;
use crate::wire::{ClockId, MessageId, Ttl};

/// The first bytes of every header.
pub(crate) const MAGIC: [u8; 2] = *b"Z2";
/// The version of this protocol.
pub(crate) const PROTOCOL_VERSION: u8 = 1;
/// The length of the fixed part of a header.
pub const FIXED_BYTES: usize = 48;
/// The longest key: two names and a `/`.
const MAX_KEY_BYTES: usize = 2 * MAX_NAME_BYTES + 1;
/// The longest header: the fixed part, `exchange/topic`, a server and a node.
pub const MAX_HEADER_BYTES: usize = FIXED_BYTES + MAX_KEY_BYTES + MAX_NAME_BYTES + MAX_NAME_BYTES;

const VERSION_AT: usize = 2;
const KIND_AT: usize = 3;
const FLAGS_AT: usize = 4;
const CODE_AT: usize = 5;
const COUNT_AT: usize = 6;
const TAG_AT: usize = 8;
const ID_AT: usize = 16;
const TTL_AT: usize = 32;
const DELIVERED_AT: usize = 36;
const KEY_LENGTH_AT: usize = 44;
const SERVER_LENGTH_AT: usize = 46;
const NODE_LENGTH_AT: usize = 47;

macro_rules! kinds {
    ($($(#[doc = $meaning:literal])+ $name:ident = $code:literal,)+) => {
        /// The kind of a message. The numbers stand on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[doc = $meaning])+ $name = $code,)+
        }

        impl Kind {
            fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// A request whose sender waits for the result.
    Call = 1,
    /// A request whose sender waits only for the acknowledgement that a server has accepted it.
    Cast = 2,
    /// A cast for every server of the topic. The broker copies it to each server of its node, and
    /// each server answers.
    Fanout = 3,
    /// A notification. One listener of every pool gets it. The broker keeps it until the listener
    /// has handled it.
    Notify = 4,
    /// A caller asks the broker whether the call with this id is still waiting or running. With
    /// [`HELLO_ID`](crate::hello::HELLO_ID), a client asks for facts about the broker.
    Inquire = 5,
    /// The sender of the call or cast with this id no longer wants it. If it waits, it does not
    /// run; if it runs, the handler can learn of it. There is no answer. A client sends it only over
    /// the connection of the request, and only to a broker that knows it (see WELCOME);
    /// a broker only to a server that does.
    Cancel = 6,
    /// The result of a call: from a worker, through the broker, to the caller.
    Reply = 16,
    /// A server has accepted a cast; sent before the handler runs.
    Ack = 17,
    /// A request did not run, or its worker was lost. The header has the reason.
    Refusal = 18,
    /// The broker keeps a notification until a listener takes it.
    Stored = 19,
    /// The answer to [`Inquire`](Self::Inquire): the call is still waiting or running.
    InFlight = 20,
    /// The answer to the first [`Inquire`](Self::Inquire) on a connection: facts about the broker
    /// ([`Welcome`](crate::hello::Welcome)).
    Welcome = 21,
    /// A server registers at its local broker, and repeats it as a sign of life.
    Register = 32,
    /// The broker has accepted a registration.
    Registered = 33,
    /// A server stops and takes no new requests.
    Withdraw = 34,
    /// That server has no request in flight any more.
    Withdrawn = 35,
    /// A worker is free again after a cast. The header's id is the run of the server, the tag the
    /// number of the worker, the count its new credit.
    Credit = 36,
    /// A tool asks the local broker for its status.
    Status = 38,
    /// The status, as JSON.
    StatusReport = 39,
    /// A listener has handled a notification. Tag and id are those of the delivery, the count is
    /// the worker's new credit. With [`Flags::REQUEUE`] the notification is delivered again; the
    /// message then has key, server, time to live and body, for a broker that has restarted
    /// meanwhile.
    Handled = 40,
}

impl Kind {
    /// Whether a message of this kind asks a server to run something.
    #[must_use]
    pub const fn is_request(self) -> bool {
        matches!(self, Self::Call | Self::Cast | Self::Fanout | Self::Notify)
    }
}

/// The flags of a header. Unknown bits are ignored, so that a later version can add some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The body of this reply is a remote error.
    pub const FAILURE: Self = Self(1);
    /// In a cast or fanout: the sender knows [`Reason::NoMethod`]. Earlier versions do not, and would
    /// ignore such a refusal, so they get [`Reason::Malformed`].
    pub const NO_METHOD: Self = Self(1);
    /// In a NOTIFY: its sender is content once the broker keeps it, so the broker answers
    /// [`Kind::Stored`] at once, even if a listener is ready. Earlier versions wait for the
    /// listener's answer.
    pub const ANSWER_STORED: Self = Self(1);
    /// The sender may send this request again. The server remembers its id and runs it once.
    pub const MAY_REPEAT: Self = Self(2);
    /// While no server of the target is known, the request waits within its time to live.
    pub const WAIT_FOR_READY: Self = Self(4);
    /// Deliver this notification again ([`Kind::Handled`]).
    pub const REQUEUE: Self = Self(8);
    /// The caller will ask after this call ([`Kind::Inquire`]).
    pub const MONITORED: Self = Self(16);
    /// Answers to this request may come in a [bundle](crate::bundle).
    pub const BUNDLES: Self = Self(32);
    /// In a [`Kind::Credit`] of a worker: its handlers are quick, so it takes as many requests as
    /// its [window](crate::wire::control::ServerRegistration::window) allows.
    pub const WIDE: Self = Self(64);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The error for bytes that are not a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The frame does not have the length that its fields need.
    #[error("header of {found} bytes, its fields need {needed}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// The frame does not start with `Z2`.
    #[error("header starts with {0:02x?}, not with \"Z2\"")]
    Magic([u8; 2]),
    /// The key is longer than two names and a `/`.
    #[error("key of {0} bytes, the limit is {MAX_KEY_BYTES}")]
    Key(usize),
    /// This build does not speak the protocol version.
    #[error("protocol version {0}, this side speaks version {PROTOCOL_VERSION}")]
    Version(u8),
    /// This build does not know the kind.
    #[error("unknown message kind {0}")]
    Kind(u8),
    /// This build does not know the reason code.
    #[error("unknown reason code {0}")]
    Code(u8),
    /// A name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A name is not UTF-8.
    #[error("a name in the header is not text")]
    NotText,
}

/// A header, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The kind of message.
    pub kind: Kind,
    /// The flags.
    pub flags: Flags,
    /// The reason, in a refusal.
    pub reason: Option<Reason>,
    /// From a worker: its *credit*, the number of further requests that it takes. To a worker, in a
    /// notification: the number of this delivery, from 1. To a client, in an answer to a FANOUT or
    /// NOTIFY: the number of answers still to come. From a client, in a request: the number of the
    /// clock of [`delivered`](Self::delivered), a [`ClockId`]. Otherwise 0.
    pub count: u16,
    /// Chosen by the sender of a request on one hop, and returned in the answer on the same hop.
    pub tag: u64,
    /// Chosen by the client. The same in the request, its answer and every resend.
    pub id: MessageId,
    /// The time for which the request may still wait and run.
    pub ttl: Ttl,
    /// When the time to live was written, or when this answer was sent, in milliseconds of a
    /// monotonic clock ([`Ttl::monotonic_millis`]): so that the time on the way counts. Between the
    /// processes of a node it is the node's clock. In a request from a client to a broker it is the
    /// broker's clock, as the client knows it, and `count` names that clock. In an answer from a
    /// broker to a client it is the broker's clock. 0: unknown, and a time to live counts from the
    /// reading.
    pub delivered: u64,
    /// Exchange and topic. Absent in answers.
    pub key: Option<TopicKey>,
    /// In a request: exactly this server. In an answer: the server that answered.
    pub server: Option<ServerName>,
    /// In an answer: the node of the server or broker that answered. In a request: the node of the
    /// caller, if the broker [takes it](crate::hello::Welcome::callers).
    pub node: Option<NodeName>,
}

impl Header {
    /// A header of `kind` for message `id`. All other fields are empty.
    #[must_use]
    pub fn new(kind: Kind, id: MessageId) -> Self {
        Self {
            kind,
            flags: Flags::NONE,
            reason: None,
            count: 0,
            tag: 0,
            id,
            ttl: Ttl::ZERO,
            delivered: 0,
            key: None,
            server: None,
            node: None,
        }
    }

    /// The header's frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let key = self.key.as_ref().map_or("", TopicKey::name);
        let server = self.server.as_ref().map_or("", ServerName::as_str);
        let node = self.node.as_ref().map_or("", NodeName::as_str);
        let mut out = Vec::with_capacity(FIXED_BYTES + key.len() + server.len() + node.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[PROTOCOL_VERSION, self.kind as u8, self.flags.0]);
        out.push(self.reason.map_or(0, Reason::code));
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.tag.to_be_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.ttl.as_millis().to_be_bytes());
        out.extend_from_slice(&self.delivered.to_be_bytes());
        // The types of the names bound all three lengths.
        out.extend_from_slice(&(key.len() as u16).to_be_bytes());
        out.extend_from_slice(&[server.len() as u8, node.len() as u8]);
        for name in [key, server, node] {
            out.extend_from_slice(name.as_bytes());
        }
        out
    }

    /// Writes the time of sending into an encoded header, after [`rewrite_hop`]. A frame that is too
    /// short stays unchanged.
    pub fn stamp_delivered(frame: &mut [u8], delivered: u64) {
        if frame.len() >= FIXED_BYTES {
            frame[DELIVERED_AT..DELIVERED_AT + 8].copy_from_slice(&delivered.to_be_bytes());
        }
    }

    /// Writes the time of sending, by the clock of a broker, into an encoded request. A frame that
    /// is too short stays unchanged.
    pub fn stamp_sent(frame: &mut [u8], clock: ClockId, sent: u64) {
        Self::stamp_count(frame, clock.to_wire());
        Self::stamp_delivered(frame, sent);
    }

    /// The length of an encoded header without its node, which stands at its end.
    #[must_use]
    pub fn length_without_node(frame: &[u8]) -> usize {
        frame.len() - frame.get(NODE_LENGTH_AT).map_or(0, |length| usize::from(*length).min(frame.len()))
    }

    /// Says in an encoded header that it has no node, after its node was cut off. A frame that is too
    /// short stays unchanged.
    pub fn forget_node(frame: &mut [u8]) {
        if let Some(length) = frame.get_mut(NODE_LENGTH_AT) {
            *length = 0;
        }
    }

    /// Adds flags to an encoded header. A frame that is too short stays unchanged.
    pub fn stamp_flags(frame: &mut [u8], flags: Flags) {
        if frame.len() >= FIXED_BYTES {
            frame[FLAGS_AT] |= flags.0;
        }
    }

    /// Writes the count into an encoded header. A frame that is too short stays unchanged.
    pub fn stamp_count(frame: &mut [u8], count: u16) {
        if frame.len() >= FIXED_BYTES {
            frame[COUNT_AT..COUNT_AT + 2].copy_from_slice(&count.to_be_bytes());
        }
    }

    /// Reads the frame of a header and checks every field.
    ///
    /// # Errors
    /// [`InvalidHeader`]. No bytes make it panic.
    pub fn decode(frame: &[u8]) -> Result<Self, InvalidHeader> {
        let view = HeaderView::new(frame)?;
        Ok(Self {
            kind: view.kind,
            flags: view.flags,
            reason: view.reason()?,
            count: view.count(),
            tag: view.tag(),
            id: view.id(),
            ttl: view.ttl(),
            delivered: view.delivered(),
            key: (!view.key().is_empty()).then(|| TopicKey::parse(view.key())).transpose()?,
            server: (!view.server().is_empty()).then(|| ServerName::new(view.server())).transpose()?,
            node: (!view.node().is_empty()).then(|| NodeName::new(view.node())).transpose()?,
        })
    }
}

/// A header that is read in place, without an allocation: the fields that a broker needs to route.
/// The names are not checked, because a name that was never registered has no route.
#[derive(Debug, Clone, Copy)]
pub struct HeaderView<'a> {
    frame: &'a [u8],
    kind: Kind,
    flags: Flags,
    key: &'a str,
    server: &'a str,
    node: &'a str,
}

impl<'a> HeaderView<'a> {
    /// Checks magic, version, kind and lengths of a frame.
    ///
    /// # Errors
    /// [`InvalidHeader`] names the problem.
    pub fn new(frame: &'a [u8]) -> Result<Self, InvalidHeader> {
        let found = frame.len();
        if let Some(magic) = frame.first_chunk::<2>()
            && *magic != MAGIC
        {
            return Err(InvalidHeader::Magic(*magic));
        }
        if found < FIXED_BYTES {
            return Err(InvalidHeader::Length { found, needed: FIXED_BYTES });
        }
        if frame[VERSION_AT] != PROTOCOL_VERSION {
            return Err(InvalidHeader::Version(frame[VERSION_AT]));
        }
        let kind = Kind::from_code(frame[KIND_AT]).ok_or(InvalidHeader::Kind(frame[KIND_AT]))?;
        let key = usize::from(u16::from_be_bytes(array(frame, KEY_LENGTH_AT)));
        let server = usize::from(frame[SERVER_LENGTH_AT]);
        let node = usize::from(frame[NODE_LENGTH_AT]);
        if key > MAX_KEY_BYTES {
            return Err(InvalidHeader::Key(key));
        }
        let needed = FIXED_BYTES + key + server + node;
        if found != needed {
            return Err(InvalidHeader::Length { found, needed });
        }
        let names = std::str::from_utf8(&frame[FIXED_BYTES..]).map_err(|_| InvalidHeader::NotText)?;
        let cut = |from: usize, to: usize| names.get(from..to).ok_or(InvalidHeader::NotText);
        Ok(Self {
            frame,
            kind,
            flags: Flags(frame[FLAGS_AT]),
            key: cut(0, key)?,
            server: cut(key, key + server)?,
            node: cut(key + server, key + server + node)?,
        })
    }

    /// The kind of message.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The flags.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// The reason, in a refusal.
    ///
    /// # Errors
    /// [`InvalidHeader::Code`] for a code of a later protocol.
    pub fn reason(&self) -> Result<Option<Reason>, InvalidHeader> {
        match self.frame[CODE_AT] {
            0 => Ok(None),
            code => Reason::from_code(code).map(Some).ok_or(InvalidHeader::Code(code)),
        }
    }

    /// The count; its meaning depends on the hop ([`Header::count`]).
    #[must_use]
    pub fn count(&self) -> u16 {
        u16::from_be_bytes(array(self.frame, COUNT_AT))
    }

    /// The tag of this hop.
    #[must_use]
    pub fn tag(&self) -> u64 {
        u64::from_be_bytes(array(self.frame, TAG_AT))
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        MessageId::from_bytes(array(self.frame, ID_AT))
    }

    /// The time left.
    #[must_use]
    pub fn ttl(&self) -> Ttl {
        Ttl::from_millis(u32::from_be_bytes(array(self.frame, TTL_AT)))
    }

    /// The time left of a request of a client at `now`, both by the clock `own` of this broker. The
    /// time since the client sent it counts. Nothing is left if the client has stamped the request
    /// by another clock: the host was restarted meanwhile, so nobody knows how old the request is.
    #[must_use]
    pub fn ttl_left(&self, own: ClockId, now: u64) -> Ttl {
        match ClockId::from_wire(self.count()) {
            None => self.ttl(),
            Some(clock) if clock == own => self.ttl().left_since(self.delivered(), now),
            Some(_) => Ttl::ZERO,
        }
    }

    /// The time of sending, or 0 ([`Header::delivered`]).
    #[must_use]
    pub fn delivered(&self) -> u64 {
        u64::from_be_bytes(array(self.frame, DELIVERED_AT))
    }

    /// `exchange/topic`, or empty.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// The server, or empty.
    #[must_use]
    pub fn server(&self) -> &'a str {
        self.server
    }

    /// Whether the node is absent or a valid name.
    #[must_use]
    pub fn has_valid_node(&self) -> bool {
        self.node.is_empty() || NodeName::check(self.node).is_ok()
    }

    /// The node, or empty.
    #[must_use]
    pub fn node(&self) -> &'a str {
        self.node
    }
}

/// Rewrites the tag and the time to live of an encoded header between two hops, and clears the time
/// of sending, which counts on one hop only ([`Header::stamp_delivered`]). A frame that is too short
/// stays unchanged.
pub fn rewrite_hop(frame: &mut [u8], tag: u64, ttl: Ttl) {
    if frame.len() >= FIXED_BYTES {
        frame[TAG_AT..TAG_AT + 8].copy_from_slice(&tag.to_be_bytes());
        frame[TTL_AT..TTL_AT + 4].copy_from_slice(&ttl.as_millis().to_be_bytes());
        Header::stamp_delivered(frame, 0);
    }
}

/// `N` bytes of the fixed part, whose length [`HeaderView::new`] has checked.
fn array<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&frame[at..at + N]);
    out
}
