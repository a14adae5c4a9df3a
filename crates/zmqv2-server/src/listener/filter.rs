//! Filters of notifications.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::Regex;
use serde_json::value::RawValue;
use zmqv2_proto::Notification;

/// Matches notifications by regular expressions. All of its expressions must match.
///
/// As in oslo.messaging, an expression must match at the *start* of the text. `$` matches its end.
/// An absent value, or one that is no text, does not match. The syntax is that of the crate
/// `regex`, without look-around and back-references, so the time is linear in the text's size.
///
/// ```
/// use zmqv2_server::{Notification, NotificationFilter, Priority};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let filter = NotificationFilter::new().publisher_id("compute")?.payload("state", "active$")?;
/// let payload = serde_json::json!({"state": "active"});
/// assert!(filter.matches(&Notification::new("compute.node-7", "e", Priority::Info, &payload)?));
/// assert!(!filter.matches(&Notification::new("network.node-7", "e", Priority::Info, &payload)?));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct NotificationFilter {
    publisher_id: Option<Regex>,
    event_type: Option<Regex>,
    context: Vec<(String, Regex)>,
    metadata: Vec<(Metadata, Regex)>,
    payload: Vec<(String, Regex)>,
}

/// Returns a metadata value of a notification.
type Metadata = fn(&Notification) -> &str;

/// A filter is not valid.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFilter {
    /// An expression is not valid.
    #[error("the filter's expression for {part}: {problem}")]
    Expression {
        /// The part of the notification that the expression is for.
        part: String,
        /// The mistake, as the parser of the expression describes it.
        problem: String,
    },
    /// Notifications have no metadata of this name.
    #[error("no metadata {0:?} to filter by; there are message_id and timestamp")]
    Metadata(String),
}

impl NotificationFilter {
    /// A filter that matches everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Matches the publisher's id.
    ///
    /// # Errors
    /// [`InvalidFilter::Expression`].
    pub fn publisher_id(mut self, expression: &str) -> Result<Self, InvalidFilter> {
        self.publisher_id = Some(compile("publisher_id", expression)?);
        Ok(self)
    }

    /// Matches the type of the event.
    ///
    /// # Errors
    /// [`InvalidFilter::Expression`].
    pub fn event_type(mut self, expression: &str) -> Result<Self, InvalidFilter> {
        self.event_type = Some(compile("event_type", expression)?);
        Ok(self)
    }

    /// Matches the value of `key` in the context.
    ///
    /// # Errors
    /// [`InvalidFilter::Expression`].
    pub fn context(mut self, key: impl Into<String>, expression: &str) -> Result<Self, InvalidFilter> {
        let key = key.into();
        let expression = compile(&format!("context {key:?}"), expression)?;
        self.context.push((key, expression));
        Ok(self)
    }

    /// Matches the metadata `key`, which is `message_id` or `timestamp`.
    ///
    /// # Errors
    /// [`InvalidFilter`]: another key, or an expression that is not valid.
    pub fn metadata(mut self, key: &str, expression: &str) -> Result<Self, InvalidFilter> {
        let text: Metadata = match key {
            "message_id" => |notification| &notification.message_id,
            "timestamp" => |notification| &notification.timestamp,
            other => return Err(InvalidFilter::Metadata(other.chars().take(40).collect())),
        };
        self.metadata.push((text, compile(key, expression)?));
        Ok(self)
    }

    /// Matches the value of `key` in the payload, which must be an object. Keys of nested objects
    /// do not count.
    ///
    /// # Errors
    /// [`InvalidFilter::Expression`].
    pub fn payload(mut self, key: impl Into<String>, expression: &str) -> Result<Self, InvalidFilter> {
        let key = key.into();
        let expression = compile(&format!("payload {key:?}"), expression)?;
        self.payload.push((key, expression));
        Ok(self)
    }

    /// Whether all expressions match `notification`.
    #[must_use]
    pub fn matches(&self, notification: &Notification) -> bool {
        let fits = |expression: &Option<Regex>, text| expression.as_ref().is_none_or(|e| starts(e, text));
        fits(&self.publisher_id, &notification.publisher_id)
            && fits(&self.event_type, &notification.event_type)
            && self.metadata.iter().all(|(text, expression)| starts(expression, text(notification)))
            && self.context.iter().all(|(key, expression)| {
                let text = notification.context.read::<String>(key);
                text.is_some_and(|text| text.is_ok_and(|text| starts(expression, &text)))
            })
            && self.payload_matches(notification.payload.get())
    }

    fn payload_matches(&self, payload: &str) -> bool {
        if self.payload.is_empty() {
            return true;
        }
        // Only the values of the filter's keys are read.
        let Ok(values) = serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(payload) else { return false };
        self.payload.iter().all(|(key, expression)| {
            let value = values.get(key.as_str()).map(|value| serde_json::from_str::<Cow<'_, str>>(value.get()));
            value.is_some_and(|text| text.is_ok_and(|text| starts(expression, &text)))
        })
    }
}

/// Whether `expression` matches at the start of the text. A search finds the leftmost match, so it
/// finds a match at the start if there is one.
fn starts(expression: &Regex, text: &str) -> bool {
    expression.find(text).is_some_and(|found| found.start() == 0)
}

fn compile(part: &str, expression: &str) -> Result<Regex, InvalidFilter> {
    let invalid = |error: regex::Error| InvalidFilter::Expression { part: part.to_owned(), problem: error.to_string() };
    Regex::new(expression).map_err(invalid)
}

#[cfg(test)]
#[path = "tests/filter.rs"]
mod tests;
