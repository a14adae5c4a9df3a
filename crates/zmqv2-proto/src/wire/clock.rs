//! The identity of a clock, so that a time of one clock is never compared with another clock.

use std::fmt;
use std::sync::OnceLock;

use crate::wire::MessageId;

/// The monotonic clock of one run of one host, as the processes of one time namespace see it.
///
/// A number of 16 bits made from the host's boot id and the time namespace. It is never 0 on the
/// wire: 0 stands for no clock. Two hosts may have the same number by chance. So an equal number
/// alone does not mean that two processes share a clock; but after a reboot of one host, its number
/// is almost certainly another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClockId(u16);

impl ClockId {
    /// The clock of this process.
    #[must_use]
    pub fn own() -> Self {
        static OWN: OnceLock<ClockId> = OnceLock::new();
        *OWN.get_or_init(|| {
            let boot = std::fs::read("/proc/sys/kernel/random/boot_id");
            let Ok(mut name) = boot else {
                // Nothing says which clock this is, so nobody may take it for another one.
                return Self::of(MessageId::random().as_bytes());
            };
            // A kernel without time namespaces has one clock.
            if let Ok(namespace) = std::fs::read_link("/proc/self/ns/time") {
                name.extend_from_slice(namespace.as_os_str().as_encoded_bytes());
            }
            Self::of(&name)
        })
    }

    /// The clock with this number on the wire. `None` for 0: there is no clock.
    #[must_use]
    pub const fn from_wire(number: u16) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number on the wire, at least 1.
    #[must_use]
    pub const fn to_wire(self) -> u16 {
        self.0
    }

    /// FNV-1a, folded to 16 bits. Every version of this program must give the same number.
    fn of(name: &[u8]) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in name {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let folded = (hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) as u16;
        Self(folded.max(1))
    }
}

impl fmt::Display for ClockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_depends_on_every_byte_and_is_never_0() {
        assert_eq!(ClockId::own(), ClockId::own());
        assert_ne!(ClockId::of(b"4f1c"), ClockId::of(b"4f1d"));
        let numbers: std::collections::HashSet<u16> =
            (0..2_000_u32).map(|n| ClockId::of(&n.to_be_bytes()).to_wire()).collect();
        assert!(numbers.len() > 1_900 && !numbers.contains(&0), "{}", numbers.len());
        assert_eq!((ClockId::from_wire(0), ClockId::from_wire(7)), (None, Some(ClockId(7))));
    }
}
