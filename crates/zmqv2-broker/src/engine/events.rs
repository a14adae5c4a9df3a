//! What can happen to an engine, and what it can ask for.

use std::time::Instant;

use zmqv2_proto::control::Registration;
use zmqv2_proto::{InstanceId, Refusal, ServerName, TopicKey, Ttl};

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
    pub registration: Registration,
}

impl Offer {
    /// An offer from its parts.
    #[must_use]
    pub fn new(key: TopicKey, server: ServerName, registration: Registration) -> Self {
        Self { key, server, registration }
    }
}

/// What the engine needs to know of a request; the texts are looked up, never kept.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// `exchange/topic`.
    pub key: &'a str,
    /// Exactly this server; empty: any.
    pub server: &'a str,
    /// When it expires.
    pub deadline: Instant,
    /// What it counts for in the budget of bytes while it waits.
    pub bytes: usize,
    /// It waits while no server of its target is known, instead of being refused.
    pub wait_for_ready: bool,
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
        /// What goes to the sender.
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
        /// The frames.
        load: L,
    },
    /// Send a worker's answer to the sender of the request.
    Answer {
        /// The path back.
        to: O,
        /// The frames.
        load: L,
    },
    /// Tell the sender that its request was not run, or was lost.
    Refuse {
        /// The path back.
        to: O,
        /// Why.
        refusal: Refusal,
    },
    /// Connect to a worker of a new server; report [`Input::WorkerUp`].
    Connect {
        /// The number for the link.
        worker: WorkerId,
        /// The server's run.
        instance: InstanceId,
        /// Which of its workers, from 0.
        index: u16,
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
