//! What can happen to an engine, and what it can ask for.

use std::time::Instant;

use zmqv2_proto::control::ServerRegistration;
use zmqv2_proto::{InstanceId, MessageId, Reason, Refusal, ServerName, TopicKey, Ttl};

use super::WorkerId;

/// A server offers itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Offer {
    /// Exchange and topic that it serves.
    pub key: TopicKey,
    /// Its name.
    pub server: ServerName,
    /// Its run, workers and credit.
    pub registration: ServerRegistration,
}

impl Offer {
    /// An offer from its parts.
    #[must_use]
    pub fn new(key: TopicKey, server: ServerName, registration: ServerRegistration) -> Self {
        Self { key, server, registration }
    }
}

/// Who of a target gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pattern {
    /// One worker: a call or a cast.
    #[default]
    One,
    /// Every run of a server gets a copy.
    Fanout,
    /// Every pool (server name) gets a copy, which is kept until one of its listeners has handled it.
    Notify,
}

/// What the engine needs to know of a request; the texts are looked up, never kept.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Who of the target gets it.
    pub pattern: Pattern,
    /// The message's id.
    pub id: MessageId,
    /// `exchange/topic`.
    pub key: &'a str,
    /// Exactly this server, or this pool; empty: any, or all.
    pub server: &'a str,
    /// When it expires.
    pub deadline: Instant,
    /// What it counts for in the budget of bytes while it is kept.
    pub bytes: usize,
    /// It waits while no server of its target is known, instead of being refused.
    pub wait_for_ready: bool,
    /// Its sender will ask about it by its id ([`Engine::is_held`](super::Engine::is_held)).
    pub monitored: bool,
}

impl<'a> Arrival<'a> {
    /// A request of `bytes` for any one server of `key`.
    #[must_use]
    pub fn new(id: MessageId, key: &'a str, deadline: Instant, bytes: usize) -> Self {
        let (pattern, wait_for_ready, monitored) = (Pattern::One, false, false);
        Self { pattern, id, key, server: "", deadline, bytes, wait_for_ready, monitored }
    }
}

/// What can happen.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a, O, L> {
    /// A request came in.
    Request {
        /// Whom it is for.
        arrival: Arrival<'a>,
        /// The path back.
        from: O,
        /// What goes to the worker.
        load: L,
    },
    /// A worker answered a request that was delivered to it.
    Reply {
        /// The worker.
        worker: WorkerId,
        /// The tag of the delivery.
        tag: u64,
        /// How many more requests the worker will take than before; 0 when it has acknowledged a cast that it runs now,
        /// and [`Input::Credit`] will follow.
        credit: u16,
        /// Why it did not take the request, if it did not.
        refused: Option<Reason>,
        /// What goes to the sender.
        load: L,
    },
    /// A worker gives back a request that was delivered to it, and that it has not begun. It goes to another one, in its
    /// old place in the order; this worker [takes no more](Input::Freed) than at first.
    HandedBack {
        /// The worker.
        worker: WorkerId,
        /// The tag of the delivery.
        tag: u64,
        /// Whom it is for.
        arrival: Arrival<'a>,
        /// The frames.
        load: L,
    },
    /// A listener is done with a notification that was delivered to it.
    Handled {
        /// The tag of the delivery.
        tag: u64,
        /// The message's id: a tag of a broker that ran here before means nothing.
        id: MessageId,
        /// How many more requests its worker will take than before.
        credit: u16,
        /// It shall come again: the notification as the listener has it, for when it is not known here.
        requeue: Option<(Arrival<'a>, L)>,
    },
    /// The store has, or has not, taken a notification ([`Action::Store`]).
    Stored {
        /// The tag that came with it.
        tag: u64,
        /// What went wrong.
        result: Result<(), String>,
    },
    /// The store had this notification from an earlier run of the broker. Its arrival's server is its pool, if it has one.
    Restore {
        /// The number that it has in the store.
        number: u64,
        /// Whom it is for.
        arrival: Arrival<'a>,
        /// The frames.
        load: L,
    },
    /// A worker has ended what it had acknowledged, with a credit of 0, before.
    Credit {
        /// The server's run.
        instance: InstanceId,
        /// Which of its workers, from 0.
        worker: usize,
        /// How many more requests it will take than before.
        credit: u16,
    },
    /// The same, said over the worker's own link.
    Freed {
        /// Which worker.
        worker: WorkerId,
        /// How many more requests it will take than before.
        credit: u16,
        /// Its requests are quick: it takes as many as [its window](ServerRegistration::window) says, until it hands one back.
        wide: bool,
    },
    /// A server offers itself, or says again that it is there.
    Register {
        /// What it offers.
        offer: Offer,
        /// Where the answer goes.
        from: O,
    },
    /// The link to a worker is connected.
    WorkerUp {
        /// The worker.
        worker: WorkerId,
    },
    /// The link to a worker broke, or the worker broke the protocol.
    WorkerDown {
        /// The worker.
        worker: WorkerId,
    },
    /// A server stops: no new work for it.
    Withdraw {
        /// Its run.
        instance: InstanceId,
        /// Where the answer goes, once nothing of it is in flight.
        from: O,
    },
    /// The broker stops: nothing new, finish what is in flight.
    Drain,
}

