//! The path back to the sender of a message.

use std::sync::Arc;

use zmqv2_proto::transport::{Frame, MAX_FRAMES};

/// The longest path that is accepted. Honest senders have paths of a few bytes.
pub(crate) const MAX_PATH_BYTES: usize = 1024;
/// Bytes of the length in front of each frame.
const LENGTH: usize = 2;

/// Routing id, any further frames of the sender, and the empty delimiter. The messages of one
/// bundle share it.
#[derive(Debug, Clone)]
pub(crate) struct ReturnPath(Arc<[u8]>);

impl ReturnPath {
    /// The path with these frames; `None` if they have more than [`MAX_PATH_BYTES`].
    pub(crate) fn of(frames: &[Frame]) -> Option<Self> {
        let mut buffer = [0; MAX_PATH_BYTES + LENGTH * MAX_FRAMES];
        let (mut at, mut bytes) = (0, 0);
        for frame in frames {
            bytes += frame.len();
            if bytes > MAX_PATH_BYTES {
                return None;
            }
            let (length, rest) = buffer.get_mut(at..)?.split_at_mut_checked(LENGTH)?;
            length.copy_from_slice(&(frame.len() as u16).to_be_bytes());
            rest.get_mut(..frame.len())?.copy_from_slice(frame);
            at += LENGTH + frame.len();
        }
        Some(Self(Arc::from(&buffer[..at])))
    }

    pub(crate) fn frames(&self) -> impl Iterator<Item = Frame> {
        Pieces(&self.0).map(Frame::from)
    }

    /// The routing id, which names the sender's connection. It is never logged.
    pub(crate) fn peer(&self) -> &[u8] {
        Pieces(&self.0).next().unwrap_or_default()
    }
}

impl PartialEq for ReturnPath {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

struct Pieces<'a>(&'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<LENGTH>()?;
        let (piece, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.0 = rest;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
        pieces.iter().map(|piece| Frame::from(*piece)).collect()
    }

    #[test]
    fn the_frames_of_a_path_come_back_as_they_were() {
        for pieces in [&[&b"id"[..], b"", b"xx", b""][..], &[b"id", b""], &[&[7; 1000], &[8; 24], b""]] {
            let path = ReturnPath::of(&frames(pieces)).unwrap();
            assert_eq!(path.frames().map(|frame| frame.to_vec()).collect::<Vec<_>>(), pieces);
            assert_eq!(path.peer(), pieces[0]);
            assert_eq!(path, ReturnPath::of(&frames(pieces)).unwrap());
            assert_ne!(path, ReturnPath::of(&frames(&[b"id", b"xx"])).unwrap());
        }
    }

    #[test]
    fn a_path_that_is_too_long_is_none() {
        assert!(ReturnPath::of(&frames(&[&[7; 1000], &[8; 25], b""])).is_none());
        assert!(ReturnPath::of(&frames(&[&[7; 70_000], b""])).is_none());
        assert!(ReturnPath::of(&frames(&[b"".as_slice(); MAX_FRAMES + 600])).is_none());
    }
}
