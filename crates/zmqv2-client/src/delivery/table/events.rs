//! The inputs and actions of the table.

use std::time::{Duration, Instant};

use zmqv2_proto::{NodeName, Refusal};

use super::{LinkId, QueueId, Tag};
use crate::delivery::attempt::{SearchPlan, Verdict};

/// The bounds of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// How long a message waits for a connection if there are other candidates.
    pub(crate) connect_timeout: Duration,
    /// Shortens the pauses of retries, as [`Attempt::new`](crate::delivery::attempt::Attempt::new)
    /// says.
    pub(crate) jitter: u8,
}

/// The options of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryOptions {
    /// The message ends by then, with or without an answer.
    pub(crate) deadline: Instant,
    /// The end of the time to live on the wire.
    pub(crate) expires: Instant,
    pub(crate) retries: u32,
    pub(crate) wait_for_ready: bool,
    /// The broker must confirm within this time that the message is still in flight.
    pub(crate) monitor: Option<Duration>,
    /// The number of candidates. A message in a server queue [looks them up](Action::LookUp)
    /// itself.
    pub(crate) candidates: usize,
    /// Whether the directory has not answered yet, so that there may be other candidates.
    pub(crate) preliminary: bool,
    pub(crate) bytes: usize,
    /// Messages of one queue are for one server and keep their order.
    pub(crate) server_queue: Option<QueueId>,
}

impl DeliveryOptions {
    /// The options of a message without size or candidates, which is not sent again.
    pub(crate) fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            expires: deadline,
            retries: 0,
            wait_for_ready: false,
            monitor: None,
            candidates: 0,
            preliminary: false,
            bytes: 0,
            server_queue: None,
        }
    }
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Input<A> {
    /// The answer to [`Action::ChooseLink`]: the link to the candidate; `None`: there is none.
    LinkChosen { tag: Tag, link: Option<LinkId> },
    /// The answer to [`Action::LookUp`].
    LookedUp { tag: Tag, plan: SearchPlan },
    /// This link cannot connect. The messages that wait for it wait no longer.
    LinkFailed { link: LinkId },
    /// The message was sent.
    Sent { tag: Tag },
    /// An acknowledgement or a reply has come. With `more`, others will follow.
    Answered { tag: Tag, answer: A, more: bool },
    /// The whole message was refused.
    Refused { tag: Tag, refusal: Refusal, node: Option<NodeName> },
    /// The broker at `node` confirms that the message is still in flight. The server that has it
    /// gave no sign of life for `silence`.
    InFlight { tag: Tag, silence: Duration, node: Option<NodeName> },
    /// The link has lost its connection. Messages that it has sent may be lost.
    ConnectionLost { link: LinkId },
    /// The link is closed.
    LinkClosed { link: LinkId },
    /// Nobody wants the answer to the message any more.
    GivenUp { tag: Tag },
    /// The client is closed. Every message ends now.
    Close,
}

/// What the driver does next.
#[derive(Debug)]
pub(crate) enum Action<M, A> {
    /// Choose the link to this candidate, then report [`Input::LinkChosen`].
    ChooseLink { tag: Tag, candidate: usize },
    /// Look up the candidates without waiting for the directory, then report [`Input::LookedUp`].
    LookUp { tag: Tag },
    /// The server of this message is at the candidate that has it.
    ServerFound { tag: Tag },
    /// The server of this message is not at the candidate that was asked last.
    ServerNotFound { tag: Tag },
    /// A message has waited too long for this link to connect.
    LinkUnreachable { link: LinkId },
    /// No answer to this message has come in time over this link. The message may have ended.
    NoAnswer { tag: Tag, link: LinkId },
    /// Ask over this link whether the message is still in flight. The answer is [`Input::InFlight`]
    /// or a refusal.
    Inquire { tag: Tag, link: LinkId },
    /// The message goes on over another link. The broker of this link may still have it, and need not
    /// run it.
    Cancel { tag: Tag, link: LinkId },
    /// Keep this answer. Others will follow.
    RecordAnswer { tag: Tag, answer: A },
    /// The message has ended. With several answers, the result is the last one. The broker of the link
    /// `cancel` may still have the message, and need not run it.
    End { message: M, result: Result<A, Verdict>, cancel: Option<LinkId> },
}
