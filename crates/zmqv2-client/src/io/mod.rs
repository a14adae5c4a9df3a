//! The I/O thread: its queue, its sockets, and the messages that it sends.

pub(crate) mod admission;
pub(crate) mod answer;
pub(crate) mod driver;
pub(crate) mod links;
pub(crate) mod outbound;
pub(crate) mod queue;
pub(crate) mod thread;
pub(crate) mod timers;
pub(crate) mod waiting;
