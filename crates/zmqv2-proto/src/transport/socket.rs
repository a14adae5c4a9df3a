//! Sockets by role, and all of their options.

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::naming::{Address, TcpAddress};
use crate::transport::connection::{Connection, Monitor};
use crate::transport::context::{Context, TransportOptions};
use crate::transport::error::{SocketSendError, TransportError};
use crate::transport::lent::Lent;

/// One frame of a message; owned by libzmq, so that forwarding copies nothing.
pub type Frame = zmq::Message;

/// The most frames of one message that are kept: the path back through a few hops, delimiter, header, body.
/// A longer message is read to its end, dropped and reported.
pub const MAX_FRAMES: usize = 12;

/// Room above the largest body: a header, and enough for a peer with a slightly larger limit to be told `TooLarge`
/// rather than be cut off.
const MESSAGE_SLACK_BYTES: usize = 64 * 1024;
/// The least high-water mark, in messages per peer: above all the credit that a worker can have.
///
/// Also for workers, which have one message at a time. A REP drops an answer without a word when its pipe *looks* full,
/// and it learns that its answers were read only when it works off commands: not while it finds the next request in
/// the socket at each look, and in sends about once a millisecond. With a mark of 16, answers were lost on busy machines.
const LEAST_HWM: u32 = 10_000;
/// High-water mark of callers, in messages. Theirs is an error when it is reached.
const REQ_HWM: i32 = 16;
/// Half-dead TCP connections are found after at most interval + timeout; libzmq's default is never.
const HEARTBEAT_INTERVAL_MS: i32 = 15_000;
const HEARTBEAT_TIMEOUT_MS: i32 = 30_000;
/// First wait before another attempt to connect; doubled up to the maximum, plus jitter by libzmq.
const RECONNECT_MS: i32 = 50;
const RECONNECT_MAX_MS: i32 = 400;
/// A connect that gets no answer (host down) is given up and tried again after this.
const CONNECT_TIMEOUT_MS: i32 = 3_000;
/// A peer that connects and then stays silent is cut off after this.
const HANDSHAKE_MS: i32 = 5_000;
/// 1,000 clients that connect at once overflow libzmq's default of 100.
const LISTEN_BACKLOG: i32 = 4_096;
/// How long a closed socket may still send what it holds.
const LINGER_MS: i32 = 1_000;

/// `ZMQ_IN_BATCH_SIZE` and `ZMQ_OUT_BATCH_SIZE`: of libzmq's draft interface, which a build need not have.
const BATCH_OPTIONS: [c_int; 2] = [101, 102];

/// What a socket is for; decides its type and every option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// REQ: one blocking caller's lock-step. RELAXED and CORRELATE, so that a lost reply never wedges it; no linger,
    /// because a request whose caller has given up is of no use to anybody. Serves one connection, as a link does.
    Req,
    /// REP: one worker's lock-step.
    Rep,
    /// DEALER: many messages in flight to exactly one peer. Serves *one connection*: sends only while that lasts, gives out
    /// all that came over it before it says that it is lost, and is of no use after that.
    Dealer,
    /// ROUTER: many peers. Mandatory, so that an unroutable answer is an error and not a silent drop.
    Router,
}

impl Role {
    fn kind(self) -> u32 {
        match self {
            Self::Req => zmq_sys::ZMQ_REQ,
            Self::Rep => zmq_sys::ZMQ_REP,
            Self::Dealer => zmq_sys::ZMQ_DEALER,
            Self::Router => zmq_sys::ZMQ_ROUTER,
        }
    }
}

/// What a socket can do right now without blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// A message can be received.
    pub readable: bool,
    /// A message can be sent: for [`Role::Req`] and [`Role::Dealer`] only while they are connected.
    pub writable: bool,
    /// Where the connection of a [`Role::Req`] or [`Role::Dealer`] stands. It is lost only when nothing is left to
    /// read. The other roles have many peers, and are always [`Connection::Up`].
    pub connection: Connection,
}

/// What came of a receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Nothing is there.
    Nothing,
    /// A whole message is in the buffer.
    Message,
    /// A message of more than [`MAX_FRAMES`] frames was there; its first frames are in the buffer, the rest is dropped.
    Overlong,
}

