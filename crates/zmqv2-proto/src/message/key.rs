//! Keys of messages, as they were received.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

/// A key as it was received. Python may send one that is no text in Rust: `"\ud800"`.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct ReceivedKey<'a>(#[serde(borrow)] &'a RawValue);

impl<'a> ReceivedKey<'a> {
    /// The JSON text, with its quotes.
    pub(crate) fn raw(&self) -> &'a str {
        self.0.get()
    }

    pub(crate) fn is_escaped(&self) -> bool {
        self.raw().contains('\\')
    }

    /// The text of the key. A lone surrogate becomes U+FFFD.
    pub(crate) fn text(&self) -> Cow<'a, str> {
        if !self.is_escaped() {
            return Cow::Borrowed(self.raw().trim_matches('"'));
        }
        let bytes = serde_json::from_str(self.raw()).map_or_else(|_| Vec::new(), |Bytes(bytes)| bytes);
        match String::from_utf8(bytes) {
            Ok(text) => Cow::Owned(text),
            // Each surrogate has three bytes, and each of them was replaced.
            Err(error) => {
                Cow::Owned(String::from_utf8_lossy(error.as_bytes()).replace("\u{fffd}\u{fffd}\u{fffd}", "\u{fffd}"))
            }
        }
    }
}

/// The bytes of a text, with the usual three for a lone surrogate.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(BytesVisitor)
    }
}
