//! REQ sockets by address: opened when needed, reused, and closed when idle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_proto::Address;
use zmqv2_proto::transport::{Role, Socket, Transport, TransportError, check_reachable, process_id};

use crate::direct::idle_pool::IdlePool;
use crate::io::links::IDLE_LIMIT;
use crate::peers::hello::Greeting;
use crate::peers::{Peer, Peers};

/// The idle sockets of a client. A socket in use belongs to the calling thread.
#[derive(Debug)]
pub(crate) struct ReqSockets {
    transport: Transport,
    capacity: usize,
    idle: Mutex<IdleSockets>,
}

#[derive(Debug)]
struct IdleSockets {
    /// The process that opened the sockets.
    pid: u32,
    pool: IdlePool<ReqSocket>,
}

/// A socket, and what is known of the broker at the other end.
#[derive(Debug)]
pub(crate) struct ReqSocket {
    pub(super) socket: Socket,
    pub(super) peer: Arc<Peer>,
    /// Whether the broker was asked over this connection.
    pub(super) greeting: Greeting,
}

impl ReqSockets {
    pub(crate) fn new(transport: Transport, capacity: usize) -> Self {
        let idle = IdleSockets { pid: process_id(), pool: IdlePool::new(capacity, IDLE_LIMIT) };
        Self { transport, capacity, idle: Mutex::new(idle) }
    }

    /// A socket for `address`: connected already, or new and still connecting, which waits at most
    /// until `connect_by` for the resolver.
    pub(crate) fn take(
        &self,
        address: &Address,
        peers: &Peers,
        now: Instant,
        connect_by: Instant,
    ) -> Result<ReqSocket, TransportError> {
        // Two statements, so that the lock is released before sockets are closed.
        let expired = self.idle().pool.expire(now);
        drop(expired);
        loop {
            let Some(socket) = self.idle().pool.take(address) else {
                break;
            };
            // A socket without a connection may wait long to reconnect. A new one connects at once.
            if socket.socket.readiness()?.writable {
                return Ok(socket);
            }
        }
        let resolved = check_reachable(address, connect_by.saturating_duration_since(now))?;
        let mut socket = self.transport.socket(Role::Req)?;
        socket.connect(&resolved)?;
        Ok(ReqSocket { socket, peer: peers.at(address), greeting: Greeting::Due })
    }

    /// Keeps a socket whose request was answered. Any other socket must be dropped.
    pub(crate) fn keep(&self, address: Address, socket: ReqSocket, now: Instant) {
        let closed = self.idle().pool.put(address, socket, now);
        drop(closed);
    }

    fn idle(&self) -> MutexGuard<'_, IdleSockets> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = process_id();
        if idle.pid != pid {
            // After a fork, these sockets belong to the parent. Closing them would disturb its
            // threads.
            let inherited =
                std::mem::replace(&mut *idle, IdleSockets { pid, pool: IdlePool::new(self.capacity, IDLE_LIMIT) });
            std::mem::forget(inherited);
        }
        idle
    }
}