/// A socket. `Send`, not `Sync`: it belongs to one thread at a time.
pub struct Socket {
    // Before the context, so that both are closed first.
    raw: zmq::Socket,
    monitor: Option<Monitor>,
    _context: Arc<Context>,
    fd: c_int,
    busy_poll: Duration,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl Socket {
    pub(super) fn open(context: Arc<Context>, role: Role, options: &TransportOptions) -> Result<Self, TransportError> {
        let raw = context.socket(role.kind())?;
        // SAFETY: a fresh socket, owned by nobody else; `_context` outlives it.
        let mut raw = unsafe { zmq::Socket::from_raw(raw) };
        set_batch_sizes(&mut raw, options.io_batch_bytes);
        let fd = configure(&raw, role, options).map_err(|e| TransportError::socket("set socket options", e))?;
        let monitor = match role {
            Role::Req | Role::Dealer => Some(Monitor::of(&raw, &context)?),
            Role::Rep | Role::Router => None,
        };
        Ok(Self { raw, monitor, _context: context, fd, busy_poll: options.busy_poll })
    }

    /// Binds, and says where: port 0 has become the one that was picked.
    ///
    /// # Errors
    /// [`TransportError::Bind`] with the operating system's reason.
    pub fn bind(&mut self, address: &Address) -> Result<Address, TransportError> {
        let failed = |source| TransportError::Bind { address: address.clone(), source };
        self.open_address(address, zmq_sys::zmq_bind).map_err(failed)?;
        match address {
            Address::Ipc(_) => Ok(address.clone()),
            Address::Tcp(tcp) => {
                let last = self.raw.get_last_endpoint().ok().and_then(Result::ok).unwrap_or_default();
                let port = last.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(tcp.port());
                let bound = TcpAddress::new(tcp.host(), port).map_err(|e| failed(io::Error::other(e)))?;
                Ok(Address::Tcp(bound))
            }
        }
    }

    /// Connects in the background, and tries again until it is connected. A connection that was lost is not made again:
    /// open another socket for the next one.
    ///
    /// # Errors
    /// [`TransportError::Connect`] when the address cannot be used at all; a peer that is not there yet is no error.
    pub fn connect(&mut self, address: &Address) -> Result<(), TransportError> {
        self.open_address(address, zmq_sys::zmq_connect)
            .map_err(|source| TransportError::Connect { address: address.clone(), source })
    }

    fn open_address(
        &mut self,
        address: &Address,
        open: unsafe extern "C" fn(*mut std::ffi::c_void, *const std::ffi::c_char) -> c_int,
    ) -> io::Result<()> {
        if let Address::Tcp(tcp) = address {
            self.raw.set_ipv6(tcp.may_be_ipv6()).map_err(io::Error::other)?;
        }
        let text = CString::new(address.to_string())?;
        // SAFETY: a live socket and a text that ends in NUL.
        if unsafe { open(self.raw.as_mut_ptr(), text.as_ptr()) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // What libzmq numbers by itself has no text in the operating system.
        Err(match error.raw_os_error() {
            Some(code) if code >= zmq_sys::errno::EFSM => io::Error::other(format!("libzmq error {code}")),
            _ => error,
        })
    }

    /// Sends one message without blocking.
    ///
    /// # Errors
    /// [`SocketSendError`]: the message was not taken, in whole, and is gone.
    pub fn send(&self, frames: impl IntoIterator<Item = Frame>) -> Result<(), SocketSendError> {
        if self.connection() != Connection::Up {
            return Err(SocketSendError::Full);
        }
        let mut frames = frames.into_iter().peekable();
        while let Some(frame) = frames.next() {
            let more = if frames.peek().is_some() { zmq::SNDMORE } else { 0 };
            self.raw.send(frame, more | zmq::DONTWAIT).map_err(not_sent)?;
        }
        Ok(())
    }

    /// Sends one message without blocking, the last frame of which is lent to libzmq rather than copied: for large ones that may
    /// have to be sent again.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_lent<const N: usize>(
        &mut self,
        frames: [Frame; N],
        last: &Arc<Vec<u8>>,
    ) -> Result<(), SocketSendError> {
        if self.connection() != Connection::Up {
            return Err(SocketSendError::Full);
        }
        let last = Lent::new(last).map_err(not_sent)?;
        for frame in frames {
            self.raw.send(frame, zmq::SNDMORE | zmq::DONTWAIT).map_err(not_sent)?;
        }
        last.send(&mut self.raw, zmq::DONTWAIT).map_err(not_sent)
    }

    /// Receives one message without blocking; `frames` is cleared first.
    ///
    /// # Errors
    /// [`TransportError::Socket`] when the socket cannot be read at all.
    pub fn receive(&self, frames: &mut Vec<Frame>) -> Result<Received, TransportError> {
        frames.clear();
        let mut overlong = false;
        loop {
            let mut frame = Frame::new();
            match self.raw.recv(&mut frame, zmq::DONTWAIT) {
                Ok(()) => {}
                // A REQ that awaits no answer has nothing to read.
                Err(zmq::Error::EAGAIN | zmq::Error::EFSM) => return Ok(Received::Nothing),
                Err(zmq::Error::EINTR) => continue,
                Err(error) => return Err(TransportError::socket("receive", error)),
            }
            let more = frame.get_more();
            if frames.len() < MAX_FRAMES {
                frames.push(frame);
            } else {
                overlong = true;
            }
            if !more {
                return Ok(if overlong { Received::Overlong } else { Received::Message });
            }
        }
    }

    /// What can be done without blocking. Asking also lets libzmq work off its internal commands: after a wake-up,
    /// ask before waiting again.
    ///
    /// # Errors
    /// [`TransportError::Socket`] when the context is gone.
    pub fn readiness(&self) -> Result<Readiness, TransportError> {
        let mut events = self.events()?;
        // Everything that came over a connection can be read before its end is told: look again after that.
        if !events.contains(zmq::POLLIN) && self.monitor.as_ref().is_some_and(Monitor::look) {
            events = self.events()?;
        }
        let readable = events.contains(zmq::POLLIN);
        let connection = self.connection();
        Ok(Readiness {
            readable,
            writable: events.contains(zmq::POLLOUT) && connection == Connection::Up,
            connection: if readable { connection.unless_lost() } else { connection },
        })
    }

    fn events(&self) -> Result<zmq::PollEvents, TransportError> {
        loop {
            match self.raw.get_events() {
                Ok(events) => return Ok(events),
                Err(zmq::Error::EINTR) => {}
                Err(error) => return Err(TransportError::socket("ask for events", error)),
            }
        }
    }

    /// Whether it was connected when its [`readiness`](Self::readiness) was last asked for. Of [`Role::Req`] and
    /// [`Role::Dealer`]; the other roles always are.
    #[must_use]
    pub fn was_connected(&self) -> bool {
        self.connection() == Connection::Up
    }

    fn connection(&self) -> Connection {
        self.monitor.as_ref().map_or(Connection::Up, Monitor::connection)
    }

    /// The file descriptors of which one becomes readable when [`readiness`](Self::readiness) may have changed: that of the
    /// socket (`ZMQ_FD`), and that of its connection if it has one peer. Each says so once: ask for the readiness after
    /// every send and receive, and before waiting.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> + use<> {
        [Some(self.fd), self.monitor.as_ref().map(Monitor::fd)].into_iter().flatten()
    }

