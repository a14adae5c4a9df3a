//! Inputs and actions of the table, and how a message ends.

use std::time::{Duration, Instant};

use zmqv2_proto::{NodeName, Refusal};

use super::{LinkId, QueueId, Tag};
use crate::delivery::attempt::{SearchPlan, Verdict};

/// The bounds of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// How long a message waits for a connection while there are other candidates.
    pub(crate) connect_timeout: Duration,
}

/// What one message asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryOptions {
    /// When it ends at the latest, with or without an answer.
    pub(crate) deadline: Instant,
    /// Until when whoever holds it may keep it: what the time to live on the wire says.
    pub(crate) expires: Instant,
    pub(crate) retries: u32,
    pub(crate) wait_for_ready: bool,
    /// Within what time its holder is to say, when asked, that it is still in flight.
    pub(crate) monitor: Option<Duration>,
    /// For a message in no server queue. For others, they are [looked for](Action::LookUp) first.
    pub(crate) candidates: usize,
    pub(crate) bytes: usize,
    /// The messages of one queue are for one server, and keep their order.
    pub(crate) server_queue: Option<QueueId>,
}

/// What the driver reports.
#[derive(Debug)]
pub(crate) enum Input<A> {
    /// The candidate that was [asked for](Action::ChooseLink) is reached over this link; `None`: not at all.
    LinkChosen { tag: Tag, link: Option<LinkId> },
    /// Where a message can go now that it was [looked for](Action::LookUp).
    LookedUp { tag: Tag, plan: SearchPlan },
    /// The link has taken the message.
    Sent { tag: Tag },
    /// An acknowledgement or a reply has come. With `more`, others are still to come for the same message.
    Answered { tag: Tag, answer: A, more: bool },
    /// A refusal of the whole message has come.
    Refused { tag: Tag, refusal: Refusal, node: Option<NodeName> },
    /// Its holder says that it is still in flight.
    InFlight { tag: Tag },
    /// The link was connected and is no longer: what it has sent may be lost.
    ConnectionLost { link: LinkId },
    /// The link is closed, with all that is on it.
    LinkClosed { link: LinkId },
    /// No more waiting: every message ends now.
    Close,
}

/// What the driver has to do.
#[derive(Debug)]
pub(crate) enum Action<M, A> {
    /// Say which link leads to this candidate: [`Input::LinkChosen`].
    ChooseLink { tag: Tag, candidate: usize },
    /// Say which candidates there are, without waiting for the directory: [`Input::LookedUp`].
    LookUp { tag: Tag },
    /// The candidate that has this message must be the right one, or would have said that it is not.
    ServerFound { tag: Tag },
    /// The candidate that had this message is the wrong one, or is no more.
    ServerNotFound { tag: Tag },
    /// A message has waited too long for this link to connect.
    LinkUnreachable { link: LinkId },
    /// This link has taken the message, and its answer has not come in time; the message may go on, or have ended.
    NoAnswer { tag: Tag, link: LinkId },
    /// Ask over this link whether the message is still in flight: [`Input::InFlight`], or a refusal.
    Inquire { tag: Tag, link: LinkId },
    /// One of several answers to this message has come.
    RecordAnswer { tag: Tag, answer: A },
    /// The message has ended. With several answers, the result is the last one.
    End { message: M, result: Result<A, Verdict> },
}
