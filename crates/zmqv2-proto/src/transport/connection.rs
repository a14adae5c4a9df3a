//! Whether a socket with one peer is connected, by libzmq's monitor.
//!
//! With `ZMQ_IMMEDIATE`, no monitor would be needed: a socket that cannot send is not connected.
//! But when the connection ends, such a socket drops received messages that were not read yet. If
//! that happens between two frames of a message, libzmq aborts the process (`Assertion failed:
//! !_more`, seen in 4.3.4). A socket without that option keeps these messages.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::transport::context::Context;
use crate::transport::error::TransportError;

const EVENTS: u32 = zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED | zmq_sys::ZMQ_EVENT_DISCONNECTED;

/// The state of the connection of a socket with one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connection {
    /// Not connected yet.
    Awaited,
    /// Connected, after the handshake.
    Up,
    /// Connected before, and lost. Unsent messages are dropped.
    Lost,
}

impl Connection {
    pub(super) fn unless_lost(self) -> Self {
        if self == Self::Lost { Self::Up } else { self }
    }
}

/// A socket that receives these events of another one, and its descriptor.
pub(super) fn monitor(
    socket: &zmq::Socket,
    context: &Context,
    which: u32,
) -> Result<(zmq::Socket, RawFd), TransportError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let address = format!("inproc://zmqv2-connection-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let failed = |error| TransportError::socket("watch the connections of a socket", error);
    socket.monitor(&address, which as i32).map_err(failed)?;
    let raw = context.socket(zmq_sys::ZMQ_PAIR)?;
    // SAFETY: a fresh socket, owned by nobody else. The owner of the monitor keeps the context.
    let events = unsafe { zmq::Socket::from_raw(raw) };
    let open = || {
        events.set_linger(0)?;
        // No limit, or libzmq's I/O thread would wait for room. Each attempt to connect has two
        // events, and attempts are tenths of a second apart.
        events.set_rcvhwm(0)?;
        events.connect(&address)?;
        events.get_fd()
    };
    let fd = open().map_err(failed)?;
    Ok((events, fd))
}

/// Follows the state of a socket's connection.
pub(super) struct Monitor {
    events: zmq::Socket,
    fd: RawFd,
    connection: Cell<Connection>,
}

impl Monitor {
    /// A monitor of a socket that is not connected yet.
    pub(super) fn of(socket: &zmq::Socket, context: &Context) -> Result<Self, TransportError> {
        let (events, fd) = monitor(socket, context, EVENTS)?;
        Ok(Self { events, fd, connection: Cell::new(Connection::Awaited) })
    }

    /// Stops the monitor before socket and monitor are closed. Otherwise libzmq's I/O thread would
    /// wait for ever to report the end of the connection.
    pub(super) fn end(socket: &mut zmq::Socket) {
        // SAFETY: a live socket. Without an address, the call stops its monitor.
        unsafe { zmq_sys::zmq_socket_monitor(socket.as_mut_ptr(), std::ptr::null(), 0) };
    }

    pub(super) fn connection(&self) -> Connection {
        self.connection.get()
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }

    /// Applies pending events. Returns whether the state changed.
    pub(super) fn update(&self) -> bool {
        let before = self.connection();
        let mut frame = zmq::Message::new();
        loop {
            match self.events.recv(&mut frame, zmq::DONTWAIT) {
                // The number of the event. The next frame is the address.
                Ok(()) if frame.get_more() => self.apply(&frame),
                Ok(()) | Err(zmq::Error::EINTR) => {}
                Err(_) => return self.connection() != before,
            }
        }
    }

