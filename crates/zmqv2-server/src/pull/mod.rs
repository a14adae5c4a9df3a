//! Servers and listeners whose program asks for requests, and answers them when it wants to.

mod deliveries;
mod listener;
mod notification;
mod queue;
mod repeats;
mod request;
mod server;

pub use listener::{PullListener, PullListenerBuilder};
pub use notification::PulledNotification;
pub(crate) use repeats::Repeats;
pub use request::{BodyKind, PulledRequest};
pub(crate) use server::start_deferred;
pub use server::{PullServer, PullServerBuilder};
