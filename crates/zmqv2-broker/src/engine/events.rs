//! The inputs and the actions of an engine.

use std::time::Instant;

use zmqv2_proto::control::Registration;
use zmqv2_proto::{InstanceId, MessageId, Reason, Refusal, ServerName, TopicKey, Ttl};

use super::WorkerId;

/// The registration of a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Offer {
    /// The exchange and the first topic that it serves.
    pub key: TopicKey,
    /// The server's name.
    pub server: ServerName,
    /// Its instance, workers and credit.
    pub registration: Registration,
}

impl Offer {
    /// An offer from its parts.
    #[must_use]
    pub fn new(key: TopicKey, server: ServerName, registration: Registration) -> Self {
        Self { key, server, registration }
    }
}

/// Which servers of a target get a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pattern {
    /// One worker: a call or a cast.
    #[default]
    One,
    /// Every run of a server gets a copy.
    Fanout,
    /// Every pool (server name) gets a copy, which is kept until a listener of it has handled the
    /// copy.
    Notify,
}

/// The part of a request that the engine looks at. It keeps none of the texts.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Which servers of the target get it.
    pub pattern: Pattern,
    /// The message's id.
    pub id: MessageId,
    /// `exchange/topic`.
    pub key: &'a str,
    /// The only server or pool that may get it. Empty: any server, or all pools.
    pub server: &'a str,
    /// When it expires.
    pub deadline: Instant,
    /// The bytes for which it counts while it is kept.
    pub bytes: usize,
    /// It waits if no server of its target is known, instead of being refused.
    pub wait_for_ready: bool,
    /// Its sender asks about it by its id ([`Engine::is_held`](super::Engine::is_held)).
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

/// An event for the engine.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a, O, P> {
    /// A request arrived.
    Request {
        /// Its target, deadline and size.
        arrival: Arrival<'a>,
        /// The path back.
        from: O,
        /// The frames for the worker.
        payload: P,
    },
    /// A worker answered a request that was delivered to it.
    Reply {
        /// The worker.
        worker: WorkerId,
        /// The tag of the delivery.
        tag: u64,
        /// How many more requests the worker takes than before. 0 if it has acknowledged a cast
        /// that it runs now; then [`Input::Credit`] follows.
        credit: u16,
        /// The reason, if it refused the request.
        refused: Option<Reason>,
        /// The frames for the sender.
        payload: P,
    },
    /// A worker returns a request that it has not started. The request goes to another worker, in
    /// its old place in the order. This worker's window is [narrow](Input::Freed) again.
    HandedBack {
        /// The worker.
        worker: WorkerId,
        /// The tag of the delivery.
        tag: u64,
        /// Its target, deadline and size.
        arrival: Arrival<'a>,
        /// The frames.
        payload: P,
    },
    /// A listener has handled a notification, or requeues it.
    Handled {
        /// The tag of the delivery.
        tag: u64,
        /// The message's id. The tag alone could be of an earlier run of the broker.
        id: MessageId,
        /// How many more requests its worker takes than before.
        credit: u16,
        /// The notification as the listener has it, if it is to be delivered again.
        requeue: Option<(Arrival<'a>, P)>,
    },
    /// The store has written a notification ([`Action::Store`]), or has failed.
    StoreResult {
        /// The tag of the action.
        tag: u64,
        /// The failure, if there is one.
        result: Result<(), String>,
    },
    /// The store has this notification of an earlier run. The arrival's server is its pool, if it
    /// has one.
    Restore {
        /// Its number in the store.
        number: u64,
        /// Its target, deadline and size.
        arrival: Arrival<'a>,
        /// The frames.
        payload: P,
    },
    /// A worker has finished requests that it had acknowledged with a credit of 0.
    Credit {
        /// The server's instance.
        instance: InstanceId,
        /// Which of its workers, from 0.
        worker: usize,
        /// How many more requests it takes than before.
        credit: u16,
    },
    /// The same, reported over the worker's own link.
    Freed {
        /// Which worker.
        worker: WorkerId,
        /// How many more requests it takes than before.
        credit: u16,
        /// Its requests are quick. It takes as many as its [window](Registration::window) allows,
        /// until it returns one.
        wide: bool,
    },
    /// A server registers, or repeats its registration.
    Register {
        /// The registration.
        offer: Offer,
        /// The path back.
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
    /// A server stops, and takes no new work.
    Withdraw {
        /// Its instance.
        instance: InstanceId,
        /// The path back, for the answer when nothing of the server is in flight.
        from: O,
    },
    /// The broker stops: it takes no new requests and finishes those in flight.
    Drain,
}

/// Something that the driver must do.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<O, P> {
    /// Send a request to a worker.
    Deliver {
        /// The worker.
        worker: WorkerId,
        /// The tag that its answer must carry.
        tag: u64,
        /// The time to live to write into the header.
        ttl: Ttl,
        /// For a notification: the number of this delivery, from 1. Otherwise 0.
        delivery: u16,
        /// The frames.
        payload: P,
    },
    /// Send a worker's answer to the sender of the request.
    Answer {
        /// The path back.
        to: O,
        /// The frames.
        payload: P,
        /// How many answers to the same request are still to come.
        remaining: u16,
    },
    /// Tell the sender that its request is refused, or was lost.
    Refuse {
        /// The path back.
        to: O,
        /// Why.
        refusal: Refusal,
        /// The server or pool of this copy of a fanout or a notification.
        server: Option<ServerName>,
        /// How many answers to the same request are still to come.
        remaining: u16,
    },
    /// Tell the sender of a notification that it is stored.
    ConfirmStored {
        /// The path back.
        to: O,
        /// The pool of this copy. `None`: the first pool that comes.
        pool: Option<ServerName>,
        /// How many answers to the same request are still to come.
        remaining: u16,
    },
    /// Write a notification to the durable store, then report [`Input::StoreResult`].
    Store {
        /// The tag for the result.
        tag: u64,
        /// Its number in the store, which grows with each.
        number: u64,
        /// The pool of this copy.
        pool: Option<ServerName>,
        /// Its remaining time to live.
        ttl: Ttl,
        /// The frames.
        payload: P,
    },
    /// Erase a notification from the store.
    Erase {
        /// Its number in the store.
        number: u64,
    },
    /// A notification is given up. Log it, and move it to the dead letters of the store.
    DeadLetter {
        /// Its number in the store, if it has one.
        number: Option<u64>,
        /// Exchange and topic.
        key: TopicKey,
        /// The pool of this copy.
        pool: Option<ServerName>,
        /// The message's id.
        id: MessageId,
        /// How often it was delivered.
        deliveries: u16,
        /// Why.
        why: String,
        /// The frames.
        payload: P,
    },
    /// Connect to a worker of a new server, then report [`Input::WorkerUp`].
    Connect {
        /// The number for the link.
        worker: WorkerId,
        /// The server's instance.
        instance: InstanceId,
        /// Which of its workers, from 0.
        index: u16,
        /// The server's workers share this link, and read [bundles](zmqv2_proto::bundle).
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
        /// The server's instance.
        instance: InstanceId,
    },
    /// Put a server into the directory.
    Announce {
        /// Its topic.
        key: TopicKey,
        /// Its name.
        server: ServerName,
    },
    /// Take a server out of the directory, because no run of it is left here.
    Unannounce {
        /// Its topic.
        key: TopicKey,
        /// Its name.
        server: ServerName,
    },
    /// After [`Input::Drain`]: nothing is in flight any more. This comes once.
    Drained,
}
