//! One request and its answer over one REQ socket.

use std::time::Instant;

use zmqv2_proto::transport::{Connection, Frame, Observation, Received, SocketSendError, TransportError};
use zmqv2_proto::{Address, HeaderView, Kind, NoConnection, NodeName, Refusal, Ttl};

use crate::clock;
use crate::delivery::attempt::AskError;
use crate::delivery::request::EncodedRequest;
use crate::direct::monitor::Monitor;
use crate::direct::req_sockets::ReqSocket;
use crate::io::answer::{Asked, ParsedAnswer};
use crate::peers::Stamping;
use crate::peers::hello::{self, Greeting};
use crate::routing::node_health::observation_at;

pub(super) struct RoundTrip<'a> {
    pub(super) request: &'a mut EncodedRequest,
    pub(super) socket: &'a mut ReqSocket,
    pub(super) address: &'a Address,
    /// The node at the other end.
    pub(super) node: &'a NodeName,
    pub(super) answer_by: Instant,
    /// The largest body that this client takes.
    pub(super) largest: usize,
}

/// Whether a request was sent.
#[derive(Debug)]
pub(super) enum Sent {
    Yes,
    /// There was no connection in time, or no time was left.
    NotConnected(NoConnection),
    ConnectionLost,
    /// There was a connection, and the broker did not answer the first question on it in time.
    NotGreeted,
    /// The broker would not take the request.
    TooLarge(Refusal),
}

impl RoundTrip<'_> {
    /// Sends the request as soon as the socket is connected and the broker has answered the first
    /// question, if that happens by `connect_by`. After the `last` send the body is not needed any
    /// more, so it is moved rather than copied.
    pub(super) fn send(&mut self, connect_by: Instant, last: bool) -> Result<Sent, TransportError> {
        let connect_by = connect_by.min(self.request.deadline);
        match self.wait_connected(connect_by)? {
            Ok(Connection::Lost) => return Ok(Sent::ConnectionLost),
            Ok(_) => {}
            Err(cause) => return Ok(Sent::NotConnected(cause)),
        }
        let (now, stamp) = loop {
            let now = clock::now();
            if self.socket.greeting == Greeting::Answered {
                match self.socket.peer.stamping(now) {
                    Stamping::With(stamp) => break (now, Some(stamp)),
                    Stamping::Without => break (now, None),
                    Stamping::AskAgain => self.socket.greeting = Greeting::Due,
                }
            }
            if let Some(not_greeted) = self.greet(now, connect_by)? {
                return Ok(not_greeted);
            }
        };
        let ttl = Ttl::until(self.request.deadline, now);
        if ttl.is_expired() {
            return Ok(Sent::NotConnected(NoConnection::Unknown));
        }
        if let Some(refusal) = self.socket.peer.refuses_size(self.request.body.len(), Some(self.node)) {
            return Ok(Sent::TooLarge(refusal));
        }
        let mut header = self.request.header(Kind::Call, ttl);
        if !stamp.is_some_and(|stamp| stamp.with_caller) {
            header.node = None;
        }
        let mut header = header.encode();
        if let Some(stamp) = stamp {
            stamp.write(&mut header);
        }
        let body = if last {
            Frame::from(std::mem::take(&mut self.request.body))
        } else {
            Frame::from(&self.request.body[..])
        };
        self.send_frames([Frame::from(header), body])
    }

    fn send_frames(&self, frames: [Frame; 2]) -> Result<Sent, TransportError> {
        match self.socket.socket.send(frames) {
            Ok(()) => Ok(Sent::Yes),
            // It was connected, and nothing was in its pipe.
            Err(SocketSendError::Full | SocketSendError::PeerGone) => Ok(Sent::NotConnected(NoConnection::NoAnswer)),
            Err(error) => Err(socket_error("send a request", std::io::Error::other(error))),
        }
    }

    /// Asks the broker for its clock and its limits, and waits for the answer until `by`. Returns
    /// why there is none.
    fn greet(&mut self, now: Instant, by: Instant) -> Result<Option<Sent>, TransportError> {
        match self.send_frames(hello::question(self.largest).map(Frame::from))? {
            Sent::Yes => self.socket.greeting = Greeting::Asked(now),
            not_sent => return Ok(Some(not_sent)),
        }
        let mut frames = Vec::new();
        loop {
            while self.socket.socket.receive(&mut frames)? != Received::Nothing {
                if let [header, body] = &frames[..]
                    && let Ok(view) = HeaderView::new(header)
                    && self.socket.greeting.read(&view, body, &self.socket.peer)
                {
                    return Ok(None);
                }
            }
            let readiness = self.socket.socket.readiness()?;
            if readiness.connection == Connection::Lost {
                return Ok(Some(Sent::ConnectionLost));
            }
            let left = by.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(Some(Sent::NotGreeted));
            }
            if !readiness.readable {
                let waited = self.socket.socket.wait(Some(left), None);
                waited.map_err(|source| socket_error("wait for an answer", source))?;
            }
        }
    }

    /// Waits until the socket has been connected. Otherwise says why it is not: after half of the
    /// time, it begins to look.
    fn wait_connected(&self, connect_by: Instant) -> Result<Result<Connection, NoConnection>, TransportError> {
        // The pool has just looked at its sockets.
        let socket = &self.socket.socket;
        if socket.was_connected() {
            return Ok(Ok(Connection::Up));
        }
        let look_at = observation_at(clock::now(), connect_by);
        let mut observation = None;
        loop {
            let connection = socket.readiness()?.connection;
            if connection != Connection::Awaited {
                return Ok(Ok(connection));
            }
            let now = clock::now();
            if connect_by <= now {
                let mut observation = observation.unwrap_or_else(|| Observation::begin(self.address));
                return Ok(Err(observation.cause()));
            }
            if observation.is_none() && look_at <= now {
                observation = Some(Observation::begin(self.address));
            }
            let until = if observation.is_none() { look_at } else { connect_by };
            let wait = socket.wait(Some(until.saturating_duration_since(now)), None);
            wait.map_err(|source| socket_error("wait for a connection", source))?;
        }
    }

    /// Waits for the answer to the request, which was sent.
    pub(super) fn wait_answer(&self, mut monitor: Option<Monitor<'_>>) -> Result<ParsedAnswer, AskError> {
        let (mut frames, socket) = (Vec::new(), &self.socket.socket);
        loop {
            let readiness = socket.readiness().map_err(lost)?;
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
                socket.wait(Some(until - now), monitor.as_ref().and_then(Monitor::wake_fd)).map_err(lost)?;
            }
            // A wait usually ends with something to receive.
            if socket.receive(&mut frames).map_err(lost)? != Received::Nothing
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
            (Some(body), Some(header), None) => {
                HeaderView::new(&header).map_err(|error| error.to_string()).and_then(|view| {
                    self.socket.peer.answered(&view, clock::now());
                    asked.read(&view, body, &mut None, || Some(self.node.clone()))
                })
            }
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
