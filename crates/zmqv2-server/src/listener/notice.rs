//! A notification as its handlers see it.

use std::time::Instant;

use serde::de::DeserializeOwned;
use zmqv2_proto::{MessageId, Notification, Priority, RequestContext, Topic};

use crate::rpc::endpoint::{HandlerError, MODULE};

/// A notification, and how it came.
#[derive(Debug)]
#[non_exhaustive]
pub struct Notice {
    /// What the publisher said. Its payload is JSON text; [`payload`](Self::payload) reads it.
    pub notification: Notification,
    /// The topic it was published to, without the priority.
    pub topic: Topic,
    /// The id of the message that carried it; the same in every delivery, and in every pool.
    pub id: MessageId,
    /// Which delivery of it this is to this pool, from 1: more than 1 after [`Verdict::Requeue`](crate::Verdict::Requeue), or
    /// when a listener died with it.
    pub delivery: u16,
    /// Until when it is kept; one that is requeued after that does not come again.
    pub deadline: Instant,
}

impl Notice {
    /// Who said it, such as `compute.node-7`.
    #[must_use]
    pub fn publisher_id(&self) -> &str {
        &self.notification.publisher_id
    }

    /// What happened, such as `instance.created`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.notification.event_type
    }

    /// How much it matters.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.notification.priority
    }

    /// The publisher's context.
    #[must_use]
    pub fn context(&self) -> &RequestContext {
        &self.notification.context
    }

    /// The publisher's own id of it; any text, perhaps none.
    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.notification.message_id
    }

    /// When it was published, in UTC, as the publisher wrote it: `2015-06-12 10:11:12.123456`. Perhaps empty.
    #[must_use]
    pub fn timestamp(&self) -> &str {
        &self.notification.timestamp
    }

    /// The payload as a typed value.
    ///
    /// # Errors
    /// A [`HandlerError`] that says what was expected.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        self.notification.payload().map_err(|error| {
            let detail = format!("payload of {} from {}: {error}", self.event_type(), self.publisher_id());
            HandlerError::new(MODULE, "InvalidPayload", detail)
        })
    }
}
