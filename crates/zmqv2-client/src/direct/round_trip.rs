//! One request and its answer over one socket.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use zmqv2_proto::transport::{Connection, Frame, Received, Socket, SocketSendError, TransportError};
use zmqv2_proto::{Header, Kind, NodeName, Refusal, ServerName, Ttl};

use crate::clock;
use crate::delivery::request::{EncodedRequest, Request};
use crate::direct::monitor::{CallStatus, Monitor};
use crate::io::answer::MAX_DETAIL_BYTES;
use crate::outcome::call_error::CallError;
use crate::outcome::send_error::SendError;

/// One request over one socket.
pub(crate) struct RoundTrip<'a> {
    pub(crate) request: &'a mut EncodedRequest,
    pub(crate) socket: &'a Socket,
}

/// How a round trip ended.
#[derive(Debug)]
pub(crate) enum RoundTripEnd {
    /// A server answered.
    Reply { body: Frame, server: ServerName, node: Option<NodeName> },
    /// A broker answered.
    Refusal { refusal: Refusal, node: Option<NodeName> },
    /// There was no connection in time, so nothing was sent.
    NotConnected,
    /// The connection, which was an old one, broke before anything was sent.
    ConnectionWasOld,
    /// The connection broke while the answer was awaited.
    ConnectionLost,
    /// The broker does not know the request any more.
    RequestLost { refusal: Refusal, node: Option<NodeName> },
    /// The time to answer has passed.
    NoAnswer,
}

/// The socket itself failed.
#[derive(Debug)]
pub(crate) struct SocketFailure {
    pub(crate) sent: bool,
    pub(crate) source: TransportError,
}

impl SocketFailure {
    pub(crate) fn into_call_error(self, request: &Request<'_>) -> CallError {
        let (target, source) = (request.boxed_target(), self.source);
        if self.sent {
            return CallError::Transport { target, source };
        }
        SendError::Transport { target, source }.into()
    }
}

impl RoundTrip<'_> {
    /// Sends the request as soon as the socket is connected, by `connect_by` at the latest, and waits for the answer.
    /// With `last`, nothing is sent after this: the body is moved rather than copied.
    pub(crate) fn run(
        self,
        connect_by: Instant,
        last: bool,
        monitor: Option<&mut Monitor<'_>>,
    ) -> Result<RoundTripEnd, SocketFailure> {
        let unsent = |source| SocketFailure { sent: false, source };
        let connection = self.wait_connected(connect_by).map_err(unsent)?;
        let ttl = Ttl::until(self.request.deadline, clock::now());
        match connection {
            Connection::Up if !ttl.is_expired() => {}
            Connection::Lost => return Ok(RoundTripEnd::ConnectionWasOld),
            _ => return Ok(RoundTripEnd::NotConnected),
        }
        let body = if last {
            Frame::from(std::mem::take(&mut self.request.body))
        } else {
            Frame::from(&self.request.body[..])
        };
        match self.socket.send([Frame::from(self.request.header(Kind::Call, ttl).encode()), body]) {
            Ok(()) => self.wait_answer(monitor).map_err(|source| SocketFailure { sent: true, source }),
            // It was connected, and nothing was in its pipe.
            Err(SocketSendError::Full | SocketSendError::PeerGone) => Ok(RoundTripEnd::NotConnected),
            Err(error) => {
                let source = std::io::Error::other(error);
                Err(unsent(socket_error("send a request", source)))
            }
        }
    }

    fn wait_connected(&self, connect_by: Instant) -> Result<Connection, TransportError> {
        // One from the pool has just been asked.
        if self.socket.was_connected() {
            return Ok(Connection::Up);
        }
        loop {
            let connection = self.socket.readiness()?.connection;
            if connection != Connection::Awaited {
                return Ok(connection);
            }
            let Some(left) = left_until(connect_by.min(self.request.deadline)) else {
                return Ok(connection);
            };
            wait(self.socket, left, None, "wait for a connection")?;
        }
    }

    fn wait_answer(&self, mut monitor: Option<&mut Monitor<'_>>) -> Result<RoundTripEnd, TransportError> {
        let Self { request, socket } = self;
        let (mut frames, mut looked) = (Vec::new(), false);
        if let Some(monitor) = &mut monitor {
            monitor.begin(clock::now());
        }
        // The first look, which has to be taken before the first sleep anyway, says whether there is something to receive.
        loop {
            if std::mem::replace(&mut looked, true) && socket.receive(&mut frames)? != Received::Nothing {
                match self.read(&mut frames) {
                    Ok(end) => return Ok(end),
                    Err(error) => log::warn!("ignored an answer to call {} of {}: {error}", request.id, request.key),
                }
            }
            let readiness = socket.readiness()?;
            if readiness.connection == Connection::Lost {
                return Ok(RoundTripEnd::ConnectionLost);
            }
            if left_until(request.answer_by).is_none() {
                return Ok(RoundTripEnd::NoAnswer);
            }
            if readiness.readable {
                continue;
            }
            let mut look_at = request.answer_by;
            if let Some(monitor) = &mut monitor {
                match monitor.look(clock::now()) {
                    CallStatus::Alive(next) => look_at = next.map_or(look_at, |next| next.min(look_at)),
                    CallStatus::Lost(refusal, node) => return Ok(RoundTripEnd::RequestLost { refusal, node }),
                    CallStatus::NoAnswer => return Ok(RoundTripEnd::NoAnswer),
                }
            }
            if let Some(left) = left_until(look_at) {
                wait(socket, left, monitor.as_ref().and_then(|monitor| monitor.wake_fd()), "wait for a reply")?;
            }
        }
    }

    /// Reads an answer; the error says why it is none.
    fn read(&self, frames: &mut Vec<Frame>) -> Result<RoundTripEnd, String> {
        let count = frames.len();
        let (Some(body), Some(header), None) = (frames.pop(), frames.pop(), frames.pop()) else {
            return Err(format!("it has {count} frames, not 2"));
        };
        let header = Header::decode(&header).map_err(|error| error.to_string())?;
        if header.id != self.request.id {
            return Err(format!("it answers message {}", header.id));
        }
        let node = header.node;
        match (header.kind, header.reason) {
            (Kind::Reply, _) => {
                let server =
                    header.server.or_else(|| self.request.server.clone()).ok_or("it does not name its server")?;
                Ok(RoundTripEnd::Reply { body, server, node })
            }
            (Kind::Refusal, Some(reason)) => {
                let shown = &body[..body.len().min(MAX_DETAIL_BYTES)];
                Ok(RoundTripEnd::Refusal { refusal: Refusal::new(reason, String::from_utf8_lossy(shown)), node })
            }
            (Kind::Refusal, None) => Err("it is a refusal without a reason".to_owned()),
            (kind, _) => Err(format!("it is a {kind:?}")),
        }
    }
}

/// What is left until `deadline`; `None`: nothing.
fn left_until(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(clock::now());
    (!left.is_zero()).then_some(left)
}

fn wait(
    socket: &Socket,
    left: Duration,
    wake_fd: Option<BorrowedFd<'_>>,
    action: &'static str,
) -> Result<(), TransportError> {
    socket.wait(Some(left), wake_fd).map(drop).map_err(|source| socket_error(action, source))
}

fn socket_error(action: &'static str, source: std::io::Error) -> TransportError {
    TransportError::Socket { action, source }
}
