//! Endpoints: what a server offers, and how a handler is written.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::{
    Failure, InvalidName, MessageId, MethodName, Namespace, Reply, Request, RequestContext, Version, json_text,
};

/// What a handler gets to know about a request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// Method, arguments, context.
    pub request: Request,
    /// The message's id; the same in every resend.
    pub id: MessageId,
    /// When the caller gives up: what is not done by then is done for nobody.
    pub deadline: Instant,
}

impl Incoming {
    pub(crate) fn new(request: Request, id: MessageId, deadline: Instant) -> Self {
        Self { request, id, deadline }
    }

    /// The caller's context.
    #[must_use]
    pub fn context(&self) -> &RequestContext {
        &self.request.context
    }

    /// The method asked for.
    #[must_use]
    pub fn method(&self) -> &MethodName {
        &self.request.method
    }

    /// The arguments as a typed value.
    ///
    /// # Errors
    /// A [`HandlerError`] that tells the caller what was expected.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        self.request.args().map_err(|error| {
            let detail = format!("arguments of {}: {error}", self.request.method);
            HandlerError::expected(Failure::new(MODULE, "InvalidArguments", detail))
        })
    }
}

/// The module of failures that this crate itself raises, other than the dispatcher's.
pub(crate) const MODULE: &str = "zmqv2.server";

/// The error of a handler, as it goes to the caller.
///
/// Any [`std::error::Error`] becomes one through `?`: its type is the class, its text the message, its sources the traceback.
pub struct HandlerError {
    failure: Box<Failure>,
    expected: bool,
}

impl HandlerError {
    /// An error of this class and message.
    #[must_use]
    pub fn new(module: impl Into<String>, class: impl Into<String>, message: impl Into<String>) -> Self {
        Self { failure: Box::new(Failure::new(module, class, message)), expected: false }
    }

    /// An error that is part of the interface, such as "not found": it goes to the caller as any other, but is not
    /// logged as a failure of this server.
    #[must_use]
    pub fn expected(failure: Failure) -> Self {
        Self { failure: Box::new(failure), expected: true }
    }

    /// Whether it is part of the interface.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        self.expected
    }

    /// What goes to the caller.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    pub(crate) fn into_failure(self) -> Box<Failure> {
        self.failure
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failure)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failure)
    }
}

// Not an `Error` itself: that would collide with this conversion, which is what makes `?` work in handlers.
impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let path = std::any::type_name::<E>();
        // `a::b::C<d::E>` is class `C<d::E>` in module `a::b`.
        let name = path.split('<').next().unwrap_or(path);
        let (module, class) = name.rsplit_once("::").unwrap_or(("", name));
        let mut chain = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            chain.push(format!("caused by: {cause}"));
            source = cause.source();
        }
        let failure = Failure::new(module, class, error.to_string()).with_traceback(chain);
        Self { failure: Box::new(failure), expected: false }
    }
}

/// What a handler comes to: JSON for the caller, or an error.
pub type HandlerResult = Result<Reply, HandlerError>;

/// Turns a handler's value into its result.
///
/// # Errors
/// A [`HandlerError`] when `value` has no JSON form.
pub fn reply(value: &(impl Serialize + ?Sized)) -> HandlerResult {
    Ok(Reply::Result(json_text(value)?))
}

/// A set of methods under one namespace and version. Implement it for a service with state; for a few closures, use
/// [`Methods`].
///
/// Called by several workers at once, so `Sync`.
///
/// ```
/// use zmqv2_server::{Endpoint, HandlerResult, Incoming, Version, reply};
///
/// struct Compute;
///
/// impl Endpoint for Compute {
///     fn version(&self) -> Version {
///         Version::new(1, 4)
///     }
///
///     fn call(&self, incoming: &Incoming) -> Option<HandlerResult> {
///         Some(match incoming.method().as_str() {
///             "add" => incoming.args::<(i64, i64)>().and_then(|(a, b)| reply(&(a + b))),
///             "describe" => reply("adds numbers"),
///             _ => return None,
///         })
///     }
/// }
/// # assert_eq!(Compute.version().minor, 4);
/// ```
pub trait Endpoint: Send + Sync {
    /// The namespace that it answers to; `None`: requests without one.
    fn namespace(&self) -> Option<&Namespace> {
        None
    }

    /// The version of its interface; requests of the same major and at most this minor reach it.
    fn version(&self) -> Version {
        Version::DEFAULT
    }

    /// Whether a request for this interface is for this endpoint. The default is the rule of oslo.messaging; an endpoint
    /// that passes everything on may say yes to all.
    fn serves(&self, namespace: Option<&Namespace>, version: Version) -> bool {
        self.namespace() == namespace && self.version().serves(version)
    }

    /// Runs a method; `None` when it has no such method. A panic in here is an error for the caller, and the worker goes on.
    fn call(&self, incoming: &Incoming) -> Option<HandlerResult>;
}

type Handler = Box<dyn Fn(&Incoming) -> HandlerResult + Send + Sync>;

/// An endpoint made of closures.
///
/// ```
/// use zmqv2_server::{Endpoint, Methods};
///
/// # fn main() -> Result<(), zmqv2_server::InvalidName> {
/// let methods = Methods::new()
///     .method("add", |(a, b): (i64, i64)| Ok(a + b))?
///     .method("greet", |name: String| {
///         if name.is_empty() { return Err(std::io::Error::other("no name"))?; }
///         Ok(format!("hello {name}"))
///     })?;
/// # let _: &dyn Endpoint = &methods;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Methods {
    namespace: Option<Namespace>,
    version: Version,
    handlers: HashMap<MethodName, Handler>,
}

impl Methods {
    /// No methods yet; version 1.0, without namespace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers to this namespace.
    ///
    /// # Errors
    /// [`InvalidName`] when `namespace` is not a valid namespace.
    pub fn namespace(mut self, namespace: impl AsRef<str>) -> Result<Self, InvalidName> {
        self.namespace = Some(Namespace::new(namespace)?);
        Ok(self)
    }

    /// Offers this version of the interface.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Adds a method with typed arguments and result.
    ///
    /// # Errors
    /// [`InvalidName`] when `name` is not a valid method.
    pub fn method<A, R, F>(self, name: impl AsRef<str>, handler: F) -> Result<Self, InvalidName>
    where
        A: DeserializeOwned,
        R: Serialize,
        F: Fn(A) -> Result<R, HandlerError> + Send + Sync + 'static,
    {
        self.raw(name, move |incoming| reply(&handler(incoming.args()?)?))
    }

    /// Adds a method that sees the whole request: context, deadline, arguments as JSON text.
    ///
    /// # Errors
    /// [`InvalidName`] when `name` is not a valid method.
    pub fn raw<F>(mut self, name: impl AsRef<str>, handler: F) -> Result<Self, InvalidName>
    where
        F: Fn(&Incoming) -> HandlerResult + Send + Sync + 'static,
    {
        self.handlers.insert(MethodName::new(name)?, Box::new(handler));
        Ok(self)
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.handlers.keys().collect();
        f.debug_struct("Methods").field("version", &self.version).field("methods", &names).finish_non_exhaustive()
    }
}

impl Endpoint for Methods {
    fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    fn version(&self) -> Version {
        self.version
    }

    fn call(&self, incoming: &Incoming) -> Option<HandlerResult> {
        self.handlers.get(incoming.method()).map(|handler| handler(incoming))
    }
}
