//! The tag that connects an answer with its message.

/// A slot of the table, its generation, and the number of the send. An answer to a message that has
/// ended, or a refusal of an earlier send, has another tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tag(u64);

impl Tag {
    pub(super) fn new(slot: u32, generation: u32, sends: u8) -> Self {
        // With 24 bits of generation, a slot is reused 16 million times before tags repeat. The
        // message id is compared as well.
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

    /// The number of the send.
    pub(crate) fn sends(self) -> u8 {
        (self.0 >> 32) as u8
    }

    pub(super) fn matches(self, generation: u32) -> bool {
        (self.0 >> 40) as u32 == generation & 0x00ff_ffff
    }

    /// The tag of the next send. 0 means never sent, and is skipped.
    pub(super) fn next_send(self) -> Self {
        self.with_sends(self.sends().checked_add(1).unwrap_or(1))
    }

    pub(super) fn with_sends(self, sends: u8) -> Self {
        Self(self.0 & !(0xff << 32) | u64::from(sends) << 32)
    }
}
