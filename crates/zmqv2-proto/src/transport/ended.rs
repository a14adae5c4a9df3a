//! Which connections of a socket with many peers have ended.

use std::os::fd::RawFd;

use crate::transport::connection;
use crate::transport::context::Context;
use crate::transport::error::TransportError;
use crate::transport::socket::Frame;

/// Reads the reports of libzmq. A connection is named by its descriptor. Its report is there before
/// the descriptor can belong to another connection, and so before any message of that one.
pub(super) struct EndedConnections {
    events: zmq::Socket,
    fd: RawFd,
}

impl EndedConnections {
    pub(super) fn of(socket: &zmq::Socket, context: &Context) -> Result<Self, TransportError> {
        let (events, fd) = connection::monitor(socket, context, zmq_sys::ZMQ_EVENT_DISCONNECTED)?;
        Ok(Self { events, fd })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }

    /// The next connection that has ended.
    pub(super) fn next(&self) -> Option<RawFd> {
        let mut frame = Frame::new();
        loop {
            match self.events.recv(&mut frame, zmq::DONTWAIT) {
                // The number of the event and its value. The next frame is the address.
                Ok(()) if frame.get_more() => {
                    if let Some((_, value)) = frame.split_first_chunk::<2>()
                        && let Some(&fd) = value.first_chunk::<4>()
                    {
                        return Some(RawFd::from_ne_bytes(fd));
                    }
                }
                Ok(()) | Err(zmq::Error::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// The descriptor of the connection over which a frame came, as
/// [`Socket::ended_connection`](super::Socket::ended_connection) reports it.
pub fn connection_of(frame: &mut Frame) -> Option<RawFd> {
    // The property behind `ZMQ_SRCFD`, which the binding does not offer.
    frame.gets("__fd")?.parse().ok()
}
