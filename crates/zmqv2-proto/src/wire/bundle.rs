//! Bundles: many small messages in one frame. `docs/wire-protocol.md` defines the layout.
//!
//! For a small message, the work of libzmq (three frames on both sides of each hop, and a wake-up)
//! costs more than everything else. A bundle pays it once for all messages that are ready. No
//! sender waits for more messages to fill a bundle.

use crate::wire::{MAGIC, PROTOCOL_VERSION};

/// The fourth byte of a bundle, in the place of a header's kind.
const BUNDLE: u8 = 41;
/// The first bytes of every bundle.
const START: [u8; 4] = [MAGIC[0], MAGIC[1], PROTOCOL_VERSION, BUNDLE];
/// The bytes for the lengths of header and body before each message.
const LENGTHS: usize = 2 + 4;

/// The most bytes of a bundle.
pub const MAX_BUNDLE_BYTES: usize = 48 * 1024;
/// The most messages in a bundle.
pub const MAX_BUNDLE_MESSAGES: usize = 256;
/// A larger body travels alone, because copying it costs more than sending it alone.
pub const MAX_BUNDLED_BODY_BYTES: usize = 8 * 1024;

/// The error for bytes that are not a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBundle {
    /// The bundle ends inside a message.
    #[error("bundle of {found} bytes, its lengths need {needed}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes needed by the lengths in the bundle.
        needed: usize,
    },
    /// The bundle has more than [`MAX_BUNDLE_BYTES`].
    #[error("bundle of {found} bytes, the limit is {MAX_BUNDLE_BYTES}")]
    TooLarge {
        /// Bytes found.
        found: usize,
    },
    /// The bundle has no message.
    #[error("bundle without a message")]
    Empty,
    /// The bundle has more than [`MAX_BUNDLE_MESSAGES`].
    #[error("bundle of more than {MAX_BUNDLE_MESSAGES} messages")]
    TooMany,
}

/// A bundle that is being filled. After [`clear`](Self::clear) it keeps its memory.
#[derive(Debug, Default)]
pub struct Bundle {
    bytes: Vec<u8>,
    messages: usize,
}

impl Bundle {
    /// An empty bundle.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a message with a body of this many bytes may travel in a bundle.
    #[must_use]
    pub const fn takes(body: usize) -> bool {
        body <= MAX_BUNDLED_BODY_BYTES
    }

    /// Whether a message with a header and a body of this many bytes still fits.
    #[must_use]
    pub fn has_room(&self, header: usize, body: usize) -> bool {
        self.messages < MAX_BUNDLE_MESSAGES
            && self.bytes.len().max(START.len()) + LENGTHS + header + body <= MAX_BUNDLE_BYTES
    }

    /// Appends a message and returns its header, which can still be rewritten.
    ///
    /// The message must [fit](Self::has_room), or the reader refuses the bundle.
    pub fn push(&mut self, header: &[u8], body: &[u8]) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&START);
        }
        // A header has at most `MAX_HEADER_BYTES`, a body `MAX_BUNDLED_BODY_BYTES`.
        self.bytes.extend_from_slice(&(header.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(body);
        self.messages += 1;
        &mut self.bytes[at..at + header.len()]
    }

    /// The number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages
    }

    /// The number of bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The frame to send. An empty bundle has no valid frame.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.bytes
    }

    /// Removes all messages.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.messages = 0;
    }
}

/// The messages of a bundle in order, each as header and body: at least one, or an error. An error
/// is the last item.
#[derive(Debug, Clone)]
pub struct Bundled<'a> {
    frame: &'a [u8],
    at: usize,
    messages: usize,
    ended: bool,
}

