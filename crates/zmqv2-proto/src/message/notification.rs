//! Notifications of events.

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::message::body::{self, BodyError};
use crate::message::context::{RequestContext, UNIQUE_ID};
use crate::message::key::ReceivedKey;
use crate::naming::{InvalidName, Topic, serde_as_text};
use crate::wire::{LenientId, MessageId};

/// The pool of a listener without a configured pool. Headers, registrations and the directory hold
/// the pool in the field of the server's name.
pub const DEFAULT_POOL: &str = "default";

/// The priority of a notification, as in oslo.messaging. Each priority has its own topic,
/// `<topic>.<priority>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// For audit trails.
    Audit,
    /// For debugging.
    Debug,
    /// A normal event.
    Info,
    /// Something needs attention.
    Warn,
    /// Something failed.
    Error,
    /// Something that others depend on failed.
    Critical,
    /// One of many measurements.
    Sample,
}

/// The error for a text that is not a priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown priority {0:?}; allowed are audit, debug, info, warn, error, critical and sample")]
pub struct InvalidPriority(String);

impl Priority {
    /// All priorities.
    pub const ALL: [Self; 7] =
        [Self::Audit, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Critical, Self::Sample];

    /// The name in lower case, as in topics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Sample => "sample",
        }
    }

    /// The topic of this priority: `<topic>.<priority>`.
    ///
    /// # Errors
    /// [`InvalidName`] when the result is too long for a topic.
    pub fn topic(self, topic: &Topic) -> Result<Topic, InvalidName> {
        Topic::new(format!("{topic}.{self}"))
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = InvalidPriority;
    /// Ignores case: bodies use upper case; topics and command lines use lower case.
    fn from_str(text: &str) -> Result<Self, InvalidPriority> {
        let known = Self::ALL.into_iter().find(|priority| priority.as_str().eq_ignore_ascii_case(text));
        known.ok_or_else(|| InvalidPriority(text.chars().take(40).collect()))
    }
}

// Bodies use upper case, as in oslo.messaging.
serde_as_text!(Priority, priority => &priority.as_str().to_ascii_uppercase());

/// The body of a notification, with the fields of oslo.messaging.
///
/// ```
/// use zmqv2_proto::{Notification, Priority};
///
/// let notification = Notification::new("compute.node-7", "instance.created", Priority::Info, &7)?;
/// let read = Notification::decode(&notification.encode()?)?;
/// assert_eq!((read.event_type.as_str(), read.payload::<u32>()?), ("instance.created", 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Notification {
    /// The id for readers: any text. Empty until the notification is sent.
    pub message_id: String,
    /// The publisher, such as `compute.node-7`.
    pub publisher_id: String,
    /// The event, such as `instance.created`.
    pub event_type: String,
    /// The priority.
    pub priority: Priority,
    /// The payload as JSON text, parsed where it is used.
    pub payload: Box<RawValue>,
    /// The time in UTC: `2015-06-12 10:11:12.123456`. Empty until the notification is sent.
    pub timestamp: String,
    /// The publisher's context.
    pub context: RequestContext,
    /// The id of the message, the same in every copy.
    pub unique_id: Option<MessageId>,
}

impl Notification {
    /// A notification without id, time and context.
    ///
    /// # Errors
    /// [`BodyError::Write`] when `payload` has no JSON form.
    pub fn new(
        publisher_id: impl Into<String>,
        event_type: impl Into<String>,
        priority: Priority,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Self, BodyError> {
        Ok(Self {
            message_id: String::new(),
            publisher_id: publisher_id.into(),
            event_type: event_type.into(),
            priority,
            payload: body::json_text(payload)?,
            timestamp: String::new(),
            context: RequestContext::new(),
            unique_id: None,
        })
    }

    /// The payload as a typed value.
    ///
    /// # Errors
    /// The JSON error when the payload is not a `T`.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.payload.get())
    }

    /// The body of the message.
    ///
    /// # Errors
    /// [`BodyError::Write`] when a part has no JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        body::encode_with(self, &Head(self), &self.context)
    }

    /// Reads the body of a message.
    ///
    /// # Errors
    /// [`BodyError`]. Invalid bytes never cause a panic.
    pub fn decode(body: &[u8]) -> Result<Self, BodyError> {
        body::decode(body)
    }
}

impl Notification {
    /// Writes everything but id and context.
    fn open<S: Serializer>(&self, serializer: S) -> Result<S::SerializeMap, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("message_id", &self.message_id)?;
        map.serialize_entry("publisher_id", &self.publisher_id)?;
        map.serialize_entry("event_type", &self.event_type)?;
        map.serialize_entry("priority", &self.priority)?;
        map.serialize_entry("payload", &self.payload)?;
        map.serialize_entry("timestamp", &self.timestamp)?;
        Ok(map)
    }
}

