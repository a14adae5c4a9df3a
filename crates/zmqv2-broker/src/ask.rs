//! Asking the node's broker about itself.

use std::path::Path;
use std::time::Duration;

use zmqv2_proto::control::{StatusReport, broker_socket};
use zmqv2_proto::transport::{Frame, Received, Role, SocketSendError, Transport, TransportError};
use zmqv2_proto::{Address, Header, InvalidAddress, Kind, MessageId};

use crate::driver::now;

/// The broker did not tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody answered in time.
    #[error("Unreachable: no broker answered at {address} within {waited:?}; is zmqv2-broker running?")]
    NoAnswer {
        /// Where it should be.
        address: Address,
        /// How long was waited.
        waited: Duration,
    },
    /// The answer is no report.
    #[error("the broker's report cannot be read: {0}")]
    Report(String),
    /// The socket's path is too long.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The socket failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The question was not taken.
    #[error("the broker did not take the question: {0}")]
    Send(#[from] SocketSendError),
}

/// Asks the broker whose socket directory is `dir` for its report.
///
/// # Errors
/// [`AskError`], at the latest after `timeout`.
pub fn ask_status(transport: &Transport, dir: &Path, timeout: Duration) -> Result<StatusReport, AskError> {
    let address = broker_socket(dir)?;
    let mut socket = transport.socket(Role::Req)?;
    socket.connect(&address)?;
    let end_at = now() + timeout;
    let question = Header::new(Kind::Status, MessageId::random());
    let mut asked = false;
    let mut frames = Vec::new();
    loop {
        if !asked && socket.readiness()?.writable {
            socket.send([Frame::from(question.encode()), Frame::new()])?;
            asked = true;
        }
        if socket.receive(&mut frames)? == Received::Message {
            return read(&frames);
        }
        let left = end_at.saturating_duration_since(now());
        if left.is_zero() {
            return Err(AskError::NoAnswer { address, waited: timeout });
        }
        let state = socket.readiness()?;
        if !state.readable && (asked || !state.writable) {
            socket.wait(Some(left), None).map_err(|source| TransportError::Socket { action: "wait", source })?;
        }
    }
}

fn read(frames: &[Frame]) -> Result<StatusReport, AskError> {
    let wrong = |problem: String| AskError::Report(problem);
    let [header, body] = frames else { return Err(wrong(format!("{} frames", frames.len()))) };
    let header = Header::decode(header).map_err(|error| wrong(error.to_string()))?;
    match header.kind {
        Kind::StatusReport => serde_json::from_slice(body).map_err(|error| wrong(error.to_string())),
        kind => Err(wrong(format!("a {kind:?} message: {}", String::from_utf8_lossy(body)))),
    }
}
