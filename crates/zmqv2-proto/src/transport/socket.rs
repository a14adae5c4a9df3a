//! Sockets by role, and all of their options.

use std::ffi::{CString, c_int};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::naming::{Address, TcpAddress};
use crate::process::{Inherited, process_id};
use crate::transport::accept_gate::Guarded;
use crate::transport::connection::{Connection, Monitor};
use crate::transport::context::{Context, TransportOptions};
use crate::transport::descriptors;
use crate::transport::ended::EndedConnections;
use crate::transport::error::{SocketSendError, TransportError};
use crate::transport::lent::Lent;
use crate::transport::zone;
use crate::wire::deadline;

/// One frame of a message. libzmq owns it, so that forwarding copies nothing.
pub type Frame = zmq::Message;

/// The most frames of one message: the return path through a few hops, delimiter, header, body. The
/// rest of a longer message is read and dropped.
pub const MAX_FRAMES: usize = 12;

/// Bytes above the largest body, for a header, and so that a peer with a slightly larger limit gets
/// `TooLarge` and is not disconnected.
const MESSAGE_SLACK_BYTES: usize = 64 * 1024;
/// The least high-water mark, in messages per peer: above the credit of any worker.
///
/// It counts for REP too, which has one message at a time. A REP drops an answer silently when its
/// pipe *looks* full. It learns that answers were read only when it handles commands. It handles
/// none while every receive finds the next request, and in sends only about once a millisecond.
/// With a mark of 16, answers were lost on busy machines.
const LEAST_HWM: u32 = 10_000;
/// The high-water mark of REQ, in messages. Reaching it is an error.
const REQ_HWM: i32 = 16;
/// A dead TCP connection is found after at most interval + timeout. The default of libzmq is never.
const HEARTBEAT_INTERVAL_MS: i32 = 15_000;
const HEARTBEAT_TIMEOUT_MS: i32 = 30_000;
/// A socket that connects asks more often. If its peer has ended the connection during a cut of the
/// network, the peer's kernel says so to the next thing that comes.
const CONNECTING_HEARTBEAT_MS: i32 = 5_000;
/// If something between the ends takes what is sent and passes on nothing, only the silence tells.
const CONNECTING_HEARTBEAT_TIMEOUT_MS: i32 = 10_000;
/// The first wait before another attempt to connect. It doubles up to the maximum; libzmq adds
/// jitter.
const RECONNECT_MS: i32 = 50;
const RECONNECT_MAX_MS: i32 = 100;
/// An attempt to connect that gets no answer is given up after this, and tried again. After a cut
/// of the network, the next attempt is less than a second away. The kernel itself would repeat an
/// attempt after 1, 3, 7, 15 s.
const CONNECT_TIMEOUT_MS: i32 = 800;
/// The kernel ends a TCP connection when the peer's kernel has confirmed nothing for this long,
/// although there is something to confirm or to send. Otherwise, after a cut of 30 s, it would use
/// the connection again up to 30 s later: it doubles the time between its repetitions.
///
/// A socket that listens waits longer. If answers are on their way when the network is cut, the
/// client's side is usually the one that finds out, and a client that is stopped for some seconds
/// with a full buffer keeps its connection.
const TCP_SILENCE_CONNECTING_MS: i32 = 2_500;
const TCP_SILENCE_LISTENING_MS: i32 = 4_000;
/// A peer that connects and stays silent is disconnected after this.
const HANDSHAKE_MS: i32 = 5_000;
/// 1,000 clients that connect at once overflow libzmq's default of 100.
const LISTEN_BACKLOG: i32 = 4_096;
/// How long a closed socket may still send what it holds.
const LINGER_MS: i32 = 1_000;

/// `ZMQ_IN_BATCH_SIZE` and `ZMQ_OUT_BATCH_SIZE` of libzmq's draft interface, which a build may
/// lack.
const BATCH_OPTIONS: [c_int; 2] = [101, 102];

/// Descriptors that a socket with its monitor and one connection takes (seven), with a few to spare.
const SOCKET_DESCRIPTORS: usize = 10;

