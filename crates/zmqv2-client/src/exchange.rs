//! One request and its answer over one socket.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use zmqv2_proto::transport::{Connection, Frame, Received, Socket, SocketSendError, TransportError};
use zmqv2_proto::{Flags, Header, Kind, MessageId, MethodName, NodeName, Refusal, ServerName, TopicKey, Ttl};

use crate::clock;
use crate::monitor::{Monitor, Sign};
use crate::parcel::MAX_DETAIL_BYTES;

/// A request, ready to be sent once or several times.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: MessageId,
    pub(crate) method: MethodName,
    pub(crate) key: TopicKey,
    pub(crate) server: Option<ServerName>,
    pub(crate) flags: Flags,
    pub(crate) body: Vec<u8>,
    pub(crate) deadline: Instant,
    /// How long an answer is waited for now: until the next attempt, or the end.
    pub(crate) answer_by: Instant,
}

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A server answered.
    Reply { body: Frame, server: ServerName, node: Option<NodeName> },
    /// A broker answered.
    Refusal { refusal: Refusal, node: Option<NodeName> },
    /// There was no connection in time, so nothing was sent.
    NotConnected,
    /// The connection, which was an old one, broke before anything was sent.
    Stale,
    /// The connection broke while the answer was awaited.
    Lost,
    /// The broker does not know the request any more.
    Gone { refusal: Refusal, node: Option<NodeName> },
    /// The time to answer has passed.
    Silent,
}

/// The socket itself failed.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) sent: bool,
    pub(crate) source: TransportError,
}

impl Outgoing {
    /// Sends the request as soon as `socket` is connected, by `connect_by` at the latest, and waits for the answer.
    /// With `last`, nothing is sent after this: the body is moved rather than copied.
    pub(crate) fn exchange(
        &mut self,
        socket: &Socket,
        connect_by: Instant,
        last: bool,
        monitor: Option<&mut Monitor<'_>>,
    ) -> Result<Outcome, Broken> {
        let unsent = |source| Broken { sent: false, source };
        let connection = self.wait_connected(socket, connect_by).map_err(unsent)?;
        let ttl = Ttl::until(self.deadline, clock::now());
        match connection {
            Connection::Up if !ttl.is_expired() => {}
            Connection::Lost => return Ok(Outcome::Stale),
            _ => return Ok(Outcome::NotConnected),
        }
        let body = if last { Frame::from(std::mem::take(&mut self.body)) } else { Frame::from(&self.body[..]) };
        match socket.send([Frame::from(self.header(Kind::Call, ttl).encode()), body]) {
            Ok(()) => self.wait_answer(socket, monitor).map_err(|source| Broken { sent: true, source }),
            // It was connected, and nothing was in its pipe.
            Err(SocketSendError::Full | SocketSendError::PeerGone) => Ok(Outcome::NotConnected),
            Err(error) => {
                let source = std::io::Error::other(error);
                Err(unsent(socket_error("send a request", source)))
            }
        }
    }

    pub(crate) fn header(&self, kind: Kind, ttl: Ttl) -> Header {
        let mut header = Header::new(kind, self.id);
        header.flags = self.flags;
        header.ttl = ttl;
        header.key = Some(self.key.clone());
        header.server.clone_from(&self.server);
        header
    }

    fn wait_connected(&self, socket: &Socket, connect_by: Instant) -> Result<Connection, TransportError> {
        // One from the pool has just been asked.
        if socket.was_connected() {
            return Ok(Connection::Up);
        }
        loop {
            let connection = socket.readiness()?.connection;
            if connection != Connection::Awaited {
                return Ok(connection);
            }
            let Some(left) = left_until(connect_by.min(self.deadline)) else {
                return Ok(connection);
            };
            wait(socket, left, None, "wait for a connection")?;
        }
    }

    fn wait_answer(&self, socket: &Socket, mut monitor: Option<&mut Monitor<'_>>) -> Result<Outcome, TransportError> {
        let mut frames = Vec::new();
        if let Some(monitor) = &mut monitor {
            monitor.begin(clock::now());
        }
        // The first look, which has to be taken before the first sleep anyway, says whether there is something to receive.
        let mut looked = false;
        loop {
            if std::mem::replace(&mut looked, true) && socket.receive(&mut frames)? != Received::Nothing {
                match self.read(&mut frames) {
                    Ok(outcome) => return Ok(outcome),
                    Err(problem) => log::warn!("ignored an answer to call {} of {}: {problem}", self.id, self.key),
                }
            }
            let readiness = socket.readiness()?;
            if readiness.connection == Connection::Lost {
                return Ok(Outcome::Lost);
            }
            if left_until(self.answer_by).is_none() {
                return Ok(Outcome::Silent);
            }
            if readiness.readable {
                continue;
            }
            let mut look_at = self.answer_by;
            if let Some(monitor) = &mut monitor {
                match monitor.look(clock::now()) {
                    Sign::Fine(next) => look_at = next.map_or(look_at, |next| next.min(look_at)),
                    Sign::Lost(refusal, node) => return Ok(Outcome::Gone { refusal, node }),
                    Sign::Silent => return Ok(Outcome::Silent),
                }
            }
            if let Some(left) = left_until(look_at) {
                wait(socket, left, monitor.as_ref().and_then(|monitor| monitor.bell()), "wait for a reply")?;
            }
        }
    }

    /// Reads an answer; the error says why it is none.
    fn read(&self, frames: &mut Vec<Frame>) -> Result<Outcome, String> {
        let count = frames.len();
        let (Some(body), Some(header), None) = (frames.pop(), frames.pop(), frames.pop()) else {
            return Err(format!("it has {count} frames, not 2"));
        };
        let header = Header::decode(&header).map_err(|error| error.to_string())?;
        if header.id != self.id {
            return Err(format!("it answers message {}", header.id));
        }
        let node = header.node;
        match (header.kind, header.reason) {
            (Kind::Reply, _) => {
                let server = header.server.or_else(|| self.server.clone()).ok_or("it does not name its server")?;
                Ok(Outcome::Reply { body, server, node })
            }
            (Kind::Refusal, Some(reason)) => {
                let shown = &body[..body.len().min(MAX_DETAIL_BYTES)];
                Ok(Outcome::Refusal { refusal: Refusal::new(reason, String::from_utf8_lossy(shown)), node })
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
    bell: Option<BorrowedFd<'_>>,
    action: &'static str,
) -> Result<(), TransportError> {
    socket.wait(Some(left), bell).map(drop).map_err(|source| socket_error(action, source))
}

fn socket_error(action: &'static str, source: std::io::Error) -> TransportError {
    TransportError::Socket { action, source }
}
