//! Names, targets, addresses and versions: whom a message is for.

pub mod address;
pub mod names;
pub(crate) mod target;
pub(crate) mod text;
pub(crate) mod version;
