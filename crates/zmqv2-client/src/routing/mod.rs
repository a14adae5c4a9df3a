//! Chooses the nodes of a message, by the directory and by what this client has seen of nodes.

pub(crate) mod destinations;
pub(crate) mod directory;
pub(crate) mod lookup;
pub(crate) mod node_health;
pub(crate) mod probe;
pub(crate) mod route;
pub(crate) mod router;
pub(crate) mod server_locations;
pub(crate) mod server_search;
