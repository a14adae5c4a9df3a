//! One request and its answer over one REQ socket.

use std::time::Instant;

use zmqv2_proto::transport::{Connection, Frame, Received, Socket, SocketSendError, TransportError};
use zmqv2_proto::{HeaderView, Kind, NodeName, Ttl};

use crate::clock;
use crate::delivery::attempt::AskError;
use crate::delivery::request::EncodedRequest;
use crate::direct::monitor::Monitor;
use crate::io::answer::{Asked, ParsedAnswer};

pub(super) struct RoundTrip<'a> {
    pub(super) request: &'a mut EncodedRequest,
    pub(super) socket: &'a Socket,
    /// The node at the other end.
    pub(super) node: &'a NodeName,
    pub(super) answer_by: Instant,
}

impl RoundTrip<'_> {
    /// Sends the request as soon as the socket is connected, if that happens by `connect_by`. After
    /// the `last` send the body is not needed any more, so it is moved rather than copied. Unless
    /// the connection is returned as [`Up`](Connection::Up), nothing was sent.
    pub(super) fn send(&mut self, connect_by: Instant, last: bool) -> Result<Connection, TransportError> {
        let connection = self.wait_connected(connect_by)?;
        let ttl = Ttl::until(self.request.deadline, clock::now());
        if connection != Connection::Up || ttl.is_expired() {
            return Ok(if connection == Connection::Up { Connection::Awaited } else { connection });
        }
        let body = if last {
            Frame::from(std::mem::take(&mut self.request.body))
        } else {
            Frame::from(&self.request.body[..])
        };
        match self.socket.send([Frame::from(self.request.header(Kind::Call, ttl).encode()), body]) {
            Ok(()) => Ok(Connection::Up),
            // It was connected, and nothing was in its pipe.
            Err(SocketSendError::Full | SocketSendError::PeerGone) => Ok(Connection::Awaited),
            Err(error) => Err(socket_error("send a request", std::io::Error::other(error))),
        }
    }

    fn wait_connected(&self, connect_by: Instant) -> Result<Connection, TransportError> {
        // The pool has just looked at its sockets.
        if self.socket.was_connected() {
            return Ok(Connection::Up);
        }
        let connect_by = connect_by.min(self.request.deadline);
        loop {
            let connection = self.socket.readiness()?.connection;
            let left = connect_by.saturating_duration_since(clock::now());
            if connection != Connection::Awaited || left.is_zero() {
                return Ok(connection);
            }
            self.socket.wait(Some(left), None).map_err(|source| socket_error("wait for a connection", source))?;
        }
    }

    /// Waits for the answer to the request, which was sent.
    pub(super) fn wait_answer(&self, mut monitor: Option<Monitor<'_>>) -> Result<ParsedAnswer, AskError> {
        let mut frames = Vec::new();
        loop {
            let readiness = self.socket.readiness().map_err(lost)?;
            if readiness.connection == Connection::Lost {
                return Err(AskError::ConnectionLost);
            }
            if !readiness.readable {
                let now = clock::now();
                if now >= self.answer_by {
                    return Err(AskError::NoAnswer);
                }
                let until =
                    monitor.as_mut().map_or(Ok(self.answer_by), |monitor| monitor.check(now, self.answer_by))?;
                self.socket.wait(Some(until - now), monitor.as_ref().and_then(Monitor::wake_fd)).map_err(lost)?;
            }
            // A wait usually ends with something to receive.
            if self.socket.receive(&mut frames).map_err(lost)? != Received::Nothing
                && let Some(answer) = self.read(&mut frames)
            {
                return Ok(answer);
            }
        }
    }

    /// Reads an answer to the request. Ignores anything else.
    fn read(&self, frames: &mut Vec<Frame>) -> Option<ParsedAnswer> {
        let EncodedRequest { id, key, server, .. } = &*self.request;
        let asked = Asked { id: *id, kind: Kind::Call, server: server.as_ref(), send: 0 };
        let parsed = match (frames.pop(), frames.pop(), frames.pop()) {
            (Some(body), Some(header), None) => HeaderView::new(&header)
                .map_err(|error| error.to_string())
                .and_then(|view| asked.read(&view, body, &mut None, || Some(self.node.clone()))),
            _ => Err("it does not have 2 frames".to_owned()),
        };
        frames.clear();
        match parsed {
            Ok(ParsedAnswer::InFlight { .. }) => None,
            Ok(answer) => Some(answer),
            Err(problem) => {
                log::warn!("ignored an answer to call {id} of {key}: {problem}");
                None
            }
        }
    }
}

/// The socket failed after the request was sent. This counts as a lost connection.
fn lost(error: impl std::error::Error) -> AskError {
    log::error!("a socket failed: {error}");
    AskError::ConnectionLost
}

fn socket_error(action: &'static str, source: std::io::Error) -> TransportError {
    TransportError::Socket { action, source }
}
