//! The facts of a declared service, and the checks that run when the declaration is compiled.

use crate::naming::{MAX_NAME_BYTES, Namespace, Target, Topic, Version};

/// What the declaration of a service says: names, version, methods.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Interface {
    /// The topic of the service.
    pub topic: &'static str,
    /// The namespace; `None`: the unnamed one.
    pub namespace: Option<&'static str>,
    /// The version that a server with this declaration offers.
    pub version: Version,
    /// The module of the declared errors on the wire.
    pub error_module: &'static str,
    /// The methods, in the order of the declaration.
    pub methods: &'static [Method],
}

/// One method of an [`Interface`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Method {
    /// Its name on the wire.
    pub name: &'static str,
    /// The version of the interface that a server needs to have it.
    pub since: Version,
    /// The names of its arguments, in the order of the declaration.
    pub arguments: &'static [&'static str],
}

impl Interface {
    /// For [`service!`](crate::service!), which checks the texts at compile time.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        topic: &'static str,
        namespace: Option<&'static str>,
        version: Version,
        error_module: &'static str,
        methods: &'static [Method],
    ) -> Self {
        Self { topic, namespace, version, error_module, methods }
    }

    /// The target of clients of this service: topic, namespace, and the version `major.0`, which is
    /// that of the methods without `since`.
    ///
    /// # Panics
    /// Never for a declared service: its names were checked at compile time.
    #[must_use]
    pub fn target(&self) -> Target {
        let mut target = Target::topic(Topic::new(self.topic).expect(CHECKED)).expect(CHECKED);
        target.namespace = self.namespace();
        target.with_version(Version::new(self.version.major, 0))
    }

    pub(crate) fn namespace(&self) -> Option<Namespace> {
        self.namespace.map(|namespace| Namespace::new(namespace).expect(CHECKED))
    }
}

const CHECKED: &str = "a name that was checked at compile time";

impl Method {
    /// For [`service!`](crate::service!). Without `since`, the method exists since `major.0`.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        name: &'static str,
        version: Version,
        since: Option<Version>,
        arguments: &'static [&'static str],
    ) -> Self {
        let since = match since {
            Some(since) => since,
            None => Version::new(version.major, 0),
        };
        Self { name, since, arguments }
    }
}

/// The name of a Rust identifier, which may be raw (`r#type`).
#[doc(hidden)]
#[must_use]
pub const fn plain(identifier: &'static str) -> &'static str {
    match identifier.as_bytes() {
        [b'r', b'#', ..] => identifier.split_at(2).1,
        _ => identifier,
    }
}

/// Reads the version `MAJOR.MINOR`. Anything else ends the compilation with `problem`.
#[doc(hidden)]
#[must_use]
#[track_caller]
pub const fn version(text: &str, problem: &str) -> Version {
    let bytes = text.as_bytes();
    let (mut numbers, mut part, mut digits, mut at) = ([0_u32; 2], 0, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'.' if part == 0 && digits > 0 => (part, digits) = (1, 0),
            digit @ b'0'..=b'9' if digits < 9 => {
                numbers[part] = numbers[part] * 10 + (digit - b'0') as u32;
                digits += 1;
            }
            _ => panic!("{}", problem),
        }
        at += 1;
    }
    check(part == 1 && digits > 0, problem);
    Version::new(numbers[0], numbers[1])
}

/// Ends the compilation with `problem` unless `good`.
#[doc(hidden)]
#[track_caller]
pub const fn check(good: bool, problem: &str) {
    if !good {
        panic!("{}", problem);
    }
}

/// Whether `text` is a valid name (see [`Topic`]).
#[doc(hidden)]
#[must_use]
pub const fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_graphic() || matches!(bytes[at], b'/' | b'\\') {
            return false;
        }
        at += 1;
    }
    !matches!(bytes, [] | b"." | b"..") && bytes.len() <= MAX_NAME_BYTES
}

/// Whether a method can be called from outside, and the generated code has no function of its name.
#[doc(hidden)]
#[must_use]
pub const fn is_free(method: &str) -> bool {
    !matches!(method.as_bytes(), [b'_', ..] | b"new" | b"target" | b"with_context" | b"into_endpoint")
}

/// Whether a server of `version` has what exists since `since`, and the major version is the same.
#[doc(hidden)]
#[must_use]
pub const fn covers(version: Version, since: Version) -> bool {
    version.major == since.major && version.minor >= since.minor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_of_names_at_compile_time_is_that_of_names() {
        let longest = "x".repeat(MAX_NAME_BYTES);
        for text in ["a", "nova.compute", "...", "host@x", "", ".", "..", "a b", "a/b", "a\\b", "\u{e9}", &longest] {
            assert_eq!(is_name(text), Topic::new(text).is_ok(), "{text:?}");
        }
        assert!(is_name(&longest) && !is_name(&format!("{longest}x")));
    }

    #[test]
    fn versions_are_read_as_they_are_at_run_time() {
        for text in ["1.0", "1.2", "1.10", "12.345"] {
            assert_eq!(version(text, "bad"), text.parse().unwrap());
        }
        for text in ["1", "1.", ".1", "1.2.3", "-1.2", "1.2f32", "\"1.2\"", "1e3", "1234567890.0"] {
            std::panic::catch_unwind(|| version(text, "bad")).unwrap_err();
        }
    }

    #[test]
    fn a_version_covers_what_came_earlier_in_its_major_version() {
        let since = Version::new(2, 1);
        let covers = |major, minor| covers(Version::new(major, minor), since);
        assert!(covers(2, 1) && covers(2, 2));
        assert!(!covers(2, 0) && !covers(1, 1) && !covers(3, 1) && !covers(3, 0));
    }

    #[test]
    fn raw_identifiers_lose_their_mark() {
        assert_eq!([plain("r#type"), plain("type"), plain("r")], ["type", "type", "r"]);
    }
}
