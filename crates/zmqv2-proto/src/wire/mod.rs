//! Everything that a broker reads: headers, bundles, ids, times to live, control messages.

pub mod bundle;
mod clock;
pub mod control;
mod deadline;
mod header;
pub mod hello;
mod id;
mod ttl;

pub use clock::ClockId;
pub use deadline::deadline;
pub use header::{FIXED_BYTES, Flags, Header, HeaderView, InvalidHeader, Kind, MAX_HEADER_BYTES, rewrite_hop};
pub(crate) use header::{MAGIC, PROTOCOL_VERSION};
pub(crate) use id::LenientId;
pub use id::{InstanceId, InvalidId, MessageId};
pub use ttl::Ttl;
