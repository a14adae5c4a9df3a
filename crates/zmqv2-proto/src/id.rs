//! Ids of messages and of server processes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: an id is 32 hexadecimal digits")]
pub struct InvalidId(String);

macro_rules! id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        ///
        /// 16 bytes on the wire, 32 hexadecimal digits in text.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type([u8; 16]);

        impl $type {
            /// A new random id (122 random bits).
            #[must_use]
            pub fn random() -> Self {
                Self(*Uuid::new_v4().as_bytes())
            }

            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes as they stand on the wire.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", Uuid::from_bytes(self.0).as_simple())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $type {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let plain = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
                match Uuid::try_parse(text) {
                    Ok(uuid) if plain => Ok(Self(*uuid.as_bytes())),
                    _ => Err(InvalidId(text.chars().take(40).collect())),
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.to_string()
            }
        }
    };
}

id!(
    /// The id of one message. A resend keeps it, so that a server can drop what it has seen.
    MessageId
);
id!(
    /// The id of one running server: a server process that starts again under the same name has a new one.
    InstanceId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_through_text_and_back() {
        let id = MessageId::random();
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        for text in ["", "xyz", "12345678-1234-1234-1234-123456789012", "{}"] {
            assert!(text.parse::<MessageId>().is_err(), "{text:?}");
        }
    }
}