    fn apply(&self, event: &[u8]) {
        let Some(&number) = event.first_chunk::<2>() else { return };
        let next = match (u32::from(u16::from_ne_bytes(number)), self.connection()) {
            (zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED, Connection::Awaited) => Connection::Up,
            // A failed handshake ends with this event too. A second connection does not count.
            (zmq_sys::ZMQ_EVENT_DISCONNECTED, Connection::Up) => Connection::Lost,
            (_, same) => same,
        };
        self.connection.set(next);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::naming::{Address, TcpAddress};
    use crate::transport::{Frame, Received, Role, Socket, Transport, TransportOptions};

    #[expect(clippy::disallowed_methods, reason = "a test is its own driver")]
    fn now() -> Instant {
        Instant::now()
    }

    /// Waits until the connection has this state.
    fn wait_for(socket: &Socket, connection: Connection) {
        let end = now() + Duration::from_secs(20);
        while socket.readiness().unwrap().connection != connection {
            assert!(now() < end, "never {connection:?}");
            socket.wait(Some(Duration::from_millis(100)), None).unwrap();
        }
    }

    fn receive(socket: &Socket, frames: &mut Vec<Frame>) -> bool {
        match socket.receive(frames).unwrap() {
            Received::Nothing => socket.readiness().unwrap().readable && receive(socket, frames),
            Received::Message => true,
            Received::Overlong => unreachable!(),
        }
    }

    #[test]
    fn sockets_may_be_closed_while_their_connections_end() {
        let transport = Transport::new(TransportOptions::default());
        for _ in 0..50 {
            let Pair { front, address, .. } = pair();
            let links = [(); 8].map(|()| {
                let mut link = transport.socket(Role::Dealer).unwrap();
                link.connect(&address).unwrap();
                // Shows that the I/O thread of `transport` still works.
                wait_for(&link, Connection::Up);
                link
            });
            drop(front);
            wait_for(&links[0], Connection::Lost);
        }
    }

    struct Pair {
        there: Transport,
        front: Socket,
        address: Address,
        link: Socket,
        /// The frame that leads from the front to the link.
        route: Vec<u8>,
    }

    fn pair() -> Pair {
        let [here, there] = [(); 2].map(|()| Transport::new(TransportOptions::default()));
        let mut front = there.socket(Role::Router).unwrap();
        let address = front.bind(&Address::Tcp(TcpAddress::new("127.0.0.1", 0).unwrap())).unwrap();
        let mut link = here.socket(Role::Dealer).unwrap();
        assert_eq!(link.readiness().unwrap().connection, Connection::Awaited);
        assert!(link.send([Frame::new()]).is_err(), "it sends before it is connected");
        link.connect(&address).unwrap();
        wait_for(&link, Connection::Up);
        link.send([Frame::from("hello".as_bytes())]).unwrap();
        let mut frames = Vec::new();
        while !receive(&front, &mut frames) {
            front.wait(Some(Duration::from_secs(20)), None).unwrap();
        }
        Pair { there, front, address, link, route: frames[0].to_vec() }
    }

    #[test]
    fn lent_bytes_are_sent_again_and_again_and_given_back() {
        let Pair { front, mut link, there, .. } = pair();
        for size in [0, 100, 1_000_000] {
            let body = Arc::new(vec![7; size]);
            for attempt in 0..3_u8 {
                link.send_lent([Frame::new(), Frame::from(&[attempt][..])], &body).unwrap();
            }
            let mut frames = Vec::new();
            for attempt in 0..3 {
                while !receive(&front, &mut frames) {
                    front.wait(Some(Duration::from_secs(20)), None).unwrap();
                }
                // The first one is the route.
                assert_eq!((frames.len(), &frames[2][..]), (4, &[attempt][..]));
                assert_eq!(frames[3][..], body[..]);
            }
            wait_until(|| Arc::strong_count(&body) == 1);
        }
        // Unsent bytes are given back as well.
        drop((front, there));
        wait_for(&link, Connection::Lost);
        let body = Arc::new(vec![7; 100]);
        assert!(link.send_lent([Frame::new()], &body).is_err());
        assert_eq!(Arc::strong_count(&body), 1);
    }

    /// Waits for libzmq's threads.
    fn wait_until(done: impl Fn() -> bool) {
        let end = now() + Duration::from_secs(20);
        while !done() {
            assert!(now() < end, "it never came");
            std::thread::yield_now();
        }
    }

    #[test]
    fn all_messages_of_a_connection_are_received_before_its_end_is_reported() {
        // With `ZMQ_IMMEDIATE`, all messages are lost.
        let Pair { there, front, link, route, .. } = pair();
        for n in 0..5_000_u32 {
            let frames = [&route[..], &[], &n.to_le_bytes(), b"body"].map(Frame::from);
            front.send(frames).unwrap();
        }
        drop(front);
        // Returns when everything is sent and the connection is closed.
        drop(there);
        let mut frames = Vec::new();
        for n in 0..5_000_u32 {
            while !receive(&link, &mut frames) {
                assert_eq!(link.readiness().unwrap().connection, Connection::Up, "lost after {n}");
                link.wait(Some(Duration::from_secs(20)), None).unwrap();
            }
            assert_eq!(&frames[1][..], n.to_le_bytes());
        }
        wait_for(&link, Connection::Lost);
        assert!(!link.readiness().unwrap().writable);
        assert!(link.send([Frame::new()]).is_err());
    }

    #[test]
    fn a_connection_may_end_between_two_frames_of_a_message() {
        // With `ZMQ_IMMEDIATE`, messages are lost here, or libzmq aborts the process: it handles
        // commands at each hundredth received frame, which need not be the first frame of its
        // message.
        for parts in [3, 2, 4, 5] {
            let Pair { there, front, link, route, .. } = pair();
            let mut frames = Vec::new();
            for _ in 0..1_000 {
                front.send(std::iter::once(&route[..]).chain(vec![&b"part"[..]; parts]).map(Frame::from)).unwrap();
            }
            let mut count = 0;
            let mut take = |until: u32| {
                while count < until {
                    if receive(&link, &mut frames) {
                        assert_eq!(frames.len(), parts);
                        count += 1;
                    } else if link.readiness().unwrap().connection == Connection::Lost {
                        break;
                    } else {
                        link.wait(Some(Duration::from_millis(100)), None).unwrap();
                    }
                }
                count
            };
            // So that the next receives find messages in the pipe, and no command is handled before
            // them.
            take(481);
            drop(front);
            drop(there);
            let count = take(u32::MAX);
            assert_eq!(count, 1_000);
        }
    }

    #[test]
    fn a_lost_connection_is_not_made_again_by_the_same_socket() {
        let Pair { there, front, address, link, .. } = pair();
        drop(front);
        drop(there);
        wait_for(&link, Connection::Lost);
        let again = Transport::new(TransportOptions::default());
        let mut front = again.socket(Role::Router).unwrap();
        front.bind(&address).unwrap();
        let mut next = again.socket(Role::Dealer).unwrap();
        next.connect(&address).unwrap();
        wait_for(&next, Connection::Up);
        assert_eq!(link.readiness().unwrap().connection, Connection::Lost);
        assert!(link.send([Frame::new()]).is_err());
    }
}
