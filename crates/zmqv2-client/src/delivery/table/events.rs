//! The words of the table: what it is told, what it asks for, and how a message ends.

use std::time::{Duration, Instant};

use zmqv2_proto::{NodeName, Refusal};

use super::{LaneId, LinkId, Tag};
use crate::routing::server_search::Prospect;

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
pub(crate) struct Terms {
    /// When it ends at the latest, with or without an answer.
    pub(crate) deadline: Instant,
    /// Until when whoever holds it may keep it: what the time to live on the wire says.
    pub(crate) expires: Instant,
    pub(crate) retries: u32,
    pub(crate) wait_for_ready: bool,
    /// Within what time its holder is to say, when asked, that it is still in flight.
    pub(crate) monitor: Option<Duration>,
    /// Of a message that is in no lane; those of one that is are [looked for](Action::Look) first.
    pub(crate) candidates: usize,
    pub(crate) bytes: usize,
    /// The messages of a lane are for one server, and keep their order.
    pub(crate) lane: Option<LaneId>,
}

/// What the driver reports.
#[derive(Debug)]
pub(crate) enum Input<A> {
    /// The candidate that was [asked for](Action::Choose) is reached over this link; `None`: not at all.
    Chosen { tag: Tag, link: Option<LinkId> },
    /// Where a message can go now that it was [looked for](Action::Look).
    Looked { tag: Tag, prospect: Prospect },
    /// The link has taken the message.
    Sent { tag: Tag },
    /// An acknowledgement or a reply has come. With `more`, others are still to come for the same message.
    Answered { tag: Tag, answer: A, more: bool },
    /// A refusal of the whole message has come.
    Refused { tag: Tag, refusal: Refusal, node: Option<NodeName> },
    /// Its holder says that it is still in flight.
    InFlight { tag: Tag },
    /// The link was connected and is no longer: what it has sent may be lost.
    Lost { link: LinkId },
    /// The link is closed, with all that is on it.
    Gone { link: LinkId },
    /// No more waiting: every message ends now.
    Close,
}

/// What the driver has to do.
#[derive(Debug)]
pub(crate) enum Action<M, A> {
    /// Say which link leads to this candidate: [`Input::Chosen`].
    Choose { tag: Tag, candidate: usize },
    /// Say which candidates there are, without waiting for the directory: [`Input::Looked`].
    Look { tag: Tag },
    /// The candidate that has this message must be the right one, or would have said that it is not.
    Presume { tag: Tag },
    /// The candidate that had this message is the wrong one, or is no more.
    Forget { tag: Tag },
    /// A message has waited too long for this link to connect.
    Suspect { link: LinkId },
    /// This link has taken the message, and its answer has not come in time; the message may go on, or have ended.
    Silent { tag: Tag, link: LinkId },
    /// Ask over this link whether the message is still in flight: [`Input::InFlight`], or a refusal.
    Inquire { tag: Tag, link: LinkId },
    /// One of several answers to this message has come.
    Note { tag: Tag, answer: A },
    /// The message has ended.
    End { message: M, ending: Ending<A> },
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending<A> {
    /// A server has accepted it, or replied; the last answer if there were several.
    Answered(A),
    /// Refused, with nobody left to take it.
    Refused(Refusal, Option<NodeName>),
    /// There is no candidate.
    Nowhere,
    /// It was to wait for somebody to take it, and nobody did in all its time.
    NeverReady,
    /// No candidate could be connected to; never sent. The last one that was tried.
    Unreachable { candidate: usize },
    /// The connection broke after it was sent to this candidate.
    Lost { candidate: usize },
    /// Its time has passed since it was sent to this candidate, or the candidate does not say that it is in flight.
    Silent { candidate: usize },
    /// The client was closed before.
    Closed { sent: bool },
}
