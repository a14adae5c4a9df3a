//! Endpoints whose methods are asynchronous.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::{InvalidName, MethodName, Namespace, Version};

use super::executor::BoxFuture;
use crate::handler_error::HandlerError;
use crate::rpc::dispatcher::Interface;
use crate::rpc::endpoint::{HandlerResult, Incoming, reply};

/// A set of asynchronous methods under one namespace and version: the
/// [`Endpoint`](crate::Endpoint) of an [`AsyncRpcServer`](crate::AsyncRpcServer). For a few closures,
/// use [`AsyncMethods`].
///
/// ```
/// use std::sync::Arc;
/// use zmqv2_server::{AsyncEndpoint, BoxFuture, HandlerResult, Incoming, MethodName, reply};
///
/// struct Stock {
///     parts: std::sync::Mutex<u32>,
/// }
///
/// impl AsyncEndpoint for Stock {
///     fn has_method(&self, method: &MethodName) -> bool {
///         method.as_str() == "take"
///     }
///
///     fn call(self: Arc<Self>, incoming: Arc<Incoming>) -> Option<BoxFuture<HandlerResult>> {
///         if incoming.method().as_str() != "take" {
///             return None;
///         }
///         Some(Box::pin(async move {
///             let wanted: u32 = incoming.args()?;
///             // ... wait for something ...
///             *self.parts.lock().unwrap() -= wanted;
///             reply(&wanted)
///         }))
///     }
/// }
/// ```
pub trait AsyncEndpoint: Send + Sync + 'static {
    /// As [`Endpoint::namespace`](crate::Endpoint::namespace).
    fn namespace(&self) -> Option<&Namespace> {
        None
    }

    /// As [`Endpoint::version`](crate::Endpoint::version).
    fn version(&self) -> Version {
        Version::DEFAULT
    }

    /// As [`Endpoint::serves`](crate::Endpoint::serves).
    fn serves(&self, namespace: Option<&Namespace>, version: Version) -> bool {
        self.namespace() == namespace && self.version().serves(version)
    }

    /// As [`Endpoint::has_method`](crate::Endpoint::has_method).
    fn has_method(&self, method: &MethodName) -> bool {
        let _ = method;
        true
    }

    /// Begins a method. `None`: there is no such method. The server's only reader calls it, so it
    /// must not block: the work belongs into the future. A panic becomes an error for the caller.
    fn call(self: Arc<Self>, incoming: Arc<Incoming>) -> Option<BoxFuture<HandlerResult>>;
}

impl Interface for Arc<dyn AsyncEndpoint> {
    fn namespace(&self) -> Option<&Namespace> {
        (**self).namespace()
    }

    fn version(&self) -> Version {
        (**self).version()
    }

    fn serves(&self, namespace: Option<&Namespace>, version: Version) -> bool {
        (**self).serves(namespace, version)
    }

    fn has_method(&self, method: &MethodName) -> bool {
        (**self).has_method(method)
    }
}

type Handler = Box<dyn Fn(Arc<Incoming>) -> BoxFuture<HandlerResult> + Send + Sync>;

/// An asynchronous endpoint made of closures.
///
/// ```
/// use zmqv2_server::AsyncMethods;
///
/// # fn main() -> Result<(), zmqv2_server::InvalidName> {
/// let methods = AsyncMethods::new()
///     .method("add", async |(a, b): (i64, i64)| Ok(a + b))?
///     .method("greet", async |name: String| Ok(format!("hello {name}")))?;
/// # drop(methods);
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct AsyncMethods {
    namespace: Option<Namespace>,
    version: Version,
    handlers: HashMap<MethodName, Handler>,
}

impl AsyncMethods {
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
    pub fn method<A, R, F, T>(self, name: impl AsRef<str>, handler: F) -> Result<Self, InvalidName>
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(A) -> T + Send + Sync + 'static,
        T: Future<Output = Result<R, HandlerError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.raw(name, move |incoming| {
            let handler = Arc::clone(&handler);
            async move { reply(&handler(incoming.args()?).await?) }
        })
    }

    /// Adds a method that gets the whole request: context, deadline, arguments as JSON text.
    ///
    /// # Errors
    /// [`InvalidName`] when `name` is not a valid method.
    pub fn raw<F, T>(mut self, name: impl AsRef<str>, handler: F) -> Result<Self, InvalidName>
    where
        F: Fn(Arc<Incoming>) -> T + Send + Sync + 'static,
        T: Future<Output = HandlerResult> + Send + 'static,
    {
        self.handlers.insert(MethodName::new(name)?, Box::new(move |incoming| Box::pin(handler(incoming))));
        Ok(self)
    }
}

impl fmt::Debug for AsyncMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.handlers.keys().collect();
        f.debug_struct("AsyncMethods").field("version", &self.version).field("methods", &names).finish_non_exhaustive()
    }
}

impl AsyncEndpoint for AsyncMethods {
    fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    fn version(&self) -> Version {
        self.version
    }

    fn has_method(&self, method: &MethodName) -> bool {
        self.handlers.contains_key(method)
    }

    fn call(self: Arc<Self>, incoming: Arc<Incoming>) -> Option<BoxFuture<HandlerResult>> {
        self.handlers.get(incoming.method()).map(|handler| handler(incoming))
    }
}
