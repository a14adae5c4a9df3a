//! Sets of priorities.

use std::fmt;

use zmqv2_proto::Priority;

/// A set of priorities: those that an endpoint wants.
///
/// ```
/// use zmqv2_server::{Priorities, Priority};
///
/// let bad = Priorities::from([Priority::Error, Priority::Critical]);
/// assert!(bad.contains(Priority::Error) && !bad.contains(Priority::Info));
/// assert_eq!(Priorities::ALL.iter().count(), 7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Priorities(u8);

impl Priorities {
    /// No priority.
    pub const NONE: Self = Self(0);
    /// All priorities.
    pub const ALL: Self = Self((1 << Priority::ALL.len()) - 1);

    /// Whether `priority` is in the set.
    #[must_use]
    pub const fn contains(self, priority: Priority) -> bool {
        self.0 & bit(priority) != 0
    }

    /// The union with `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The priorities of the set.
    pub fn iter(self) -> impl Iterator<Item = Priority> {
        Priority::ALL.into_iter().filter(move |priority| self.contains(*priority))
    }
}

const fn bit(priority: Priority) -> u8 {
    1 << priority as u8
}

impl From<Priority> for Priorities {
    fn from(priority: Priority) -> Self {
        Self(bit(priority))
    }
}

impl<const N: usize> From<[Priority; N]> for Priorities {
    fn from(priorities: [Priority; N]) -> Self {
        priorities.into_iter().collect()
    }
}

impl FromIterator<Priority> for Priorities {
    fn from_iter<I: IntoIterator<Item = Priority>>(priorities: I) -> Self {
        priorities.into_iter().fold(Self::NONE, |all, priority| all.with(priority.into()))
    }
}

impl fmt::Debug for Priorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
