//! The JSON envelope of every body: `{"oslo.version": "2.0", "oslo.message": "<json text>"}`.
//!
//! It is the envelope of oslo.messaging, so that a payload captured from one driver can be read by another.

use std::borrow::Cow;
use std::io;

use serde::Deserialize;

mod escape;
#[cfg(all(test, feature = "proptest"))]
mod properties;

pub(crate) use escape::{make_room, write_escaped};
#[cfg(all(test, feature = "proptest"))]
pub(crate) use properties::text as any_text;

/// The version that this side writes.
pub const ENVELOPE_VERSION: &str = "2.0";

/// A body is not an envelope that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not a JSON object.
    #[error("body is not a JSON object")]
    Json(#[source] serde_json::Error),
    /// An envelope of a version that this side does not read.
    #[error("envelope version {found:?}, this side reads {ENVELOPE_VERSION}")]
    Version {
        /// The version found.
        found: String,
    },
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Envelope<'a> {
    #[serde(rename = "oslo.version", borrow)]
    version: Option<Cow<'a, str>>,
    #[serde(rename = "oslo.message", borrow)]
    message: Option<Cow<'a, str>>,
}

/// What stands before the message, as this side writes it.
const HEAD: &[u8] = br#"{"oslo.version":"2.0","oslo.message":""#;
/// The same as Python writes it.
const SPACED_HEAD: &[u8] = br#"{"oslo.version": "2.0", "oslo.message": ""#;
/// What stands after it.
const TAIL: &[u8] = br#""}"#;
/// The room of a new envelope: most messages are short.
const ROOM: usize = 512;

/// Puts the JSON text of a message into an envelope.
#[must_use]
pub fn seal(message: &str) -> Vec<u8> {
    let mut sealing = Sealing::new(message.len() + message.len() / 16);
    sealing.push(message);
    sealing.finish()
}

/// An envelope whose message is being written: whatever is written goes into it at once, so that no second text is made of it.
pub(crate) struct Sealing(Vec<u8>);

impl Sealing {
    /// An envelope with room for a message of about this size.
    fn new(expected: usize) -> Self {
        let mut body = Vec::with_capacity(ROOM.max(HEAD.len() + expected));
        body.extend_from_slice(HEAD);
        Self(body)
    }

    /// Appends to the JSON text of the message.
    pub(crate) fn push(&mut self, text: &str) {
        escape::escape(text.as_bytes(), &mut self.0);
    }

    /// The body.
    pub(crate) fn finish(self) -> Vec<u8> {
        let Self(mut body) = self;
        body.extend_from_slice(TAIL);
        body
    }
}

impl Default for Sealing {
    fn default() -> Self {
        Self::new(0)
    }
}

impl io::Write for Sealing {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        escape::escape(text, &mut self.0);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the JSON text of a message out of its envelope. An object without both keys passes through as it is.
///
/// # Errors
/// [`EnvelopeError`] when `body` is not a JSON object, or an envelope of another version.
pub fn open(body: &[u8]) -> Result<Cow<'_, str>, EnvelopeError> {
    match open_usual(body) {
        Some(message) => Ok(Cow::Owned(message)),
        None => open_any(body),
    }
}

/// Opens an envelope that is written as usual; all others, good and bad, are left to [`open_any`].
fn open_usual(body: &[u8]) -> Option<String> {
    let message = body.strip_prefix(HEAD).or_else(|| body.strip_prefix(SPACED_HEAD))?;
    escape::unescape(message.strip_suffix(TAIL)?)
}

fn open_any(body: &[u8]) -> Result<Cow<'_, str>, EnvelopeError> {
    match serde_json::from_slice(body).map_err(EnvelopeError::Json)? {
        Envelope { version: Some(version), message: Some(message) } => {
            if compatible(&version) {
                Ok(message)
            } else {
                Err(EnvelopeError::Version { found: version.into() })
            }
        }
        // It has just been parsed, so it is text.
        _ => Ok(String::from_utf8_lossy(body)),
    }
}

/// The rule of oslo.messaging: the same major, a minor that is not newer.
fn compatible(version: &str) -> bool {
    version.split_once('.').is_some_and(|(major, minor)| major == "2" && minor == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        let message = r#"{"method": "echo \"x\"\n", "args": {"é": "\u0000"}}"#;
        assert_eq!(open(&seal(message)).unwrap(), message);
    }

    #[test]
    fn an_object_without_both_keys_passes_through() {
        for text in ["{}", r#"{"method":"m"}"#, r#"{"oslo.version":"2.0"}"#] {
            assert_eq!(open(text.as_bytes()).unwrap(), text);
        }
    }

    #[test]
    fn another_version_is_its_own_error_rg40() {
        for version in ["1.0", "2.1", "3.0", "2", ""] {
            let body = format!(r#"{{"oslo.version":"{version}","oslo.message":"{{}}"}}"#);
            assert!(matches!(open(body.as_bytes()), Err(EnvelopeError::Version { .. })), "{version}");
        }
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for body in [&b""[..], b"x", b"[]", b"1", b"\xff", br#"{"oslo.version":2,"oslo.message":"{}"}"#] {
            assert!(matches!(open(body), Err(EnvelopeError::Json(_))));
        }
    }
}
