//! Many workers that share one ROUTER socket.

mod io;
mod threads;
mod window;

pub(crate) use threads::WorkerPool;
