//! Where a message can go: the directory, and what this client has learned about nodes.

pub(crate) mod destinations;
pub(crate) mod directory;
pub(crate) mod node_health;
pub(crate) mod probe;
pub(crate) mod route;
pub(crate) mod router;
pub(crate) mod server_locations;
pub(crate) mod server_search;
