//! Messages between the sockets and the engine: their frames, their senders, and what they ask for.
//! Nothing here knows the event loop.

pub(crate) mod arrival;
pub(crate) mod control_request;
pub(crate) mod framing;
pub(crate) mod origin;
pub(crate) mod payload;
pub(crate) mod peer_name;
pub(crate) mod return_path;
pub(crate) mod worker_message;
