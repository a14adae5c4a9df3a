//! The JSON envelope of every body: `{"oslo.version": "2.0", "oslo.message": "<json text>"}`.
//!
//! It is the envelope of oslo.messaging, so that each driver can read the captured payloads of the
//! other.

use std::borrow::Cow;
use std::io;

use serde::Deserialize;

use crate::message::body::BodyError;

mod escape;
#[cfg(all(test, feature = "proptest"))]
mod properties;

pub(crate) use escape::{reserve_for, write_escaped};
#[cfg(all(test, feature = "proptest"))]
pub(crate) use properties::text as any_text;

/// The version that this side writes, and the only one that it reads.
pub(crate) const ENVELOPE_VERSION: &str = "2.0";

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Envelope<'a> {
    #[serde(rename = "oslo.version", borrow)]
    version: Option<Cow<'a, str>>,
    #[serde(rename = "oslo.message", borrow)]
    message: Option<Cow<'a, str>>,
}

/// The bytes before the message, as this side writes them.
const HEAD: &[u8] = br#"{"oslo.version":"2.0","oslo.message":""#;
/// The same bytes as Python writes them.
const SPACED_HEAD: &[u8] = br#"{"oslo.version": "2.0", "oslo.message": ""#;
/// The bytes after the message.
const TAIL: &[u8] = br#""}"#;
/// The capacity of a new envelope: most messages are short.
const INITIAL_CAPACITY: usize = 512;

/// Puts the JSON text of a message into an envelope.
#[must_use]
pub fn seal(message: &str) -> Vec<u8> {
    let mut envelope = EnvelopeWriter::new(message.len() + message.len() / 16);
    envelope.push(message);
    envelope.finish()
}

/// An envelope into which a message is serialised directly.
pub(crate) struct EnvelopeWriter(Vec<u8>);

impl EnvelopeWriter {
    /// An envelope with capacity for a message of about this size.
    fn new(expected: usize) -> Self {
        let mut body = Vec::with_capacity(INITIAL_CAPACITY.max(HEAD.len() + expected));
        body.extend_from_slice(HEAD);
        Self(body)
    }

    pub(crate) fn push(&mut self, text: &str) {
        escape::escape(text.as_bytes(), &mut self.0);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let Self(mut body) = self;
        body.extend_from_slice(TAIL);
        body
    }
}

impl Default for EnvelopeWriter {
    fn default() -> Self {
        Self::new(0)
    }
}

impl io::Write for EnvelopeWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        escape::escape(text, &mut self.0);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the JSON text of a message out of its envelope. An object without both keys passes through
/// unchanged.
///
/// # Errors
/// [`BodyError`] when `body` is not a JSON object, or an envelope of another version.
pub fn open(body: &[u8]) -> Result<Cow<'_, str>, BodyError> {
    open_fast(body).map_or_else(|| open_with_serde(body), |message| Ok(Cow::Owned(message)))
}

/// Opens an envelope in the usual form. `None` for any other, which [`open_with_serde`] reads.
fn open_fast(body: &[u8]) -> Option<String> {
    let message = body.strip_prefix(HEAD).or_else(|| body.strip_prefix(SPACED_HEAD))?;
    escape::unescape(message.strip_suffix(TAIL)?)
}

fn open_with_serde(body: &[u8]) -> Result<Cow<'_, str>, BodyError> {
    match serde_json::from_slice(body).map_err(BodyError::NotAnObject)? {
        // The rule of oslo.messaging: the same major version, and no newer minor version.
        Envelope { version: Some(version), message: Some(message) } if version == ENVELOPE_VERSION => Ok(message),
        Envelope { version: Some(found), message: Some(_) } => Err(BodyError::EnvelopeVersion { found: found.into() }),
        // The parser has checked that it is UTF-8.
        _ => Ok(String::from_utf8_lossy(body)),
    }
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
            assert!(matches!(open(body.as_bytes()), Err(BodyError::EnvelopeVersion { .. })), "{version}");
        }
    }

    #[test]
    fn a_body_that_is_not_an_object_is_refused() {
        for body in [&b""[..], b"x", b"[]", b"1", b"\xff", br#"{"oslo.version":2,"oslo.message":"{}"}"#] {
            assert!(matches!(open(body), Err(BodyError::NotAnObject(_))));
        }
    }
}