/// What a driver shall do.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<O, L> {
    /// Send a request to a worker.
    Deliver {
        /// The worker.
        worker: WorkerId,
        /// The tag that its answer must carry.
        tag: u64,
        /// The time to live to write into the header.
        ttl: Ttl,
        /// Of a notification: which delivery of it this is, from 1. 0 for anything else.
        delivery: u16,
        /// The frames.
        load: L,
    },
    /// Send a worker's answer to the sender of the request.
    Answer {
        /// The path back.
        to: O,
        /// The frames.
        load: L,
        /// Answers to the same request that are still to come.
        more: u16,
    },
    /// Tell the sender that its request was not run, or was lost.
    Refuse {
        /// The path back.
        to: O,
        /// Why.
        refusal: Refusal,
        /// Whose copy it was, of a fanout or a notification.
        server: Option<ServerName>,
        /// Answers to the same request that are still to come.
        more: u16,
    },
    /// Tell the sender of a notification that it is kept.
    Keep {
        /// The path back.
        to: O,
        /// Whose copy it is; `None`: of the first pool that comes.
        pool: Option<ServerName>,
        /// Answers to the same request that are still to come.
        more: u16,
    },
    /// Write a notification to the durable store, and report [`Input::Stored`].
    Store {
        /// To be reported with the result.
        tag: u64,
        /// Its number in the store; grows from one to the next.
        number: u64,
        /// Whose copy it is.
        pool: Option<ServerName>,
        /// How long it is worth keeping.
        ttl: Ttl,
        /// The frames.
        load: L,
    },
    /// Take a notification out of the store.
    Erase {
        /// Its number there.
        number: u64,
    },
    /// A notification is given up; show it to the operator, and move it to the dead letters of the store.
    Bury {
        /// Its number in the store, if it has one.
        number: Option<u64>,
        /// Exchange and topic.
        key: TopicKey,
        /// Whose copy it was.
        pool: Option<ServerName>,
        /// The message's id.
        id: MessageId,
        /// How often it was delivered.
        deliveries: u16,
        /// Why.
        why: String,
        /// The frames.
        load: L,
    },
    /// Connect to a worker of a new server; report [`Input::WorkerUp`].
    Connect {
        /// The number for the link.
        worker: WorkerId,
        /// The server's run.
        instance: InstanceId,
        /// Which of its workers, from 0.
        index: u16,
        /// All of its workers are behind this link, and read [bundles](zmqv2_proto::bundle).
        shared: bool,
    },
    /// Close the link to a worker.
    Disconnect {
        /// The worker.
        worker: WorkerId,
    },
    /// Tell a server that it is registered and connected.
    Registered {
        /// The path back.
        to: O,
    },
    /// Tell a server that nothing of it is in flight any more.
    Withdrawn {
        /// The path back.
        to: O,
        /// The server's run.
        instance: InstanceId,
    },
    /// Put a server into the directory.
    Announce {
        /// Its topic.
        key: TopicKey,
        /// Its name.
        server: ServerName,
    },
    /// Take a server out of the directory: no run of it is left here.
    Unannounce {
        /// Its topic.
        key: TopicKey,
        /// Its name.
        server: ServerName,
    },
    /// After [`Input::Drain`]: nothing is in flight any more. Comes once.
    Drained,
}
