//! Names, targets, addresses and versions: the destination of a message.

mod address;
mod names;
mod target;
mod text;
mod version;

#[cfg(test)]
pub(crate) use address::DEFAULT_PORT;
pub use address::MAX_SOCKET_PATH_BYTES;
pub use address::{Address, InvalidAddress, Node, TcpAddress};
pub(crate) use names::MAX_NAME_BYTES;
pub use names::{Exchange, InvalidName, MethodName, Namespace, NodeName, ServerName, Topic, Zone};
pub use target::{DEFAULT_EXCHANGE, ReceiverKind, Target, TopicKey};
pub(crate) use text::{Text, serde_as_text, shared_text};
pub use version::{InvalidVersion, Version};