/// The type of a socket, which decides every option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Role {
    /// REQ: one request at a time of one blocking caller. RELAXED and CORRELATE, so that a lost
    /// reply does not block it. No linger, because a request without a waiting caller is useless.
    /// Serves one connection, as a DEALER does.
    Req = zmq_sys::ZMQ_REQ,
    /// REP: one request at a time of one worker.
    Rep = zmq_sys::ZMQ_REP,
    /// DEALER: many messages in flight to one peer. Serves *one connection*: it sends only while
    /// that connection lasts, hands out all received messages before it reports the connection
    /// lost, and is useless afterwards.
    Dealer = zmq_sys::ZMQ_DEALER,
    /// ROUTER: many peers. Mandatory, so that an answer without a peer is an error and not dropped.
    Router = zmq_sys::ZMQ_ROUTER,
}

/// The operations that a socket can do now without blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// A message can be received.
    pub readable: bool,
    /// A message can be sent: [`Role::Req`] and [`Role::Dealer`] only while connected.
    pub writable: bool,
    /// The connection of a [`Role::Req`] or [`Role::Dealer`]. It is lost only when nothing is left
    /// to read. The other roles have many peers and are always [`Connection::Up`].
    pub connection: Connection,
}

/// The result of a receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// There is no message.
    Nothing,
    /// A whole message is in the buffer.
    Message,
    /// The first frames of a message with more than [`MAX_FRAMES`] are in the buffer, the rest is
    /// dropped.
    Overlong,
}

