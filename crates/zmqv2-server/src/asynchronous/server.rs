//! The asynchronous RPC server: a builder and a handle.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, InstanceId, Target};

use super::endpoint::AsyncEndpoint;
use super::executor::Executor;
use super::inbox::AsyncInbox;
use super::wait::on_thread;
use crate::error::ServerError;
use crate::pull::start_deferred;
use crate::rpc::counters::{LiveCounters, ServerCounters};
use crate::rpc::dispatcher::Dispatcher;
use crate::runtime::service::Service;
use crate::runtime::settings::{Settings, common_setters, interceptor_setter, service_methods};

/// Builds an [`AsyncRpcServer`].
pub struct AsyncRpcServerBuilder {
    target: Target,
    endpoints: Vec<Arc<dyn AsyncEndpoint>>,
    executor: Box<dyn Executor>,
    settings: Settings,
}

impl fmt::Debug for AsyncRpcServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncRpcServerBuilder")
            .field("target", &self.target)
            .field("endpoints", &self.endpoints.len())
            .field("places", &self.settings.workers)
            .finish_non_exhaustive()
    }
}

impl AsyncRpcServerBuilder {
    /// Adds an endpoint. A request goes to the first one that fits its namespace and version and
    /// has its method.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl AsyncEndpoint) -> Self {
        self.endpoints.push(Arc::new(endpoint));
        self
    }

    /// How many handlers may run at the same time: 1 to
    /// [`MAX_PLACES`](zmqv2_proto::control::MAX_PLACES). They need no thread each. Default: option
    /// `rpc_thread_pool_size` (64).
    #[must_use]
    pub fn places(mut self, places: usize) -> Self {
        self.settings.workers = Some(places);
        self
    }

    common_setters!();
    interceptor_setter!();

    /// Starts the server: binds its socket, and registers at the node's broker as soon as there is
    /// one. [`AsyncRpcServer::ready`] tells when work can come.
    ///
    /// # Errors
    /// [`ServerError`]: the server cannot start as asked.
    pub fn start(self) -> Result<AsyncRpcServer, ServerError> {
        let Self { target, endpoints, executor, mut settings } = self;
        if endpoints.is_empty() {
            return Err(ServerError::NoEndpoint);
        }
        let counters = Arc::new(LiveCounters::default());
        let (dispatcher, repeats) = (Dispatcher { endpoints }, Arc::default());
        let interceptors = std::mem::take(&mut settings.interceptors);
        let inbox = AsyncInbox { dispatcher, interceptors, executor, repeats, counters: Arc::clone(&counters) };
        let (target, service) = start_deferred(target, settings, Arc::new(inbox))?;
        Ok(AsyncRpcServer { target, counters, service: Arc::new(service) })
    }
}

/// A running server with asynchronous handlers. Dropping it begins to stop it, and does not wait.
///
/// Its clients see no difference to an [`RpcServer`](crate::RpcServer). It has one thread that reads
/// requests. The handlers run on the executor that you give, as many at the same time as there are
/// [places](AsyncRpcServerBuilder::places).
///
/// ```no_run
/// # #[cfg(feature = "tokio")]
/// # mod example {
/// use std::time::Duration;
/// use zmqv2_server::{AsyncMethods, AsyncRpcServer, Target};
///
/// async fn serve() -> Result<(), Box<dyn std::error::Error>> {
///     let methods = AsyncMethods::new().method("sleep", async |millis: u64| {
///         tokio::time::sleep(Duration::from_millis(millis)).await;
///         Ok(millis)
///     })?;
///     let target = Target::topic("sleeper")?;
///     let executor = tokio::runtime::Handle::current();
///     let server = AsyncRpcServer::builder(target, executor).endpoint(methods).places(10_000).start()?;
///     server.ready(Duration::from_secs(5)).await?;
///     // ... until it is time to go:
///     server.stop().await?;
///     Ok(())
/// }
/// # }
/// ```
pub struct AsyncRpcServer {
    target: Target,
    counters: Arc<LiveCounters>,
    service: Arc<Service>,
}

impl AsyncRpcServer {
    /// A builder of a server for the topic of `target`, whose handlers run on `executor`. If `target`
    /// has no exchange, option `control_exchange` gives it. If it has no server name, option
    /// `rpc_zmq_host` gives it.
    #[must_use]
    pub fn builder(target: Target, executor: impl Executor) -> AsyncRpcServerBuilder {
        let (endpoints, settings) = (Vec::new(), Settings::default());
        AsyncRpcServerBuilder { target, endpoints, executor: Box::new(executor), settings }
    }

    /// The server's target, with exchange and server name.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Counts the requests of this server, and those that failed.
    #[must_use]
    pub fn counters(&self) -> ServerCounters {
        self.counters.read()
    }

    service_methods!();

    /// As [`wait_ready`](Self::wait_ready), without blocking.
    ///
    /// # Errors
    /// [`ServerError::NotReady`] after `timeout`. The server goes on trying.
    pub async fn ready(&self, timeout: Duration) -> Result<(), ServerError> {
        let service = Arc::clone(&self.service);
        on_thread("wait-ready", move || service.wait_ready(timeout)).map_err(ServerError::Thread)?.await
    }

    /// Stops: takes no new requests, finishes those that it has (within option
    /// `rpc_zmq_drain_timeout`), and unregisters. A second call does nothing. A handler of this
    /// server may call it: it then only begins to stop, because it would wait for itself.
    ///
    /// # Errors
    /// [`ServerError::Unfinished`]: handlers were still running at the end of that time.
    /// [`ServerError::Inherited`]: the server is in the parent of this process.
    pub async fn stop(&self) -> Result<(), ServerError> {
        if self.service.is_in_handler() {
            return self.service.begin_stop();
        }
        let service = Arc::clone(&self.service);
        on_thread("stop", move || service.stop()).map_err(ServerError::Thread)?.await
    }
}

impl Drop for AsyncRpcServer {
    fn drop(&mut self) {
        // The last one who has the service waits for the handlers. They may need this thread.
        if self.service.begin_stop().is_ok() {
            let service = Arc::clone(&self.service);
            drop(on_thread("stop", move || drop(service)));
        }
    }
}

impl fmt::Debug for AsyncRpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncRpcServer")
            .field("target", &self.target)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
