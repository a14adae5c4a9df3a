//! Errors that a server answered with.

use std::fmt;

use zmqv2_proto::{DISPATCHER_MODULE, Failure, NodeName, ServerName};

/// Modules that every client allows.
const BUILT_IN_MODULES: [&str; 3] = ["builtins", "exceptions", DISPATCHER_MODULE];
/// The class of an error whose module is not allowed.
const GENERIC_CLASS: &str = "RemoteError";

/// The error that a server answered with: the method failed, or the server could not run it
/// (`NoSuchMethod`, `UnsupportedVersion`).
///
/// If the client allows the module of the error, [`class`](Self::class) is the original class.
/// Otherwise it is the generic class `RemoteError`, so that a peer cannot fake an error that the
/// program acts on. Python's built-in modules and the dispatcher's module are always allowed. Allow
/// more with [`allowed_remote_modules`](crate::RpcClientBuilder::allowed_remote_modules).
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteError {
    // Boxed because it is much larger than most results.
    failure: Box<Failure>,
    allowed: bool,
    server: ServerName,
    node: NodeName,
}

impl RemoteError {
    pub(crate) fn new(failure: Box<Failure>, allowed_modules: &[String], server: ServerName, node: NodeName) -> Self {
        let module = failure.module.as_str();
        let allowed = BUILT_IN_MODULES.contains(&module) || allowed_modules.iter().any(|allowed| allowed == module);
        Self { failure, allowed, server, node }
    }

    /// The class to act on: the original class if its module is allowed, otherwise `RemoteError`.
    #[must_use]
    pub fn class(&self) -> &str {
        if self.allowed { &self.failure.class } else { GENERIC_CLASS }
    }

    /// Whether the client allows the original module.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The original class, allowed or not.
    #[must_use]
    pub fn original_class(&self) -> &str {
        &self.failure.class
    }

    /// The original module, allowed or not.
    #[must_use]
    pub fn module(&self) -> &str {
        &self.failure.module
    }

    /// The message of the error.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.failure.message
    }

    /// The lines of the traceback. There may be none.
    #[must_use]
    pub fn traceback(&self) -> &[String] {
        &self.failure.tb
    }

    /// Everything that the server sent, with the arguments of the original error.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// The server that answered.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// The node of that server.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { class, module, message, .. } = &*self.failure;
        if self.allowed {
            return write!(f, "{class}: {message}");
        }
        f.write_str("remote error: ")?;
        if !module.is_empty() {
            write!(f, "{module}.")?;
        }
        write!(f, "{class}: {message}")
    }
}

impl std::error::Error for RemoteError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(module: &str) -> RemoteError {
        let failure = Failure::new(module, "Broken", "no disk").with_traceback(["line 1".to_owned()]);
        RemoteError::new(
            Box::new(failure),
            &["nova.exception".to_owned()],
            "s1".parse().unwrap(),
            "n1".parse().unwrap(),
        )
    }

    #[test]
    fn allowed_and_built_in_modules_come_back_as_themselves_rg38() {
        for module in ["nova.exception", "builtins", "exceptions", DISPATCHER_MODULE] {
            let error = error(module);
            assert!(error.is_allowed(), "{module}");
            assert_eq!(error.class(), "Broken");
            assert_eq!(error.to_string(), "Broken: no disk");
        }
    }

    #[test]
    fn others_come_back_generic_but_readable_rg38() {
        for module in ["nova.exception.deep", "nova", "Builtins", "os"] {
            let error = error(module);
            assert_eq!((error.class(), error.original_class()), ("RemoteError", "Broken"));
            assert_eq!(error.to_string(), format!("remote error: {module}.Broken: no disk"));
            assert_eq!((error.module(), error.traceback()), (module, &["line 1".to_owned()][..]));
        }
        assert_eq!(error("").to_string(), "remote error: Broken: no disk");
    }
}
