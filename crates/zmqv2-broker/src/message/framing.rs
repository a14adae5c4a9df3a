//! Turns received frames into messages, without a copy.

use std::vec::Drain;

use zmqv2_proto::bundle::{Bundled, InvalidBundle};
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{InvalidHeader, Kind};

use super::payload::Payload;
use super::return_path::{MAX_PATH_BYTES, ReturnPath};

/// Why a message cannot be read, or may not come from its sender.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("no empty delimiter frame within the first {MAX_PATH_BYTES} bytes")]
    NoDelimiter,
    #[error("{0} frames follow the delimiter; a message has two, a header and a body")]
    Frames(usize),
    #[error("more than {} frames", zmqv2_proto::transport::MAX_FRAMES)]
    TooManyFrames,
    #[error("a request names a reason, which only an answer may, or a node that is no valid name")]
    AnswerFields,
    #[error("a worker with its own socket handed back a request; only workers that share a socket may")]
    HandedBack,
    #[error("a worker handed back a request larger than rpc_zmq_max_message_bytes")]
    HandedBackTooLarge,
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    #[error(transparent)]
    Bundle(#[from] InvalidBundle),
    #[error("a {0:?} message is not allowed from this sender")]
    Kind(Kind),
    #[error("control message: {0}")]
    Control(String),
}

/// The content of the frames after the delimiter.
pub(crate) enum Content {
    One(Payload),
    /// Several messages in one frame. Each gets its own answer.
    Bundle(Frame),
}

/// Splits the frames from a ROUTER socket into the return path and the content. The path is
/// returned even if the content is malformed, so that a lock-step sender gets an answer.
pub(crate) fn split_request(frames: &mut Vec<Frame>) -> Option<(ReturnPath, Result<Content, Malformed>)> {
    let delimiter = frames.iter().skip(1).position(|frame| frame.is_empty())? + 1;
    let path = ReturnPath::of(&frames[..=delimiter])?;
    Some((path, content(frames.drain(delimiter + 1..))))
}

/// Takes the content out of the frames from a worker's socket.
pub(crate) fn split_answer(frames: &mut Vec<Frame>) -> Result<Content, Malformed> {
    if frames.first().is_none_or(|delimiter| !delimiter.is_empty()) {
        return Err(Malformed::NoDelimiter);
    }
    content(frames.drain(1..))
}

/// The messages of a bundle. Copies of them do not keep the whole bundle in memory.
pub(crate) fn messages(bundle: &[u8]) -> impl Iterator<Item = Result<Payload, Malformed>> {
    let messages = Bundled::of(bundle).into_iter().flatten();
    messages.map(|message| message.map(|(header, body)| Payload::copied(header, body)).map_err(Malformed::from))
}

fn content(mut frames: Drain<'_, Frame>) -> Result<Content, Malformed> {
    let count = frames.len();
    match (frames.next(), frames.next(), frames.next()) {
        (Some(header), Some(body), None) => Ok(Content::One(Payload::new(header, body))),
        (Some(only), None, None) if Bundled::of(&only).is_some() => Ok(Content::Bundle(only)),
        _ => Err(Malformed::Frames(count)),
    }
}
