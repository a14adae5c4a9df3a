//! Values that travel with every request and notification of a caller.

use serde::de::{IgnoredAny, MapAccess};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::wire::MessageId;

/// The prefix of context values in a message, as in oslo.messaging.
const PREFIX: &str = "_context_";
pub(crate) const UNIQUE_ID: &str = "_unique_id";

/// Values that travel with every request of a caller, such as a request id or a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestContext(Map<String, Value>);

impl RequestContext {
    /// A context without values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same context with one more value.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All values, in the order they were written or received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Writes the last fields of a message: its id and the context.
    pub(crate) fn write_with<M: SerializeMap>(&self, id: Option<MessageId>, mut message: M) -> Result<M::Ok, M::Error> {
        if let Some(id) = &id {
            message.serialize_entry(UNIQUE_ID, id)?;
        }
        for (key, value) in self.iter() {
            message.serialize_entry(&Prefixed(key), value)?;
        }
        message.end()
    }

    /// Reads the value of `key` if it belongs to a context. Skips the value of any other key.
    pub(crate) fn read_or_skip<'de, A: MapAccess<'de>>(&mut self, key: &str, message: &mut A) -> Result<(), A::Error> {
        match key.strip_prefix(PREFIX) {
            Some(name) => drop(self.0.insert(name.to_owned(), message.next_value()?)),
            None => drop(message.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// A key with its prefix.
struct Prefixed<'a>(&'a str);

impl Serialize for Prefixed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{PREFIX}{}", self.0))
    }
}
