//! A notification, as its handlers see it.

use std::time::Instant;

use serde::de::DeserializeOwned;
use zmqv2_proto::{MessageId, NodeName, Notification, Priority, RequestContext, Topic};

use crate::handler_error::{HandlerError, MODULE};

/// A notification and its delivery.
#[derive(Debug)]
#[non_exhaustive]
pub struct Notice {
    /// The notification. Its payload is JSON text, which [`payload`](Self::payload) reads.
    pub notification: Notification,
    /// Its topic, without the priority.
    pub topic: Topic,
    /// The id of the message, the same in every delivery and in every pool.
    pub id: MessageId,
    /// The publisher's node. `None`: the publisher or its broker is of an earlier version, or the
    /// notification was requeued by a listener whose broker had restarted.
    pub node: Option<NodeName>,
    /// The number of this delivery to this pool, from 1. It is greater than 1 after
    /// [`Verdict::Requeue`](crate::Verdict::Requeue), or if a listener died with the notification.
    pub delivery: u16,
    /// The broker keeps the notification until this time. Requeued later, it does not come again.
    pub deadline: Instant,
}

impl Notice {
    /// The publisher, such as `compute.node-7`.
    #[must_use]
    pub fn publisher_id(&self) -> &str {
        &self.notification.publisher_id
    }

    /// The type of the event, such as `instance.created`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.notification.event_type
    }

    /// The priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.notification.priority
    }

    /// The publisher's context.
    #[must_use]
    pub fn context(&self) -> &RequestContext {
        &self.notification.context
    }

    /// The id that the publisher gave the notification: any text, or empty.
    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.notification.message_id
    }

    /// The time of publication in UTC, as the publisher wrote it: `2015-06-12 10:11:12.123456`. It
    /// may be empty.
    #[must_use]
    pub fn timestamp(&self) -> &str {
        &self.notification.timestamp
    }

    /// The payload as a typed value.
    ///
    /// # Errors
    /// A [`HandlerError`] that says which type does not fit.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        self.notification.payload().map_err(|error| {
            let detail = format!("payload of {} from {}: {error}", self.event_type(), self.publisher_id());
            HandlerError::new(MODULE, "InvalidPayload", detail)
        })
    }
}
