//! The JSON envelope of every body: `{"oslo.version": "2.0", "oslo.message": "<json text>"}`.
//!
//! It is the envelope of oslo.messaging, so that a payload captured from one driver can be read by another.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

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

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "oslo.version", borrow, skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
    #[serde(rename = "oslo.message", borrow, skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'a, str>>,
}

/// Puts the JSON text of a message into an envelope.
#[must_use]
pub fn seal(message: &str) -> Vec<u8> {
    let envelope = Envelope { version: Some(ENVELOPE_VERSION.into()), message: Some(message.into()) };
    // Two strings always serialise; an empty body would be refused as malformed by any reader.
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// Takes the JSON text of a message out of its envelope. An object without both keys passes through as it is.
///
/// # Errors
/// [`EnvelopeError`] when `body` is not a JSON object, or an envelope of another version.
pub fn open(body: &[u8]) -> Result<Cow<'_, str>, EnvelopeError> {
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