    /// Tells when [`readiness`](Self::readiness) may have changed: threads that take turns with a socket can wait while another
    /// one has it. Of no use for [`Role::Req`] and [`Role::Dealer`], whose connections may end unnoticed.
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn waiter(&self) -> io::Result<Waiter> {
        // SAFETY: libzmq keeps the descriptor open as long as the socket, which `self` is.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) }.try_clone_to_owned()?;
        Ok(Waiter { fd, busy_poll: self.busy_poll })
    }

    /// Blocks until the readiness may have changed, `wake` is readable, or `timeout` has passed (`None`: no limit).
    /// Returns whether `wake` is readable. May return early: look again.
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn wait(&self, timeout: Option<Duration>, wake: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        // SAFETY: libzmq keeps the descriptors open as long as the sockets, which `self` borrows.
        let borrow = |fd| unsafe { BorrowedFd::borrow_raw(fd) };
        // What is not there is the socket once more: to ask twice does no harm.
        let own = borrow(self.fd);
        let connection = self.monitor.as_ref().map_or(own, |monitor| borrow(monitor.fd()));
        let mut polled = [own, connection, wake.unwrap_or(own)].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        wait_for(&mut polled, timeout, self.busy_poll)?;
        Ok(wake.is_some() && !polled[2].revents().is_empty())
    }
}

fn not_sent(error: zmq::Error) -> SocketSendError {
    match error {
        zmq::Error::EAGAIN => SocketSendError::Full,
        zmq::Error::EHOSTUNREACH => SocketSendError::PeerGone,
        _ => SocketSendError::State,
    }
}

/// A descriptor of its own for the notices of a [`Socket`]. `Send` and `Sync`.
#[derive(Debug)]
pub struct Waiter {
    fd: OwnedFd,
    busy_poll: Duration,
}

