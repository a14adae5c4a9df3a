//! What an answer is recognised by.

/// A slot of the table, how often the slot has been used before, and how often the message had been sent: an answer to a
/// message that has ended, or a refusal of an attempt that was given up, is told from one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tag(u64);

impl Tag {
    pub(super) fn new(slot: u32, generation: u32, sends: u8) -> Self {
        // 24 bits of generation: a slot is reused 16 million times before an answer could be taken for another's, and
        // the message id is compared as well.
        Self(u64::from(generation & 0x00ff_ffff) << 40 | u64::from(sends) << 32 | u64::from(slot))
    }

    pub(crate) fn from_wire(tag: u64) -> Self {
        Self(tag)
    }

    pub(crate) fn to_wire(self) -> u64 {
        self.0
    }

    pub(super) fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The number of the send that is meant.
    pub(crate) fn sends(self) -> u8 {
        (self.0 >> 32) as u8
    }

    pub(super) fn matches(self, generation: u32) -> bool {
        (self.0 >> 40) as u32 == generation & 0x00ff_ffff
    }

    /// The tag with which the message is sent next. 0 stays the mark of one that was never sent.
    pub(super) fn next_send(self) -> Self {
        self.with_sends(self.sends().checked_add(1).unwrap_or(1))
    }

    pub(super) fn with_sends(self, sends: u8) -> Self {
        Self(self.0 & !(0xff << 32) | u64::from(sends) << 32)
    }
}
