use std::path::Path;
use std::time::Duration;

use zmqv2_proto::control::{StatusReport, broker_socket};
use zmqv2_proto::transport::{
    Frame, Observation, Received, Role, SocketSendError, Transport, TransportError, check_reachable,
};
use zmqv2_proto::{Address, Header, InvalidAddress, Kind, MessageId, NoConnection, deadline};

use crate::threads::now;

/// Why there is no status report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusQueryError {
    /// No broker answered in time.
    #[error("Unreachable: no broker answered at {address} within {waited:?}: {}", cause.explain(address))]
    NoAnswer {
        /// The broker's local socket.
        address: Address,
        /// The time that was waited.
        waited: Duration,
        /// Why, as far as it can be seen.
        cause: NoConnection,
    },
    /// The answer is not a report.
    #[error("the broker's report cannot be read: {0}")]
    Report(String),
    /// The socket's path is too long.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The socket failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The request could not be sent.
    #[error("cannot send the status request: {0}")]
    Send(#[from] SocketSendError),
}

/// Asks the broker with the socket directory `dir` for its report.
///
/// # Errors
/// [`StatusQueryError`], after `timeout` at the latest.
pub fn query_status(transport: &Transport, dir: &Path, timeout: Duration) -> Result<StatusReport, StatusQueryError> {
    let address = broker_socket(dir)?;
    let mut socket = transport.socket(Role::Req)?;
    check_reachable(&address, timeout)?;
    socket.connect(&address)?;
    let end_at = deadline(now(), timeout);
    let request = Header::new(Kind::Status, MessageId::random());
    let mut sent = false;
    let mut frames = Vec::new();
    loop {
        if !sent && socket.readiness()?.writable {
            socket.send([Frame::from(request.encode()), Frame::new()])?;
            sent = true;
        }
        if socket.receive(&mut frames)? == Received::Message {
            return read(&frames);
        }
        let left = end_at.saturating_duration_since(now());
        if left.is_zero() {
            let cause = Observation::begin(&address).cause();
            return Err(StatusQueryError::NoAnswer { address, waited: timeout, cause });
        }
        let state = socket.readiness()?;
        if !state.readable && (sent || !state.writable) {
            socket.wait(Some(left), None).map_err(|source| TransportError::Socket { action: "wait", source })?;
        }
    }
}

fn read(frames: &[Frame]) -> Result<StatusReport, StatusQueryError> {
    let wrong = |problem: String| StatusQueryError::Report(problem);
    let [header, body] = frames else { return Err(wrong(format!("{} frames", frames.len()))) };
    let header = Header::decode(header).map_err(|error| wrong(error.to_string()))?;
    match header.kind {
        Kind::StatusReport => serde_json::from_slice(body).map_err(|error| wrong(error.to_string())),
        kind => Err(wrong(format!("a {kind:?} message: {}", String::from_utf8_lossy(body)))),
    }
}