impl Waiter {
    /// Blocks until there is a notice, or one of the `others` is readable: which of those are. May return early.
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn wait(&self, others: [BorrowedFd<'_>; 2]) -> io::Result<[bool; 2]> {
        let [one, other] = others;
        let mut polled = [self.fd.as_fd(), one, other].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        wait_for(&mut polled, None, self.busy_poll)?;
        Ok([1, 2].map(|n| !polled[n].revents().is_empty()))
    }
}

/// Blocks until one of them is ready, a signal comes, or `timeout` has passed; looks without sleeping at first.
fn wait_for(polled: &mut [PollFd<'_>], timeout: Option<Duration>, busy_poll: Duration) -> io::Result<()> {
    let mut look = |timeout: Option<&Timespec>| match poll(polled, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    };
    if poll_before_sleep(busy_poll, timeout, || look(Some(&Timespec::default())))? {
        return Ok(());
    }
    let timeout = timeout.map(|timeout| timeout.saturating_sub(busy_poll)).and_then(|t| Timespec::try_from(t).ok());
    look(timeout.as_ref()).map(drop)
}

/// Looks for something to do for as long as `busy_poll`, and `timeout` if that is shorter; whether there is. If not, that much
/// of the timeout has passed. For loops that wait for more than one socket; a [`Socket`] does so by itself.
///
/// # Errors
/// That of `look`.
#[expect(clippy::disallowed_methods, reason = "how long it has looked is nobody else's business")]
pub(super) fn poll_before_sleep(
    busy_poll: Duration,
    timeout: Option<Duration>,
    mut look: impl FnMut() -> io::Result<bool>,
) -> io::Result<bool> {
    let busy_poll = timeout.map_or(busy_poll, |timeout| timeout.min(busy_poll));
    if busy_poll.is_zero() {
        return Ok(false);
    }
    let end = Instant::now() + busy_poll;
    while Instant::now() < end {
        if look()? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.monitor.is_some() {
            Monitor::end(&mut self.raw);
        }
        // libzmq connects again by itself, and would send the next peer what was meant for the one that is gone.
        if self.connection() == Connection::Lost {
            let _ = self.raw.set_linger(0);
        }
    }
}

/// Raises the batch sizes, if this libzmq has them: else it works as well, only slower.
fn set_batch_sizes(raw: &mut zmq::Socket, bytes: u32) {
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    if !has_drafts() {
        return;
    }
    for option in BATCH_OPTIONS {
        // SAFETY: a live socket, and an int of the size that is named. An option that is not known is an error without effect.
        unsafe {
            let value = std::ptr::from_ref(&bytes).cast();
            zmq_sys::zmq_setsockopt(raw.as_mut_ptr(), option, value, size_of::<c_int>());
        }
    }
}

/// Whether the libzmq that is linked in was built with its draft interface, and so knows how much to move per system call.
#[must_use]
pub(super) fn has_drafts() -> bool {
    // SAFETY: a text that ends in NUL; it is only read.
    unsafe { zmq_sys::zmq_has(c"draft".as_ptr()) == 1 }
}

/// Sets every option of a fresh socket and returns its notification descriptor.
fn configure(raw: &zmq::Socket, role: Role, options: &TransportOptions) -> Result<c_int, zmq::Error> {
    let hwm = i32::try_from(options.high_water_mark.max(LEAST_HWM)).unwrap_or(i32::MAX);
    let (hwm, linger) = match role {
        Role::Req => (REQ_HWM, 0),
        Role::Rep | Role::Dealer | Role::Router => (hwm, LINGER_MS),
    };
    raw.set_linger(linger)?;
    raw.set_sndhwm(hwm)?;
    raw.set_rcvhwm(hwm)?;
    let largest = options.max_message_bytes.saturating_add(MESSAGE_SLACK_BYTES);
    raw.set_maxmsgsize(i64::try_from(largest).unwrap_or(i64::MAX))?;
    raw.set_heartbeat_ivl(HEARTBEAT_INTERVAL_MS)?;
    raw.set_heartbeat_timeout(HEARTBEAT_TIMEOUT_MS)?;
    raw.set_tcp_keepalive(1)?;
    raw.set_handshake_ivl(HANDSHAKE_MS)?;
    match role {
        Role::Req | Role::Dealer => {
            raw.set_reconnect_ivl(RECONNECT_MS)?;
            raw.set_reconnect_ivl_max(RECONNECT_MAX_MS)?;
            raw.set_connect_timeout(CONNECT_TIMEOUT_MS)?;
        }
        Role::Rep | Role::Router => raw.set_backlog(LISTEN_BACKLOG)?,
    }
    match role {
        Role::Req => {
            raw.set_req_relaxed(true)?;
            raw.set_req_correlate(true)?;
        }
        Role::Router => raw.set_router_mandatory(true)?,
        Role::Rep | Role::Dealer => {}
    }
    raw.get_fd()
}
