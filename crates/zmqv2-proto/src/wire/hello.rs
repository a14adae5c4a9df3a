//! What a client and a broker tell each other when a connection begins.
//!
//! The client asks first: a [`Kind::Inquire`](crate::Kind::Inquire) with [`HELLO_ID`] and a
//! [`Hello`] as its body. A broker answers with [`Kind::Welcome`](crate::Kind::Welcome) and a
//! [`Welcome`]. A broker of an earlier version refuses the question as it refuses a question about
//! a call that it does not know; then the client knows nothing about it.

use serde::{Deserialize, Serialize};

use crate::wire::{ClockId, MessageId};

/// The message id of the first question on a connection, all zero. No message has it.
pub const HELLO_ID: MessageId = MessageId::from_bytes([0; 16]);

/// The most bytes of the body of a first question. More is ignored.
pub const MAX_HELLO_BYTES: usize = 4096;

/// What a client says about itself. Unknown fields are ignored, and all may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hello {
    /// The largest body that the client takes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<u64>,
}

impl Hello {
    /// The words of a client that takes bodies of up to this many bytes.
    #[must_use]
    pub fn new(max_message_bytes: usize) -> Self {
        Self { max_message_bytes: u64::try_from(max_message_bytes).ok() }
    }

    /// Reads the body of a first question. A body that cannot be read says nothing.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        if body.len() > MAX_HELLO_BYTES {
            return Self::default();
        }
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// The body.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What a broker says about itself. Unknown fields are ignored, and all may be missing. The header
/// of the answer has the broker's clock in `delivered`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Welcome {
    /// The [number of its clock](ClockId), by which it reads the stamps of requests. 0: it reads no
    /// stamps.
    #[serde(default)]
    pub clock: u16,
    /// The largest body that it takes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<u64>,
    /// Whether it understands that a caller has given up a request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancels: bool,
    /// Whether it takes the node of the caller in the header of a request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub callers: bool,
}

impl Welcome {
    /// The words of a broker on this machine that takes bodies of up to this many bytes.
    #[must_use]
    pub fn new(max_message_bytes: usize) -> Self {
        let max_message_bytes = u64::try_from(max_message_bytes).ok();
        Self { clock: ClockId::own().to_wire(), max_message_bytes, cancels: false, callers: false }
    }

    /// The same, for a broker that understands that a caller has given up a request.
    #[must_use]
    pub fn with_cancellation(mut self) -> Self {
        self.cancels = true;
        self
    }

    /// The same, for a broker that takes the node of the caller in the header of a request.
    #[must_use]
    pub fn with_callers(mut self) -> Self {
        self.callers = true;
        self
    }

    /// Reads the body of an answer.
    ///
    /// # Errors
    /// The body is not JSON, or a field has another type.
    pub fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The body.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_fields_are_fine() {
        let welcome = Welcome::new(1_000);
        assert_eq!(Welcome::read(&welcome.write()).unwrap(), welcome);
        assert_eq!(Welcome::read(b"{}").unwrap(), Welcome::default());
        let later = Welcome::read(br#"{"clock": 7, "cancels": true, "colour": "red"}"#).unwrap();
        assert_eq!((later.clock, later.cancels, later.max_message_bytes), (7, true, None));
        assert!(Welcome::read(b"").is_err());
    }

    #[test]
    fn a_question_that_cannot_be_read_says_nothing() {
        let hello = Hello::new(1_000);
        assert_eq!(Hello::read(&hello.write()), hello);
        let long = format!("{{\"x\": \"{}\"}}", "y".repeat(MAX_HELLO_BYTES));
        for body in [&b""[..], b"[", b"{\"max_message_bytes\": -1}", long.as_bytes()] {
            assert_eq!(Hello::read(body), Hello::default());
        }
    }
}
