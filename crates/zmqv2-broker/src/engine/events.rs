//! The inputs and the actions of an engine.

use std::time::Instant;

use zmqv2_proto::control::ServerRegistration;
use zmqv2_proto::{InstanceId, MessageId, Reason, Refusal, ServerName, TopicKey, Ttl};

use super::WorkerId;

/// The registration of a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Offer {
    /// The exchange and the first topic that it serves.
    pub key: TopicKey,
    pub server: ServerName,
    /// Its instance, workers and credit.
    pub registration: ServerRegistration,
}

impl Offer {
    pub fn new(key: TopicKey, server: ServerName, registration: ServerRegistration) -> Self {
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
    /// Every pool (server name) gets a copy, which is kept until a listener has handled it.
    Notify,
}

/// The part of a request that the engine looks at. It keeps none of the texts.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Which servers of the target get it.
    pub pattern: Pattern,
    pub id: MessageId,
    pub key: &'a str,
    /// The only server or pool that may get it. Empty: any server, or all pools.
    pub server: &'a str,
    pub deadline: Instant,
    /// The bytes for which it counts while it is kept.
    pub bytes: usize,
    /// It waits if no server of its target is known, instead of being refused.
    pub wait_for_ready: bool,
    /// Its sender asks about it by its id ([`Engine::is_pending`](super::Engine::is_pending)).
    pub monitored: bool,
}

impl<'a> Arrival<'a> {
    /// A request of `bytes` for any one server of `key`.
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
    Request { arrival: Arrival<'a>, from: O, payload: P },
    /// A worker answered a request that was delivered to it.
    Reply {
        worker: WorkerId,
        tag: u64,
        /// How many more requests the worker takes than before. 0 if it has acknowledged a cast
        /// that it runs now; then [`Input::Credit`] follows.
        credit: u16,
        refused: Option<Reason>,
        payload: P,
    },
    /// A worker hands back a request that it has not started. The request goes to another worker,
    /// in its old place in the order. This worker's window is [narrow](Input::Freed) again.
    HandedBack { worker: WorkerId, tag: u64, arrival: Arrival<'a>, payload: P },
    /// A listener has handled a notification, or requeues it.
    Handled {
        tag: u64,
        /// The message's id. The tag alone could be of an earlier run of the broker.
        id: MessageId,
        /// How many more requests its worker takes than before.
        credit: u16,
        /// The notification as the listener has it, if it is to be delivered again.
        requeue: Option<(Arrival<'a>, P)>,
    },
    /// The store has written a notification ([`Action::Store`]), or has failed.
    StoreResult { tag: u64, result: Result<(), String> },
    /// The store has this notification of an earlier run. The arrival's server is its pool.
    Restore { number: u64, arrival: Arrival<'a>, payload: P },
    /// A worker has finished requests that it had acknowledged with a credit of 0.
    Credit {
        instance: InstanceId,
        worker: usize,
        /// How many more requests it takes than before.
        credit: u16,
    },
    /// The same, reported over the worker's own link.
    Freed {
        worker: WorkerId,
        /// How many more requests it takes than before.
        credit: u16,
        /// Its requests are quick. It takes as many as its [window](ServerRegistration::window) allows,
        /// until it hands one back.
        wide: bool,
    },
    /// A server registers, or repeats its registration.
    Register { offer: Offer, from: O },
    /// The link to a worker is connected.
    WorkerUp { worker: WorkerId },
    /// The link to a worker broke, or the worker broke the protocol.
    WorkerDown { worker: WorkerId },
    /// A server stops, and takes no new work.
    Withdraw {
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
        worker: WorkerId,
        /// The tag that its answer must carry.
        tag: u64,
        ttl: Ttl,
        /// For a notification: the number of this delivery, from 1. Otherwise 0.
        delivery: u16,
        payload: P,
    },
    /// Send a worker's answer to the sender of the request.
    Answer {
        to: O,
        payload: P,
        /// How many answers to the same request are still to come.
        remaining: u16,
    },
    /// Tell the sender that its request is refused, or was lost.
    Refuse {
        to: O,
        refusal: Refusal,
        /// The server or pool of this copy of a fanout or a notification.
        server: Option<ServerName>,
        /// How many answers to the same request are still to come.
        remaining: u16,
    },
    /// Tell the sender of a notification that it is stored.
    ConfirmStored {
        to: O,
        /// The pool of this copy. `None`: the first pool that comes.
        pool: Option<ServerName>,
        /// How many answers to the same request are still to come.
        remaining: u16,
    },
    /// Write a notification to the durable store, then report [`Input::StoreResult`].
    Store {
        tag: u64,
        /// Its number in the store, which grows with each.
        number: u64,
        pool: Option<ServerName>,
        ttl: Ttl,
        payload: P,
    },
    /// Erase a notification from the store.
    Erase { number: u64 },
    /// A notification is given up. Log it, and move it to the dead letters of the store.
    DeadLetter {
        /// Its number in the store, if it has one.
        number: Option<u64>,
        key: TopicKey,
        pool: Option<ServerName>,
        id: MessageId,
        deliveries: u16,
        why: String,
        payload: P,
    },
    /// Connect to a worker of a new server, then report [`Input::WorkerUp`].
    Connect {
        worker: WorkerId,
        instance: InstanceId,
        index: u16,
        /// The server's workers share this link, and read [bundles](zmqv2_proto::bundle).
        shared: bool,
    },
    /// Close the link to a worker.
    Disconnect { worker: WorkerId },
    /// Tell a server that it is registered and connected.
    Registered { to: O },
    /// Tell a server that nothing of it is in flight any more.
    Withdrawn { to: O, instance: InstanceId },
    /// Put a server into the directory.
    Announce { key: TopicKey, server: ServerName },
    /// Take a server out of the directory, because no run of it is left here.
    Unannounce { key: TopicKey, server: ServerName },
    /// After [`Input::Drain`]: nothing is in flight any more. This comes once.
    Drained,
}
