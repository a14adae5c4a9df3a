//! A notification that the program has polled.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::{BodyError, MessageId, NodeName, Notification, TopicKey};

use super::deliveries::PulledDeliveries;
use crate::listener::Verdict;
use crate::runtime::shared_socket::Deferred;

/// A notification of a [`PullListener`](crate::PullListener). It can be sent to another thread, and
/// ended there, later.
///
/// [`end`](Self::end) says how it ended. If it is dropped before that, it comes again, to any listener
/// of the pool.
#[must_use = "a notification that is dropped comes again"]
pub struct PulledNotification {
    /// `None` once it has ended.
    delivery: Option<Deferred>,
    key: TopicKey,
    deliveries: Arc<PulledDeliveries>,
}

impl PulledNotification {
    /// `None`: it has no topic.
    pub(super) fn new(delivery: Deferred, deliveries: &Arc<PulledDeliveries>) -> Option<Self> {
        let key = delivery.header.key.clone()?;
        Some(Self { delivery: Some(delivery), key, deliveries: Arc::clone(deliveries) })
    }

    fn get(&self) -> &Deferred {
        self.delivery.as_ref().expect("only `end` and `drop` take it")
    }

    /// The id of the message, the same in every delivery and in every pool.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.get().header.id
    }

    /// The publisher's node. `None`: the publisher or its broker is of an earlier version.
    #[must_use]
    pub fn node(&self) -> Option<&NodeName> {
        self.get().header.node.as_ref()
    }

    /// The key of its topic, which ends in the priority: `exchange/topic.priority`.
    #[must_use]
    pub fn key(&self) -> &TopicKey {
        &self.key
    }

    /// The number of this delivery to this pool, from 1.
    #[must_use]
    pub fn delivery(&self) -> u16 {
        self.get().header.count.max(1)
    }

    /// The broker keeps the notification until this time.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.get().deadline
    }

    /// The body as it came: JSON text, of the form in `docs/wire-protocol.md`.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.get().body()
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`]: it is no notification. End it then as handled.
    pub fn decode(&self) -> Result<Notification, BodyError> {
        Notification::decode(self.body())
    }

    /// Ends it. With [`Verdict::Requeue`] it comes again, as the broker's limits allow.
    pub fn end(mut self, verdict: Verdict) {
        if let Some(delivery) = self.delivery.take() {
            self.deliveries.settle(delivery, verdict);
        }
    }
}

impl Drop for PulledNotification {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.deliveries.settle(delivery, Verdict::Requeue);
        }
    }
}

impl fmt::Debug for PulledNotification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.delivery.as_ref().map(|delivery| delivery.header.id);
        f.debug_struct("PulledNotification").field("id", &id).field("key", &self.key).finish_non_exhaustive()
    }
}
