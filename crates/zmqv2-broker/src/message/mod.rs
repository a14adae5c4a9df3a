//! Messages between a socket and the engine: how they are framed, who sent them, what they ask for.

pub(crate) mod control_request;
pub(crate) mod framing;
pub(crate) mod payload;
pub(crate) mod return_path;
