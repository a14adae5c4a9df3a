//! The inputs and the actions of an engine.

use std::time::Instant;

use zmqv2_proto::control::ServerRegistration;
use zmqv2_proto::{InstanceId, MessageId, Reason, Refusal, ServerName, TopicKey, Ttl};

use super::{ClientId, WorkerId};

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

/// The part of a request that the engine reads. It keeps none of the texts.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub pattern: Pattern,
    pub id: MessageId,
    pub key: &'a str,
    /// The client that sent it, if the driver knows.
    pub client: Option<ClientId>,
    /// Its sender waits for the result, so it need not run once the sender has gone.
    pub is_call: bool,
    /// The only server or pool that may get it. Empty: any server, or all pools.
    pub server: &'a str,
    pub deadline: Instant,
    /// Its size for the byte limits.
    pub bytes: usize,
    /// Without a known server of its target it waits, instead of being refused.
    pub wait_for_ready: bool,
    /// Its sender asks about it by its id ([`Engine::silence_of`](super::Engine::silence_of)).
    pub monitored: bool,
    /// The sender of this notification is content once it is kept.
    pub answer_stored: bool,
}

impl<'a> Arrival<'a> {
    /// A request of `bytes` for any one server of `key`.
    pub fn new(id: MessageId, key: &'a str, deadline: Instant, bytes: usize) -> Self {
        let (is_call, wait_for_ready, monitored, answer_stored) = Default::default();
        let (pattern, client, server) = (Pattern::One, None, "");
        Self { pattern, id, key, client, is_call, server, deadline, bytes, wait_for_ready, monitored, answer_stored }
    }
}

/// An event for the engine. `credit` is always how many more requests a worker takes than before.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a, O, P> {
    /// A request arrived.
    Request { arrival: Arrival<'a>, from: O, payload: P },
    /// A worker answered a request that was delivered to it. A credit of 0 acknowledges a cast that
    /// it runs now. [`Input::Credit`] follows when the cast has ended.
    Reply { worker: WorkerId, tag: u64, credit: u16, refused: Option<Reason>, payload: P },
    /// A worker hands back a request that it has not started. The request goes to another worker,
    /// in its old place in the order. This worker's window is [narrow](Input::Freed) again.
    HandedBack { worker: WorkerId, tag: u64, arrival: Arrival<'a>, payload: P },
    /// A listener has handled a notification, or requeues it: then `requeue` is its copy. The id is
    /// checked as well, because the tag alone could be of an earlier run of the broker.
    Handled { tag: u64, id: MessageId, credit: u16, requeue: Option<(Arrival<'a>, P)> },
    /// The store has written a notification ([`Action::Store`]), or has failed.
    StoreResult { tag: u64, result: Result<(), String> },
    /// The store has this notification of an earlier run. The arrival's server is its pool.
    Restore { number: u64, arrival: Arrival<'a>, payload: P },
    /// A worker has finished requests that it had acknowledged with a credit of 0.
    Credit { instance: InstanceId, worker: usize, credit: u16 },
    /// The same, over the worker's own link. If `wide`, its requests are quick: it takes as many as
    /// its [window](ServerRegistration::window) allows, until it hands one back.
    Freed { worker: WorkerId, credit: u16, wide: bool },
    /// A server registers, or repeats its registration.
    Register { offer: Offer, from: O },
    /// The link to a worker is connected.
    WorkerUp { worker: WorkerId },
    /// The link to a worker broke, or the worker broke the protocol.
    WorkerDown { worker: WorkerId },
    /// A server stops, and takes no new work. It gets an answer when none of its requests is in
    /// flight.
    Withdraw { instance: InstanceId, from: O },
    /// A client no longer wants a request that it sent.
    Cancel { client: ClientId, id: MessageId },
    /// The connections of these clients have ended. Their calls that wait are cancelled.
    ClientsGone { clients: Vec<ClientId> },
    /// The broker stops: it takes no new requests and finishes those in flight.
    Drain,
}

/// A step that the driver must take. `remaining` is always the number of answers to the same
/// request that are still to come.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<O, P> {
    /// Send a request to a worker, whose answer must carry `tag`. `delivery` is the number of this
    /// delivery of a notification, from 1. It is 0 for other requests.
    Deliver { worker: WorkerId, tag: u64, ttl: Ttl, delivery: u16, payload: P },
    /// Tell a worker that nobody wants the request any more that was delivered with this tag.
    Cancel { worker: WorkerId, tag: u64, id: MessageId },
    /// Send a worker's answer to the sender of the request.
    Answer { to: O, payload: P, remaining: u16 },
    /// Tell the sender that its request is refused, or was lost. `server` is the server or pool of
    /// this copy of a fanout or a notification.
    Refuse { to: O, refusal: Refusal, server: Option<ServerName>, remaining: u16 },
    /// Tell the sender of a notification that the copy for `pool` is stored. `None`: for the first
    /// pool that comes.
    ConfirmStored { to: O, pool: Option<ServerName>, remaining: u16 },
    /// Write a notification to the durable store, then report [`Input::StoreResult`]. Each has a
    /// higher `number` than the one before.
    Store { tag: u64, number: u64, pool: Option<ServerName>, ttl: Ttl, payload: P },
    /// Erase a notification from the store.
    Erase { number: u64 },
    /// A notification is given up. Log it, and move it to the dead letters of the store, if the
    /// store has it under a number.
    DeadLetter {
        number: Option<u64>,
        key: TopicKey,
        pool: Option<ServerName>,
        id: MessageId,
        deliveries: u16,
        why: String,
        payload: P,
    },
    /// Connect to a worker of a new server, then report [`Input::WorkerUp`]. If `shared`, all its
    /// workers share this link, and read [bundles](zmqv2_proto::bundle).
    Connect { worker: WorkerId, instance: InstanceId, index: u16, shared: bool },
    /// Close the link to a worker.
    Disconnect { worker: WorkerId },
    /// Tell a server that it is registered and connected.
    Registered { to: O },
    /// Tell a server that none of its requests is in flight any more.
    Withdrawn { to: O, instance: InstanceId },
    /// Put a server into the directory.
    Announce { key: TopicKey, server: ServerName },
    /// Take a server out of the directory, because no run of it is left here.
    Unannounce { key: TopicKey, server: ServerName },
    /// After [`Input::Drain`]: nothing is in flight any more. This comes once.
    Drained,
}
