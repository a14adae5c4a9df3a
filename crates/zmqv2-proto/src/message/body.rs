//! Encodes messages into bodies and decodes bodies into messages.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::message::context::RequestContext;
use crate::message::envelope::{self, ENVELOPE_VERSION, EnvelopeWriter};
use crate::message::json;

/// A body could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is not a JSON object.
    #[error("body is not a JSON object")]
    NotAnObject(#[source] serde_json::Error),
    /// The envelope has a version that this side does not read.
    #[error("envelope version {found:?}, this side reads {ENVELOPE_VERSION}")]
    EnvelopeVersion {
        /// The version found.
        found: String,
    },
    /// The message inside is not of the expected form.
    #[error("message is not of the expected form")]
    Read(#[source] serde_json::Error),
    /// A value has no JSON form, such as a map whose keys are not texts.
    #[error("value has no JSON form")]
    Write(#[source] serde_json::Error),
}

/// The body that carries `message`.
pub(crate) fn encode(message: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, BodyError> {
    let mut envelope = EnvelopeWriter::default();
    json::write(message, &mut envelope).map_err(BodyError::Write)?;
    Ok(envelope.finish())
}

/// The body of a message with a context. `head` is the message without it.
pub(crate) fn encode_with(
    message: &(impl Serialize + ?Sized),
    head: &(impl Serialize + ?Sized),
    context: &RequestContext,
) -> Result<Vec<u8>, BodyError> {
    if context.has_plain_keys() {
        return encode(message);
    }
    let text = json::to_raw(head).and_then(|head| context.append_to(&head)).map_err(BodyError::Write)?;
    Ok(envelope::seal(&text))
}

/// The message that `body` carries.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    serde_json::from_str(&envelope::open(body)?).map_err(BodyError::Read)
}

/// The JSON text of `value`, as requests, replies and notifications carry it.
///
/// # Errors
/// [`BodyError::Write`] when `value` has no JSON form.
pub fn json_text(value: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, BodyError> {
    json::to_raw(value).map_err(BodyError::Write)
}
