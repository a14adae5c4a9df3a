//! The bodies of messages, which only clients and servers read: JSON in an envelope.

pub mod envelope;
mod json;
pub(crate) mod notification;
pub(crate) mod reply;
pub(crate) mod request;
