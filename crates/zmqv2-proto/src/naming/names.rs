//! Names in messages: exchanges, topics, servers, nodes, namespaces and methods.
//!
//! A name is checked once, where it enters the program (flag, file, API, wire). All names have one
//! rule: 1 to 255 bytes of printable ASCII without white space, `/` or `\`, and neither `.` nor
//! `..`. `@`, `.` and `-` are legal: `host@backend` is a common server name. Without `/`, names can
//! be joined into keys, and a name from the network cannot leave a directory.

use std::sync::Arc;

use crate::naming::shared_text;

/// The longest name, in bytes. Its length is one byte on the wire (`docs/wire-protocol.md`).
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// How many characters of an invalid name its error shows.
const SHOWN_CHARS: usize = 40;

/// The error for a text that is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid {what} {shown:?}: {problem}; names are 1 to {MAX_NAME_BYTES} printable ASCII characters without spaces, '/' or '\\'"
)]
pub struct InvalidName {
    what: &'static str,
    shown: String,
    problem: String,
}

impl InvalidName {
    /// The kind of name, such as `topic`.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.what
    }

    pub(crate) fn new(what: &'static str, text: &str, problem: impl Into<String>) -> Self {
        let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push_str("...");
        }
        Self { what, shown, problem: problem.into() }
    }
}

/// Checks one name by the rule of this module.
fn check(what: &'static str, text: &str) -> Result<(), InvalidName> {
    let problem = if text.is_empty() {
        "it is empty".to_owned()
    } else if text.len() > MAX_NAME_BYTES {
        format!("it has {} bytes, the limit is {MAX_NAME_BYTES}", text.len())
    } else if text == "." || text == ".." {
        "it is a directory's name".to_owned()
    } else if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '/' | '\\')) {
        format!("{bad:?} is not allowed")
    } else {
        return Ok(());
    };
    Err(InvalidName::new(what, text, problem))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 255 bytes of printable ASCII without spaces, `/` or `\`. Cheap to clone (shared
        /// text).
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        shared_text!($type, $type::new);

        impl $type {
            #[allow(dead_code, reason = "only names that are parts of a key use it")]
            pub(crate) fn check(text: &str) -> Result<(), InvalidName> {
                check($what, text)
            }

            #[doc = concat!("Checks `text` and makes it a ", $what, ".")]
            ///
            /// # Errors
            /// [`InvalidName`] names the text, the problem and the rule.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                let text = text.as_ref();
                check($what, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

    };
}

name!(
    /// The scope of topics. The same topic in two exchanges is two services.
    Exchange,
    "exchange"
);
name!(
    /// The name of a service, such as `nova.compute`.
    Topic,
    "topic"
);
name!(
    /// One instance of a service, such as `host@backend`.
    ServerName,
    "server"
);
name!(
    /// The name of a node in the directory (option `rpc_zmq_host`).
    NodeName,
    "node"
);
name!(
    /// A group of near nodes, such as a rack or a data centre (option `rpc_zmq_zone`).
    Zone,
    "zone"
);
name!(
    /// The namespace of an endpoint's interface.
    Namespace,
    "namespace"
);
name!(
    /// A method of an endpoint. Methods that start with `_` cannot be called from outside.
    MethodName,
    "method"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_server_names_are_legal_rg45() {
        for text in ["host@backend", "a", "nova.compute", "x-1_2", "...", &"n".repeat(MAX_NAME_BYTES)] {
            assert_eq!(ServerName::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn hostile_names_are_refused_by_name() {
        let long = "x".repeat(10_000);
        for text in ["", "../x", "a/b", "a\\b", "a\0b", ".", "..", "a b", "\u{e9}", "a\n", &long] {
            let error = Topic::new(text).unwrap_err();
            assert_eq!(error.what(), "topic");
            let shown = error.to_string();
            assert!(shown.contains("topic") && shown.len() < 300, "{shown}");
        }
        assert!(Topic::new(&long).unwrap_err().to_string().contains("10000 bytes, the limit is 255"));
    }

    #[test]
    fn a_name_in_json_is_checked_too() {
        assert!(serde_json::from_str::<Topic>("\"ok\"").is_ok());
        assert!(serde_json::from_str::<Topic>("\"../x\"").is_err());
    }
}
