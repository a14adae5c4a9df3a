//! Endpoints: the methods that a server offers.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::observe::Verb;
use zmqv2_proto::{
    Failure, Header, InvalidName, Kind, MessageId, MethodName, Namespace, NodeName, Reply, Request, RequestContext,
    ServerName, Version, json_text,
};

use crate::handler_error::{HandlerError, MODULE};
use crate::interceptor::Received;
use crate::interceptor::chain::{Around, Interceptors};
use crate::runtime::cancellation::Cancellation;

/// A request, as a handler sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// Method, arguments, context.
    pub request: Request,
    /// The message's id. It is the same if the client sends the request again.
    pub id: MessageId,
    /// The caller's node. `None`: the caller or its broker is of an earlier version.
    pub node: Option<NodeName>,
    /// The caller gives up at this time.
    pub deadline: Instant,
    /// Whether the caller still waits. A clone of it can be sent to other threads.
    pub cancellation: Cancellation,
}

impl Incoming {
    /// Runs the interceptors before this request.
    pub(crate) fn before(
        &mut self,
        interceptors: &Interceptors,
        header: &Header,
        server: &ServerName,
    ) -> Result<Around, HandlerError> {
        if interceptors.is_empty() {
            return Ok(Around::default());
        }
        let verb = match header.kind {
            Kind::Call => Verb::Call,
            Kind::Fanout => Verb::Fanout,
            _ => Verb::Cast,
        };
        let Request { method, namespace, version, context, .. } = &mut self.request;
        interceptors.before(&mut Received {
            verb,
            topic: header.key.as_ref(),
            server,
            method: method.as_str(),
            interface: (namespace.as_ref(), *version),
            id: self.id,
            node: self.node.as_ref(),
            deadline: self.deadline,
            attempt: None,
            context,
        })
    }

    /// The caller's context.
    #[must_use]
    pub fn context(&self) -> &RequestContext {
        &self.request.context
    }

    /// Whether nobody waits for the result any more: the deadline has passed, or the caller has given
    /// up or ended. A cast is never cancelled. See [`Cancellation`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// The method that the caller asks for.
    #[must_use]
    pub fn method(&self) -> &MethodName {
        &self.request.method
    }

    /// The arguments as a typed value.
    ///
    /// # Errors
    /// A [`HandlerError`] that tells the caller which type does not fit.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        self.request.args().map_err(|error| {
            let detail = format!("arguments of {}: {error}", self.request.method);
            HandlerError::expected(Failure::new(MODULE, "InvalidArguments", detail))
        })
    }
}

/// The result of a handler: JSON for the caller, or an error.
pub type HandlerResult = Result<Reply, HandlerError>;

/// Turns a handler's value into its result.
///
/// # Errors
/// A [`HandlerError`] when `value` has no JSON form.
pub fn reply(value: &(impl Serialize + ?Sized)) -> HandlerResult {
    Ok(Reply::Result(json_text(value)?))
}

/// A set of methods under one namespace and version. Implement it for a service with state. For a
/// few closures, use [`Methods`].
///
/// Several workers call it at the same time, so it must be `Sync`.
///
/// ```
/// use zmqv2_server::{Endpoint, HandlerResult, Incoming, MethodName, Version, reply};
///
/// struct Compute;
///
/// impl Endpoint for Compute {
///     fn version(&self) -> Version {
///         Version::new(1, 4)
///     }
///
///     fn has_method(&self, method: &MethodName) -> bool {
///         ["add", "describe"].contains(&method.as_str())
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
    /// The endpoint's namespace. `None`: it takes requests without a namespace.
    fn namespace(&self) -> Option<&Namespace> {
        None
    }

    /// The version of the endpoint's interface. It takes requests of the same major version and of
    /// at most this minor version.
    fn version(&self) -> Version {
        Version::DEFAULT
    }

    /// Whether the endpoint takes requests of this namespace and version. The default is the rule
    /// of oslo.messaging. An endpoint that forwards everything may return `true`.
    fn serves(&self, namespace: Option<&Namespace>, version: Version) -> bool {
        self.namespace() == namespace && self.version().serves(version)
    }

    /// Whether the endpoint has this method. A cast of a method that no endpoint has is refused with
    /// `NoMethod`. The default is `true`, for endpoints that know it only when they run: the server
    /// then acknowledges the cast, logs a warning and counts a failed cast.
    fn has_method(&self, method: &MethodName) -> bool {
        let _ = method;
        true
    }

    /// Runs a method. `None`: there is no such method. A panic becomes an error for the caller, and
    /// the worker goes on.
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
    /// No methods, version 1.0, no namespace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes requests of this namespace.
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

    /// Adds a method that gets the whole request: context, deadline, arguments as JSON text.
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

    fn has_method(&self, method: &MethodName) -> bool {
        self.handlers.contains_key(method)
    }

    fn call(&self, incoming: &Incoming) -> Option<HandlerResult> {
        self.handlers.get(incoming.method()).map(|handler| handler(incoming))
    }
}
