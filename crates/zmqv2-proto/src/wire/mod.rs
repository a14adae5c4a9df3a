//! Everything that a broker reads: headers, bundles, ids, times to live, control messages.

pub mod bundle;
pub mod control;
pub(crate) mod header;
pub(crate) mod id;
pub(crate) mod ttl;