impl Serialize for Notification {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.context.write_with(self.unique_id, self.open(serializer)?)
    }
}

/// A notification without its context.
struct Head<'a>(&'a Notification);

impl Serialize for Head<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RequestContext::new().write_with(self.0.unique_id, self.0.open(serializer)?)
    }
}

impl<'de> Deserialize<'de> for Notification {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NotificationVisitor)
    }
}

/// Written by hand, because `#[serde(flatten)]` for the context would parse the payload.
struct NotificationVisitor;

impl<'de> Visitor<'de> for NotificationVisitor {
    type Value = Notification;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a notification: an object with \"event_type\", \"priority\" and \"payload\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Notification, A::Error> {
        let (mut message_id, mut publisher_id, mut timestamp) = (None, None, None);
        let (mut event_type, mut priority, mut payload, mut unique_id) = (None, None, None, None);
        let mut context = RequestContext::new();
        while let Some(key) = map.next_key::<ReceivedKey<'de>>()? {
            match key.text().as_ref() {
                "message_id" => message_id = map.next_value()?,
                "publisher_id" => publisher_id = map.next_value()?,
                "timestamp" => timestamp = map.next_value()?,
                "event_type" => event_type = Some(map.next_value()?),
                "priority" => priority = Some(map.next_value()?),
                "payload" => payload = Some(map.next_value()?),
                UNIQUE_ID => unique_id = map.next_value::<LenientId>()?.known(),
                _ => context.read_or_skip(&key, &mut map)?,
            }
        }
        Ok(Notification {
            message_id: message_id.unwrap_or_default(),
            publisher_id: publisher_id.unwrap_or_default(),
            event_type: event_type.ok_or_else(|| Error::missing_field("event_type"))?,
            priority: priority.ok_or_else(|| Error::missing_field("priority"))?,
            payload: payload.ok_or_else(|| Error::missing_field("payload"))?,
            timestamp: timestamp.unwrap_or_default(),
            context,
            unique_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::message::envelope;

    #[test]
    fn a_notification_goes_through_its_body_and_back() {
        let mut sent = Notification::new("p", "e", Priority::Critical, &serde_json::json!({"x": [1, null]})).unwrap();
        sent.message_id = "m-1".to_owned();
        sent.timestamp = "2015-06-12 10:11:12.123456".to_owned();
        sent.context = RequestContext::new().with("user", "u");
        sent.unique_id = Some(MessageId::random());
        let read = Notification::decode(&sent.encode().unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&sent).unwrap());
        assert_eq!((read.payload.get(), read.context), (r#"{"x":[1,null]}"#, sent.context));
    }

    #[test]
    fn a_payload_of_the_original_project_is_read() {
        let inner = r#"{"message_id": "5c329c20-d435-444c-8fa2-e1b54592219e", "publisher_id": "compute.host1",
            "event_type": "compute.instance.create", "priority": "INFO", "payload": {"id": 1},
            "timestamp": "2015-06-12 10:11:12.123456", "_unique_id": "0123456789abcdef0123456789abcdef", "_context_user": null}"#;
        let read = Notification::decode(&envelope::seal(inner)).unwrap();
        assert_eq!((read.priority, read.payload.get()), (Priority::Info, r#"{"id": 1}"#));
        assert_eq!(read.context.get("user"), Some(Value::Null));
    }

    #[test]
    fn a_body_that_is_not_a_notification_is_an_error_rg39() {
        for inner in
            ["", "1", "{}", r#"{"event_type":"e","priority":"loud","payload":1}"#, r#"{"method":"m","args":{}}"#]
        {
            assert!(Notification::decode(&envelope::seal(inner)).is_err(), "{inner}");
        }
    }

    #[test]
    fn a_priority_is_read_in_any_case_and_makes_a_topic() {
        for priority in Priority::ALL {
            assert_eq!(priority.to_string().parse(), Ok(priority));
            assert_eq!(serde_json::to_value(priority).unwrap(), priority.as_str().to_uppercase());
            assert_eq!(priority.as_str().to_uppercase().parse(), Ok(priority));
        }
        let topic = Topic::new("notifications").unwrap();
        assert_eq!(Priority::Warn.topic(&topic).unwrap().as_str(), "notifications.warn");
        assert!("loud".parse::<Priority>().unwrap_err().to_string().contains("allowed are audit"));
    }
}
