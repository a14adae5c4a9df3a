//! A pool of PUSH sockets: at most `rpc_conn_pool_size` for each address.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use zmq::{Context, Socket, SocketType};

use super::Options;
use super::frames::Frames;
use super::sockets::{Side, context, open};

/// The pools of a process, one for each address, with one context.
pub(super) struct SocketPools {
    // Dropped after the sockets.
    pools: Mutex<HashMap<String, Arc<Pool>>>,
    context: Context,
    size: usize,
}

#[derive(Default)]
struct Pool {
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    free: Vec<Socket>,
    open: usize,
}

impl SocketPools {
    pub(super) fn new(options: &Options) -> Self {
        Self { pools: Mutex::default(), context: context(options.contexts), size: options.conn_pool_size }
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Sends a message to an address within `timeout`, over a free socket, a new one, or the next
    /// one that becomes free.
    pub(super) fn send(&self, address: &str, frames: Frames, timeout: Duration) -> zmq::Result<()> {
        let started = crate::now();
        let pool = {
            let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(pools.entry(address.to_owned()).or_default())
        };
        let socket = self.take(&pool, address, timeout)?;
        let sent =
            within(&socket, timeout.saturating_sub(started.elapsed())).and_then(|()| socket.send_multipart(frames, 0));
        pool.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(socket);
        pool.returned.notify_one();
        sent
    }

    fn take(&self, pool: &Pool, address: &str, timeout: Duration) -> zmq::Result<Socket> {
        let state = pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        let all_in_use = |state: &mut State| state.free.is_empty() && state.open >= self.size;
        let waited = pool.returned.wait_timeout_while(state, timeout, all_in_use);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = state.free.pop() {
            return Ok(socket);
        }
        if state.open >= self.size {
            return Err(zmq::Error::EAGAIN);
        }
        state.open += 1;
        drop(state);
        open(&self.context, SocketType::PUSH, address, Side::Connect).inspect_err(|_| {
            pool.state.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
        })
    }
}

/// Bounds the next send of a socket.
fn within(socket: &Socket, timeout: Duration) -> zmq::Result<()> {
    socket.set_sndtimeo(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
}