impl<'a> Bundled<'a> {
    /// The messages of a frame. `None` when it is not a bundle.
    #[must_use]
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        frame.starts_with(&START).then_some(Self { frame, at: START.len(), messages: 0, ended: false })
    }

    fn read(&mut self) -> Result<(&'a [u8], &'a [u8]), InvalidBundle> {
        let found = self.frame.len();
        if found > MAX_BUNDLE_BYTES {
            return Err(InvalidBundle::TooLarge { found });
        }
        if found == START.len() {
            return Err(InvalidBundle::Empty);
        }
        if self.messages == MAX_BUNDLE_MESSAGES {
            return Err(InvalidBundle::TooMany);
        }
        let rest = &self.frame[self.at..];
        let length = |needed: usize| InvalidBundle::Length { found, needed: self.at.saturating_add(needed) };
        let (lengths, rest) = rest.split_first_chunk::<LENGTHS>().ok_or(length(LENGTHS))?;
        let header = usize::from(u16::from_be_bytes([lengths[0], lengths[1]]));
        let body = u32::from_be_bytes([lengths[2], lengths[3], lengths[4], lengths[5]]) as usize;
        let needed = header.saturating_add(body);
        if rest.len() < needed {
            return Err(length(needed.saturating_add(LENGTHS)));
        }
        self.at += LENGTHS + needed;
        self.messages += 1;
        Ok(rest[..needed].split_at(header))
    }
}

impl<'a> Iterator for Bundled<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), InvalidBundle>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = read.is_err() || self.at == self.frame.len();
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read<'a> = Result<(&'a [u8], &'a [u8]), InvalidBundle>;

    fn all(frame: &[u8]) -> Vec<Read<'_>> {
        Bundled::of(frame).unwrap().collect()
    }

    #[test]
    fn messages_come_out_in_order_and_a_cleared_bundle_is_used_again() {
        let mut bundle = Bundle::new();
        for _ in 0..2 {
            bundle.push(b"one", b"1").copy_from_slice(b"two");
            bundle.push(b"three", b"");
            assert_eq!((bundle.len(), bundle.is_empty()), (2, false));
            assert_eq!(all(bundle.frame()), [Ok((&b"two"[..], &b"1"[..])), Ok((b"three", b""))]);
            bundle.clear();
            assert!(bundle.is_empty());
        }
    }

    #[test]
    fn a_bundle_says_when_it_is_full_and_what_fits_is_read() {
        let mut bundle = Bundle::new();
        while bundle.has_room(60, 1000) {
            bundle.push(&[1; 60], &[2; 1000]);
        }
        assert!(bundle.frame().len() + 1066 > MAX_BUNDLE_BYTES && bundle.frame().len() <= MAX_BUNDLE_BYTES);
        assert!(all(bundle.frame()).iter().all(Result::is_ok));
        bundle.clear();
        while bundle.has_room(1, 0) {
            bundle.push(b"h", b"");
        }
        assert_eq!(bundle.len(), MAX_BUNDLE_MESSAGES);
        assert!(all(bundle.frame()).iter().all(Result::is_ok));
        bundle.push(b"h", b"");
        assert_eq!(all(bundle.frame()).last(), Some(&Err(InvalidBundle::TooMany)));
    }

    #[test]
    fn a_damaged_bundle_gives_its_whole_messages_and_then_an_error() {
        let mut bundle = Bundle::new();
        bundle.push(b"header", b"body");
        let whole = bundle.frame().len();
        bundle.push(b"header", b"body");
        for end in whole + 1..bundle.frame().len() {
            let read = all(&bundle.frame()[..end]);
            assert_eq!(read.len(), 2);
            assert_eq!(read[0], Ok((&b"header"[..], &b"body"[..])));
            assert!(matches!(read[1], Err(InvalidBundle::Length { found, needed }) if found == end && needed > end));
        }
        let large = [&START[..], &[0; MAX_BUNDLE_BYTES]].concat();
        assert_eq!(all(&large), [Err(InvalidBundle::TooLarge { found: large.len() })]);
        assert!(Bundled::of(b"Z2\x01\x01").is_none() && Bundled::of(b"").is_none());
        assert_eq!(all(&START), [Err(InvalidBundle::Empty)]);
    }
}
