//! The bodies of messages, which only clients and servers read: JSON in an envelope.

mod body;
mod context;
pub mod envelope;
mod foreign_failure;
mod json;
mod key;
mod notification;
mod reply;
mod request;

pub use body::{BodyError, json_text};
pub use context::RequestContext;
pub use notification::{DEFAULT_POOL, InvalidPriority, Notification, Priority};
pub use reply::{DISPATCHER_MODULE, Failure, Reply, SERVER_MODULE};
pub use request::{Request, RequestRef};
