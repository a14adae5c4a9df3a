//! Servers whose handlers are asynchronous: many of them can wait at the same time, without a thread
//! for each.

mod endpoint;
mod executor;
mod handler;
mod inbox;
mod server;
mod service;
mod wait;

pub use endpoint::{AsyncEndpoint, AsyncMethods};
pub use executor::{BoxFuture, Executor};
pub use server::{AsyncRpcServer, AsyncRpcServerBuilder};
