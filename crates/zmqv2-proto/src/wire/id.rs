//! Ids of messages and of server processes.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IgnoredAny;
use uuid::{Builder, Uuid};

use crate::naming::serde_as_text;
use crate::process::process_id;

/// The error for a text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: an id is 32 hexadecimal digits")]
pub struct InvalidId(String);

/// Ids for which a thread draws random bytes at once. A system call per id would cost too much.
const POOL_IDS: usize = 64;

/// Random bytes that were not used yet.
struct RandomPool {
    /// The process that drew them. A child of a fork has the same bytes and must not use them.
    pid: u32,
    left: usize,
    bytes: [[u8; 16]; POOL_IDS],
}

thread_local! {
    static POOL: RefCell<RandomPool> = const { RefCell::new(RandomPool { pid: 0, left: 0, bytes: [[0; 16]; POOL_IDS] }) };
}

/// 16 random bytes of the system, used once.
fn random_bytes() -> [u8; 16] {
    let drawn = POOL.try_with(|pool| pool.try_borrow_mut().ok()?.take(process_id()));
    // An ending thread has no pool. This panics only on a system without random numbers.
    drawn.ok().flatten().unwrap_or_else(|| Uuid::new_v4().into_bytes())
}

impl RandomPool {
    fn take(&mut self, pid: u32) -> Option<[u8; 16]> {
        if self.left == 0 || self.pid != pid {
            self.left = 0;
            getrandom::fill(self.bytes.as_flattened_mut()).ok()?;
            (self.pid, self.left) = (pid, POOL_IDS);
        }
        self.left -= 1;
        // Erased, so that the memory does not reveal used ids.
        self.bytes.get_mut(self.left).map(std::mem::take)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        ///
        /// 16 bytes on the wire, 32 hexadecimal digits in text.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type([u8; 16]);

        impl $type {
            /// A new random id (122 random bits).
            #[must_use]
            pub fn random() -> Self {
                Self(Builder::from_random_bytes(random_bytes()).into_uuid().into_bytes())
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
                f.write_str(Uuid::from_bytes(self.0).as_simple().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        serde_as_text!($type, id => Uuid::from_bytes(id.0).as_simple().encode_lower(&mut Uuid::encode_buffer()));

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $type {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match Uuid::try_parse(text) {
                    // Other forms that it reads are longer.
                    Ok(uuid) if text.len() == 32 => Ok(Self(uuid.into_bytes())),
                    _ => Err(InvalidId(text.chars().take(40).collect())),
                }
            }
        }
    };
}

id!(
    /// The id of one message. A resend keeps it, so that a server can drop repeated messages.
    MessageId
);
id!(
    /// The id of one run of a server. A restarted server has a new one.
    InstanceId
);

/// The id in a body. Other drivers may write ids in another form, which must not lose the message.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum LenientId {
    Known(MessageId),
    Other(IgnoredAny),
}

impl LenientId {
    pub(crate) fn known(self) -> Option<MessageId> {
        if let Self::Known(id) = self { Some(id) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_go_through_text_and_back() {
        let id = MessageId::random();
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<MessageId>(&format!("\"{id}\"")).unwrap(), id);
        let refused = serde_json::from_str::<MessageId>("\"xyz\"").unwrap_err().to_string();
        assert!(refused.starts_with("invalid id \"xyz\": an id is 32 hexadecimal digits"), "{refused}");
        for text in ["", "xyz", "12345678-1234-1234-1234-123456789012", "{}"] {
            assert!(text.parse::<MessageId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn random_ids_are_of_version_4_and_differ() {
        let draw = || (0..3 * POOL_IDS).map(|_| MessageId::random()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw)).collect();
        let ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        for id in &ids {
            let uuid = Uuid::from_bytes(*id.as_bytes());
            assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
        }
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    /// A fork leaves a copy of the memory in a process with another id.
    #[test]
    fn a_child_does_not_use_the_random_bytes_of_its_parent() {
        let mut parent = RandomPool { pid: 0, left: 0, bytes: [[0; 16]; POOL_IDS] };
        let first = parent.take(1).unwrap();
        let mut child = RandomPool { pid: parent.pid, left: parent.left, bytes: parent.bytes };
        let draw = |pool: &mut RandomPool, pid| (0..2 * POOL_IDS).map(|_| pool.take(pid).unwrap()).collect::<Vec<_>>();
        let (of_parent, of_child) = (draw(&mut parent, 1), draw(&mut child, 2));
        let all: HashSet<_> = of_parent.iter().chain(&of_child).chain([&first]).collect();
        assert_eq!(all.len(), 4 * POOL_IDS + 1);
    }
}