/// A socket. `Send`, not `Sync`: one thread at a time uses it.
///
/// It belongs to the process that opened it. In a child that was forked later, every operation is an
/// error, and dropping it does nothing: libzmq would abort the child or the parent.
pub struct Socket {
    /// The process that opened it.
    pid: u32,
    // `drop` closes these in this order, or not at all.
    raw: ManuallyDrop<zmq::Socket>,
    monitor: ManuallyDrop<Option<Monitor>>,
    ended: ManuallyDrop<Option<EndedConnections>>,
    context: ManuallyDrop<Arc<Context>>,
    fd: c_int,
    busy_poll: Duration,
    /// The bound addresses.
    guarded: ManuallyDrop<Vec<Guarded>>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl Socket {
    pub(super) fn open(context: Arc<Context>, role: Role, options: &TransportOptions) -> Result<Self, TransportError> {
        descriptors::check_free(SOCKET_DESCRIPTORS).map_err(|source| TransportError::Open { source })?;
        let raw = context.socket(role as u32)?;
        // SAFETY: a fresh socket, owned by nobody else; `context` outlives it.
        let mut raw = unsafe { zmq::Socket::from_raw(raw) };
        set_batch_sizes(&mut raw, options.io_batch_bytes);
        set_tcp_silence(&mut raw, role);
        let fd = configure(&raw, role, options).map_err(|e| TransportError::socket("set socket options", e))?;
        let monitor = match role {
            Role::Req | Role::Dealer => Some(Monitor::of(&raw, &context)?),
            Role::Rep | Role::Router => None,
        };
        let (raw, monitor, context) = (ManuallyDrop::new(raw), ManuallyDrop::new(monitor), ManuallyDrop::new(context));
        let (ended, guarded) = (ManuallyDrop::new(None), ManuallyDrop::default());
        Ok(Self { pid: process_id(), raw, monitor, ended, context, fd, busy_poll: options.busy_poll, guarded })
    }

    fn is_inherited(&self) -> bool {
        self.pid != process_id()
    }

    /// An error in a child that was forked after the socket was opened.
    fn own(&self) -> io::Result<()> {
        if self.is_inherited() { Err(io::Error::other(Inherited { parent: self.pid })) } else { Ok(()) }
    }

    fn check_own(&self, action: &'static str) -> Result<(), TransportError> {
        self.own().map_err(|source| TransportError::Socket { action, source })
    }

    /// Binds and returns the bound address, with the picked port in place of port 0.
    ///
    /// # Errors
    /// [`TransportError::Bind`] with the operating system's reason.
    pub fn bind(&mut self, address: &Address) -> Result<Address, TransportError> {
        let failed = |source| TransportError::Bind { address: address.clone(), source };
        // Before the first connection can come.
        let guarded = Guarded::new(address);
        self.open_address(address, zmq_sys::zmq_bind).map_err(failed)?;
        let bound = self.bound_address(address).map_err(failed)?;
        self.guarded.push(if bound == *address { guarded } else { Guarded::new(&bound) });
        Ok(bound)
    }

    fn bound_address(&self, address: &Address) -> io::Result<Address> {
        match address {
            Address::Ipc(_) => Ok(address.clone()),
            Address::Tcp(tcp) => {
                let last = self.raw.get_last_endpoint().ok().and_then(Result::ok).unwrap_or_default();
                let port = last.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(tcp.port());
                let bound = TcpAddress::new(tcp.host(), port).map_err(io::Error::other)?;
                Ok(Address::Tcp(bound))
            }
        }
    }

    /// From now on, [`ended_connection`](Self::ended_connection) reports. For a [`Role::Router`]
    /// before it is bound.
    ///
    /// # Errors
    /// [`TransportError::Socket`] when libzmq does not report.
    pub fn report_ended_connections(&mut self) -> Result<(), TransportError> {
        self.ended = ManuallyDrop::new(Some(EndedConnections::of(&self.raw, &self.context)?));
        Ok(())
    }

    /// The descriptor of a connection that has ended. Messages of it may still come. If there is
    /// none, [`fds`](Self::fds) report the next one.
    #[must_use]
    pub fn ended_connection(&self) -> Option<RawFd> {
        self.ended.as_ref().filter(|_| !self.is_inherited())?.next()
    }

    /// Connects in the background and tries again until it is connected. A lost connection stays
    /// lost: open another socket.
    ///
    /// # Errors
    /// [`TransportError::Connect`] when the address cannot be used. An absent peer is not an error.
    pub fn connect(&mut self, address: &Address) -> Result<(), TransportError> {
        self.open_address(address, zmq_sys::zmq_connect)
            .map_err(|source| TransportError::Connect { address: address.clone(), source })
    }

    fn open_address(
        &mut self,
        address: &Address,
        open: unsafe extern "C" fn(*mut std::ffi::c_void, *const std::ffi::c_char) -> c_int,
    ) -> io::Result<()> {
        self.own()?;
        if let Address::Tcp(tcp) = address {
            self.raw.set_ipv6(tcp.may_be_ipv6()).map_err(io::Error::other)?;
        }
        let text = CString::new(zone::for_libzmq(address)?)?;
        // SAFETY: a live socket and a text that ends in NUL.
        if unsafe { open(self.raw.as_mut_ptr(), text.as_ptr()) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // The operating system has no text for libzmq's own numbers.
        Err(match error.raw_os_error() {
            Some(code) if code >= zmq_sys::errno::EFSM => io::Error::other(format!("libzmq error {code}")),
            _ => error,
        })
    }

    /// Sends one message without blocking.
    ///
    /// # Errors
    /// [`SocketSendError`]: the message was not accepted and is gone.
    pub fn send(&self, frames: impl IntoIterator<Item = Frame>) -> Result<(), SocketSendError> {
        if self.is_inherited() {
            return Err(SocketSendError::State);
        }
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

    /// Sends one message without blocking, and lends its last frame to libzmq without a copy. For
    /// large messages that may be sent again.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_lent<const N: usize>(
        &mut self,
        frames: [Frame; N],
        last: &Arc<Vec<u8>>,
    ) -> Result<(), SocketSendError> {
        if self.is_inherited() {
            return Err(SocketSendError::State);
        }
        if self.connection() != Connection::Up {
            return Err(SocketSendError::Full);
        }
        let last = Lent::new(last).map_err(not_sent)?;
        for frame in frames {
            self.raw.send(frame, zmq::SNDMORE | zmq::DONTWAIT).map_err(not_sent)?;
        }
        last.send(&mut self.raw, zmq::DONTWAIT).map_err(not_sent)
    }

    /// Sends one message without blocking. `guard` is dropped when libzmq holds the message no
    /// longer: it was written to the connection, or dropped. This happens on any thread.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_guarded<G: Send + 'static>(
        &mut self,
        frames: impl IntoIterator<Item = Frame>,
        guard: G,
    ) -> Result<(), SocketSendError> {
        if self.connection() != Connection::Up {
            return Err(SocketSendError::Full);
        }
        let mut frames = frames.into_iter();
        let Some(mut last) = frames.next() else { return Ok(()) };
        for frame in frames {
            self.raw.send(std::mem::replace(&mut last, frame), zmq::SNDMORE | zmq::DONTWAIT).map_err(not_sent)?;
        }
        Lent::keeping(last, guard).and_then(|last| last.send(&mut self.raw, zmq::DONTWAIT)).map_err(not_sent)
    }

    /// Receives one message without blocking. Clears `frames` first.
    ///
    /// # Errors
    /// [`TransportError::Socket`] when the socket cannot be read.
    pub fn receive(&self, frames: &mut Vec<Frame>) -> Result<Received, TransportError> {
        frames.clear();
        self.check_own("receive")?;
        let mut overlong = false;
        loop {
            let mut frame = Frame::new();
            match self.raw.recv(&mut frame, zmq::DONTWAIT) {
                Ok(()) => {}
                // EFSM: a REQ that waits for no answer has nothing to read.
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

    /// The operations that do not block now. The call also lets libzmq handle its internal
    /// commands, so call it after each wake-up before waiting again.
    ///
    /// # Errors
    /// [`TransportError::Socket`] when the context is gone.
    pub fn readiness(&self) -> Result<Readiness, TransportError> {
        self.check_own("ask for events")?;
        let mut events = self.events()?;
        // Messages of a connection are read before its end is reported, so ask again after a
        // change.
        if !events.contains(zmq::POLLIN) && self.monitor.as_ref().is_some_and(Monitor::update) {
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

    /// Whether a [`Role::Req`] or [`Role::Dealer`] was connected at the last call of
    /// [`readiness`](Self::readiness). Always true for the other roles.
    #[must_use]
    pub fn was_connected(&self) -> bool {
        self.connection() == Connection::Up
    }

    fn connection(&self) -> Connection {
        self.monitor.as_ref().map_or(Connection::Up, Monitor::connection)
    }

    /// The file descriptors that become readable when [`readiness`](Self::readiness) may have
    /// changed: that of the socket (`ZMQ_FD`), and that of its monitor if it has one. Each reports
    /// a change only once, so ask for the readiness after every send and receive, and before
    /// waiting.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> + use<> {
        let ended = self.ended.as_ref().map(EndedConnections::fd);
        [Some(self.fd), self.monitor.as_ref().map(Monitor::fd), ended].into_iter().flatten()
    }

    /// A waiter for changes of [`readiness`](Self::readiness), so that a thread can wait while
    /// another one uses the socket. It does not report the end of the connection of a [`Role::Req`]
    /// or [`Role::Dealer`].
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn waiter(&self) -> io::Result<Waiter> {
        self.own()?;
        // SAFETY: libzmq keeps the descriptor open as long as the socket, which `self` is.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) }.try_clone_to_owned()?;
        Ok(Waiter { fd, busy_poll: self.busy_poll })
    }

    /// Blocks until the readiness may have changed, `wake` is readable, or `timeout` has passed
    /// (`None`: no limit). Returns whether `wake` is readable. May return earlier.
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn wait(&self, timeout: Option<Duration>, wake: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        self.own()?;
        // SAFETY: libzmq keeps the descriptors open as long as the sockets, which `self` borrows.
        let borrow = |fd| unsafe { BorrowedFd::borrow_raw(fd) };
        // The socket's own descriptor stands for an absent one, which is harmless.
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

/// Waits for changes of a [`Socket`] over its own descriptor. `Send` and `Sync`.
#[derive(Debug)]
pub struct Waiter {
    fd: OwnedFd,
    busy_poll: Duration,
}

impl Waiter {
    /// Blocks until the socket may have changed, or one of the `others` is readable. Returns for
    /// each of the `others` whether it is readable. May return earlier.
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

/// Polls for `busy_poll`, then blocks until a descriptor is ready, a signal comes, or `timeout` has
/// passed.
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

/// Calls `look` for the shorter of `busy_poll` and `timeout`, until it returns true. Returns
/// whether it did.
#[expect(clippy::disallowed_methods, reason = "the span of polling matters only here")]
pub(super) fn poll_before_sleep(
    busy_poll: Duration,
    timeout: Option<Duration>,
    mut look: impl FnMut() -> io::Result<bool>,
) -> io::Result<bool> {
    let busy_poll = timeout.map_or(busy_poll, |timeout| timeout.min(busy_poll));
    if busy_poll.is_zero() {
        return Ok(false);
    }
    let end = deadline(Instant::now(), busy_poll);
    // At least one look, also if this thread was interrupted for longer than the whole poll.
    loop {
        if look()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_inherited() {
            return;
        }
        if self.monitor.is_some() || self.ended.is_some() {
            Monitor::end(&mut self.raw);
        }
        // libzmq reconnects by itself and would send messages for the lost peer to the next one.
        if self.connection() == Connection::Lost {
            let _ = self.raw.set_linger(0);
        }
        // SAFETY: nothing uses them afterwards. The context ends after all that is in it.
        unsafe {
            ManuallyDrop::drop(&mut self.raw);
            ManuallyDrop::drop(&mut self.monitor);
            ManuallyDrop::drop(&mut self.ended);
            ManuallyDrop::drop(&mut self.context);
            ManuallyDrop::drop(&mut self.guarded);
        }
    }
}

/// Sets the batch sizes, if this libzmq has its draft interface.
fn set_batch_sizes(raw: &mut zmq::Socket, bytes: u32) {
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    // SAFETY: a text that ends in NUL and is only read.
    if unsafe { zmq_sys::zmq_has(c"draft".as_ptr()) } != 1 {
        return;
    }
    for option in BATCH_OPTIONS {
        // SAFETY: a live socket, and an int of this size. An unknown option is an error without
        // effect.
        unsafe {
            let value = std::ptr::from_ref(&bytes).cast();
            zmq_sys::zmq_setsockopt(raw.as_mut_ptr(), option, value, size_of::<c_int>());
        }
    }
}

/// Sets `TCP_USER_TIMEOUT` for the connections of a socket.
fn set_tcp_silence(raw: &mut zmq::Socket, role: Role) {
    let millis: c_int = match role {
        Role::Req | Role::Dealer => TCP_SILENCE_CONNECTING_MS,
        Role::Rep | Role::Router => TCP_SILENCE_LISTENING_MS,
    };
    // SAFETY: a live socket, and an int of this size.
    unsafe {
        let value = std::ptr::from_ref(&millis).cast();
        zmq_sys::zmq_setsockopt(raw.as_mut_ptr(), zmq_sys::ZMQ_TCP_MAXRT as c_int, value, size_of::<c_int>());
    }
}

/// Sets every option of a fresh socket. Returns its descriptor.
fn configure(raw: &zmq::Socket, role: Role, options: &TransportOptions) -> Result<c_int, zmq::Error> {
    let hwm = i32::try_from(options.high_water_mark.max(LEAST_HWM)).unwrap_or(i32::MAX);
    let (hwm, linger) = if role == Role::Req { (REQ_HWM, 0) } else { (hwm, LINGER_MS) };
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
            raw.set_heartbeat_ivl(CONNECTING_HEARTBEAT_MS)?;
            raw.set_heartbeat_timeout(CONNECTING_HEARTBEAT_TIMEOUT_MS)?;
        }
        Role::Rep | Role::Router => raw.set_backlog(LISTEN_BACKLOG)?,
    }
    if role == Role::Req {
        raw.set_req_relaxed(true)?;
        raw.set_req_correlate(true)?;
    }
    if role == Role::Router {
        raw.set_router_mandatory(true)?;
    }
    raw.get_fd()
}
