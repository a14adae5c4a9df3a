//! One libzmq context per driver instance, made when the first socket is, and bound to the process.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::transport::error::TransportError;
use crate::transport::socket::{Role, Socket};

/// The most sockets that one context is asked to allow; libzmq's own default is 1,023.
const MAX_SOCKETS: c_int = 65_000;

/// What a [`Transport`] needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportOptions {
    /// libzmq I/O threads (option `rpc_zmq_contexts`). Default 1; more help only above a gigabyte per second.
    pub io_threads: u16,
    /// Bodies above this are refused by whoever sees them first (option `rpc_zmq_max_message_bytes`). Default 16 MiB.
    pub max_message_bytes: usize,
    /// Bytes that libzmq moves per system call at most (option `rpc_zmq_io_batch_bytes`). Default 65536. Of no effect on a
    /// libzmq without its draft interface.
    pub io_batch_bytes: u32,
    /// Messages that libzmq holds for one peer, in each direction (option `rpc_zmq_high_water_mark`). Default and least 10000.
    pub high_water_mark: u32,
    /// For how long a thread looks for the next message before it sleeps (option `rpc_zmq_busy_poll_us`). Default 0.
    pub busy_poll: Duration,
    /// For how long the I/O thread of a broker or a client does so while that finds some (option
    /// `rpc_zmq_adaptive_poll_us`). Default 100 us.
    pub adaptive_poll: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self::from(&Config::default())
    }
}

impl From<&Config> for TransportOptions {
    fn from(config: &Config) -> Self {
        Self {
            io_threads: config.io_threads,
            max_message_bytes: config.max_message_bytes,
            io_batch_bytes: config.io_batch_bytes,
            high_water_mark: config.high_water_mark,
            busy_poll: config.busy_poll,
            adaptive_poll: config.adaptive_poll,
        }
    }
}

/// Makes sockets that share one context.
///
/// The context is made with the first socket and belongs to the process that made it: services fork after they
/// configured themselves, and a context does not survive that. A child gets a context of its own; the parent's is
/// left untouched.
#[derive(Debug, Clone)]
pub struct Transport(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: TransportOptions,
    context: Mutex<Option<(u32, Arc<Context>)>>,
}

impl Transport {
    /// A transport that will use `options`. Opens nothing yet.
    #[must_use]
    pub fn new(options: TransportOptions) -> Self {
        // Libc calls those first in a child who asked first: nobody else's hook finds the parent's number.
        let _ = super::process_id();
        Self(Arc::new(Shared { options, context: Mutex::new(None) }))
    }

    /// What it uses.
    #[must_use]
    pub fn options(&self) -> &TransportOptions {
        &self.0.options
    }

    /// A new socket for `role`.
    ///
    /// # Errors
    /// [`TransportError::Open`] when file descriptors or memory are exhausted.
    pub fn socket(&self, role: Role) -> Result<Socket, TransportError> {
        Socket::open(self.context(std::process::id())?, role, &self.0.options)
    }

    fn context(&self, pid: u32) -> Result<Arc<Context>, TransportError> {
        let mut current = self.0.context.lock().unwrap_or_else(PoisonError::into_inner);
        match current.take() {
            Some((owner, context)) if owner == pid => {
                *current = Some((owner, Arc::clone(&context)));
                Ok(context)
            }
            inherited => {
                // After a fork: closing the parent's context here would touch its threads and sockets.
                std::mem::forget(inherited);
                let context = Arc::new(Context::open(self.0.options.io_threads)?);
                *current = Some((pid, Arc::clone(&context)));
                Ok(context)
            }
        }
    }
}

/// A context; terminated when the last socket of it and its transport are gone.
#[derive(Debug)]
pub(super) struct Context(*mut c_void);

// SAFETY: libzmq contexts are thread safe.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    fn open(io_threads: u16) -> Result<Self, TransportError> {
        // SAFETY: no preconditions.
        let raw = unsafe { zmq_sys::zmq_ctx_new() };
        if raw.is_null() {
            return Err(TransportError::Open { source: io::Error::last_os_error() });
        }
        let context = Self(raw);
        // SAFETY: the context is live; both options take an int and must be set before the first socket.
        let set = unsafe {
            let limit = zmq_sys::zmq_ctx_get(raw, zmq_sys::ZMQ_SOCKET_LIMIT as c_int);
            zmq_sys::zmq_ctx_set(raw, zmq_sys::ZMQ_MAX_SOCKETS as c_int, limit.min(MAX_SOCKETS))
                | zmq_sys::zmq_ctx_set(raw, zmq_sys::ZMQ_IO_THREADS as c_int, c_int::from(io_threads))
        };
        if set != 0 {
            return Err(TransportError::Open { source: io::Error::last_os_error() });
        }
        Ok(context)
    }

    /// A raw socket of `kind`.
    pub(super) fn socket(&self, kind: u32) -> Result<*mut c_void, TransportError> {
        // SAFETY: the context is live as long as `self`.
        let raw = unsafe { zmq_sys::zmq_socket(self.0, kind as c_int) };
        if raw.is_null() {
            return Err(TransportError::Open { source: io::Error::last_os_error() });
        }
        Ok(raw)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Blocks until what lingers is sent, bounded by the linger of each role. EINTR asks to try again.
        // SAFETY: every socket holds an `Arc` of its context, so none is open here.
        while unsafe { zmq_sys::zmq_ctx_term(self.0) } != 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_made_late_shared_and_renewed_after_a_fork_rg27() {
        let transport = Transport::new(TransportOptions::default());
        assert!(transport.0.context.lock().unwrap().is_none());
        let parent = transport.context(1).unwrap();
        assert!(Arc::ptr_eq(&parent, &transport.context(1).unwrap()));
        let child = transport.context(2).unwrap();
        assert!(!Arc::ptr_eq(&parent, &child));
        // The parent's one was not terminated by the child's take-over: somebody still counts on it.
        assert!(Arc::strong_count(&parent) >= 2);
    }

    #[test]
    fn more_sockets_than_libzmqs_default_fit() {
        let transport = Transport::new(TransportOptions::default());
        let open: Vec<_> = (0..1_100).map_while(|_| transport.socket(Role::Req).ok()).collect();
        // Each takes at least a file descriptor; a machine with a low limit cannot show more.
        assert!(open.len() == 1_100 || open.len() > 1_023 / 2, "{}", open.len());
    }
}
