//! Versions of interfaces, and the rule of compatibility.

use std::fmt;
use std::str::FromStr;

use crate::naming::serde_as_text;

/// The version of an endpoint's interface.
///
/// ```
/// use zmqv2_proto::Version;
///
/// let offered: Version = "1.4".parse().unwrap();
/// assert!(offered.serves("1.2".parse().unwrap()));
/// assert!(!offered.serves("1.5".parse().unwrap()));
/// assert!(!offered.serves("2.0".parse().unwrap()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Changes when old callers would break.
    pub major: u32,
    /// Grows with each compatible addition.
    pub minor: u32,
}

impl Version {
    /// The version of a message or endpoint that names none.
    pub const DEFAULT: Self = Self::new(1, 0);

    /// The version `major.minor`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Whether an endpoint of this version can serve a request of version `asked`: the same major,
    /// and at least the same minor version, as in oslo.messaging.
    #[must_use]
    pub fn serves(self, asked: Self) -> bool {
        self.major == asked.major && self.minor >= asked.minor
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The error for a text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid version {0:?}: a version is MAJOR.MINOR, two numbers up to 4294967295, such as 1.0")]
pub struct InvalidVersion(String);

serde_as_text!(Version, version => &version.to_string());

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        text.split_once('.')
            .and_then(|(major, minor)| Some(Self::new(digits(major)?, digits(minor)?)))
            .ok_or_else(|| InvalidVersion(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_version_are_refused() {
        for text in ["", "1", "1.", ".1", "1.x", "-1.0", "+1.0", "1.0.0", "99999999999.0"] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
        assert_eq!("1.10".parse::<Version>().unwrap().to_string(), "1.10");
    }
}
