//! The libzmq context of a transport: made with its first socket, and bound to its process.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::process::{PerProcess, process_id};
use crate::transport::error::TransportError;
use crate::transport::socket::{Role, Socket};
use crate::transport::{build_variant, descriptors};

/// Descriptors that a context takes at its start, with a few to spare: for itself, and for each
/// libzmq I/O thread. A libzmq without eventfd takes two where others take one.
const CONTEXT_DESCRIPTORS: usize = 10;
const THREAD_DESCRIPTORS: usize = 3;

/// The most sockets of one context, where libzmq allows so many. Its default is 1,023.
const MAX_SOCKETS: c_int = 65_000;

/// The longest poll before a sleep, as in a configuration file.
const LONGEST_POLL: Duration = Duration::from_millis(10);

/// The options of a [`Transport`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportOptions {
    /// libzmq I/O threads (option `rpc_zmq_contexts`). More than 1 help only above 1 GB/s.
    pub io_threads: u16,
    /// The largest body (option `rpc_zmq_max_message_bytes`).
    pub max_message_bytes: usize,
    /// The most bytes that libzmq moves in one system call (option `rpc_zmq_io_batch_bytes`). No
    /// effect on a libzmq without its draft interface.
    pub io_batch_bytes: u32,
    /// The most messages that libzmq holds for one peer in each direction, at least 10000 (option
    /// `rpc_zmq_high_water_mark`).
    pub high_water_mark: u32,
    /// How long a thread polls before it sleeps (option `rpc_zmq_busy_poll_us`).
    pub busy_poll: Duration,
    /// How long an I/O thread polls as long as recent polls found messages (option
    /// `rpc_zmq_adaptive_poll_us`).
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

impl TransportOptions {
    /// The same options within the bounds that a configuration file has. Without a thread, libzmq
    /// would carry nothing, and a poll without end would stop a loop.
    fn bounded(self) -> Self {
        Self {
            io_threads: self.io_threads.clamp(1, 64),
            busy_poll: self.busy_poll.min(LONGEST_POLL),
            adaptive_poll: self.adaptive_poll.min(LONGEST_POLL),
            ..self
        }
    }
}

/// Makes sockets that share one context.
///
/// The first socket makes the context, which belongs to its process: services fork after they have
/// loaded their configuration, and a context does not survive a fork. A child gets its own context
/// and leaves that of its parent untouched.
#[derive(Debug, Clone)]
pub struct Transport(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: TransportOptions,
    context: PerProcess<Mutex<Option<Arc<Context>>>>,
}

impl Transport {
    /// A transport that will use `options`. Opens nothing yet.
    #[must_use]
    pub fn new(options: TransportOptions) -> Self {
        // Installs the fork hook now. libc runs hooks in the order of their installation, so it runs
        // before any hook that needs the child's id.
        let _ = process_id();
        Self(Arc::new(Shared { options: options.bounded(), context: PerProcess::new(Mutex::default()) }))
    }

    /// The options of this transport.
    #[must_use]
    pub fn options(&self) -> &TransportOptions {
        &self.0.options
    }

    /// A new socket for `role`.
    ///
    /// # Errors
    /// [`TransportError::Open`] when file descriptors or memory are exhausted.
    pub fn socket(&self, role: Role) -> Result<Socket, TransportError> {
        Socket::open(self.context()?, role, &self.0.options)
    }

    fn context(&self) -> Result<Arc<Context>, TransportError> {
        let current = self.0.context.get_or_renew(Mutex::default);
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = &*current {
            return Ok(Arc::clone(context));
        }
        let context = Arc::new(Context::open(self.0.options.io_threads)?);
        *current = Some(Arc::clone(&context));
        Ok(context)
    }
}

/// A context. It ends with its last socket and its transport.
#[derive(Debug)]
pub(super) struct Context(*mut c_void);

// SAFETY: libzmq contexts are thread safe.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Opens and starts a context. Without descriptors, libzmq would abort the process when the
    /// context starts, which is with its first socket.
    fn open(io_threads: u16) -> Result<Self, TransportError> {
        descriptors::warn_if_few();
        let needed = CONTEXT_DESCRIPTORS + THREAD_DESCRIPTORS * usize::from(io_threads);
        descriptors::check_free(needed).map_err(|source| TransportError::Open { source })?;
        // SAFETY: no preconditions.
        let raw = unsafe { zmq_sys::zmq_ctx_new() };
        if raw.is_null() {
            return Err(TransportError::Open { source: io::Error::last_os_error() });
        }
        let context = Self(raw);
        // SAFETY: the context is live; both options take an int and must be set before the first
        // socket.
        let set = unsafe {
            let limit = zmq_sys::zmq_ctx_get(raw, zmq_sys::ZMQ_SOCKET_LIMIT as c_int);
            zmq_sys::zmq_ctx_set(raw, zmq_sys::ZMQ_MAX_SOCKETS as c_int, limit.min(MAX_SOCKETS))
                | zmq_sys::zmq_ctx_set(raw, zmq_sys::ZMQ_IO_THREADS as c_int, c_int::from(io_threads))
        };
        if set != 0 {
            return Err(TransportError::Open { source: io::Error::last_os_error() });
        }
        let first = context.socket(zmq_sys::ZMQ_PAIR)?;
        build_variant::log_once(first);
        // SAFETY: a fresh socket that nobody else has.
        unsafe { zmq_sys::zmq_close(first) };
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
        // Blocks until lingering messages are sent, up to the linger time of each role. EINTR asks
        // to try again. SAFETY: every socket holds an `Arc` of its context, so none is open here.
        while unsafe { zmq_sys::zmq_ctx_term(self.0) } != 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_made_late_and_shared_rg27() {
        let transport = Transport::new(TransportOptions::default());
        assert!(transport.0.context.get().unwrap().lock().unwrap().is_none());
        let one = transport.context().unwrap();
        assert!(Arc::ptr_eq(&one, &transport.clone().context().unwrap()));
    }

    #[test]
    fn more_sockets_than_libzmqs_default_fit() {
        let transport = Transport::new(TransportOptions::default());
        let open: Vec<_> = (0..1_100).map_while(|_| transport.socket(Role::Req).ok()).collect();
        // Each takes at least a file descriptor; a machine with a low limit cannot show more.
        assert!(open.len() == 1_100 || open.len() > 1_023 / 2, "{}", open.len());
    }
}
