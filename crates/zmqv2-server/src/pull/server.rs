//! A server whose program asks for requests, and answers them when it wants to.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, InstanceId, ReceiverKind, ServerName, Target};

use super::queue::PullQueue;
use super::repeats::Repeats;
use super::request::PulledRequest;
use crate::error::ServerError;
use crate::rpc::counters::{LiveCounters, ServerCounters};
use crate::runtime::rep_worker::Batch;
use crate::runtime::service::{Offer, Service};
use crate::runtime::settings::{Settings, common_setters, service_methods};
use crate::runtime::shared_socket::Inbox;

/// Builds a [`PullServer`].
#[derive(Debug)]
pub struct PullServerBuilder {
    target: Target,
    settings: Settings,
}

impl PullServerBuilder {
    /// How many requests may be open at the same time, from their arrival until they are answered:
    /// 1 to [`MAX_PLACES`](zmqv2_proto::control::MAX_PLACES). The broker sends no more. Default: option `rpc_thread_pool_size` (64).
    #[must_use]
    pub fn places(mut self, places: usize) -> Self {
        self.settings.workers = Some(places);
        self
    }

    common_setters!();

    /// Starts the server: binds its socket, and registers at the node's broker as soon as there is
    /// one. [`PullServer::wait_ready`] tells when work can come.
    ///
    /// # Errors
    /// [`ServerError`]: the server cannot start as asked.
    pub fn start(self) -> Result<PullServer, ServerError> {
        let Self { target, settings } = self;
        let queue = Arc::new(PullQueue::new(Repeats::default())?);
        let (target, service) = start_deferred(target, settings, Arc::clone(&queue) as Arc<dyn Inbox>)?;
        Ok(PullServer { target, counters: Arc::default(), queue, service })
    }
}

/// Starts an RPC server that gives its requests to `inbox`. Returns its full target.
pub(crate) fn start_deferred(
    target: Target,
    settings: Settings,
    inbox: Arc<dyn Inbox>,
) -> Result<(Target, Service), ServerError> {
    let workers = settings.places_or(settings.config.thread_pool_size)?;
    let mut target = target.with_default_exchange(&settings.config.control_exchange);
    let server = match &target.server {
        Some(server) => server.clone(),
        None => ServerName::new(settings.config.host.as_str())?,
    };
    target.server = Some(server.clone());
    let (receiver, also, batch, window) = (ReceiverKind::Server, Vec::new(), Batch::ONE, settings.config.window);
    let offer = Offer { receiver, key: target.key(), also, server, workers, batch, shares_socket: true, window };
    let service = Service::start_deferred(settings, offer, inbox)?;
    Ok((target, service))
}

/// A server for programs with a loop of their own, such as gateways and drivers of other languages.
/// The program [polls](Self::poll) for requests, and answers each from any thread, later.
///
/// Its clients see no difference to an [`RpcServer`](crate::RpcServer). Dropping it stops it as
/// [`stop`](Self::stop) does.
///
/// Its descriptor ([`AsFd`]) is readable while a poll would return at once, for event loops. Nobody
/// else may read from it.
///
/// ```no_run
/// use std::time::Duration;
/// use zmqv2_server::{PullServer, Target, reply};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = PullServer::builder(Target::topic("echo")?).places(1_000).start()?;
/// loop {
///     for mut request in server.poll(16, Duration::from_secs(1)) {
///         request.acknowledge();
///         // Any thread may do this, at any time.
///         let text = format!("{} bytes", request.body().len());
///         request.reply(&reply(&text).unwrap());
///     }
/// }
/// # }
/// ```
pub struct PullServer {
    target: Target,
    counters: Arc<LiveCounters>,
    queue: Arc<PullQueue<Repeats>>,
    service: Service,
}

impl PullServer {
    /// A builder of a server for the topic of `target`. If `target` has no exchange, option
    /// `control_exchange` gives it. If it has no server name, option `rpc_zmq_host` gives it.
    #[must_use]
    pub fn builder(target: Target) -> PullServerBuilder {
        PullServerBuilder { target, settings: Settings::default() }
    }

    /// Takes up to `most` requests, in the order in which they came. If there are none, waits for the
    /// first one, at most for `timeout`. Requests whose time has ended are refused and not returned.
    ///
    /// After [`drain`](Self::drain) it does not wait. Once it has then returned nothing, requests that
    /// still come go back to the broker. In a process that was forked later it returns nothing.
    #[must_use]
    pub fn poll(&self, most: usize, timeout: Duration) -> Vec<PulledRequest> {
        let Self { queue, counters, .. } = self;
        if !self.service.is_own() {
            return Vec::new();
        }
        let requests = queue.poll(most, timeout);
        requests.into_iter().map(|request| PulledRequest::new(request, &queue.gate, counters)).collect()
    }

    /// Begins to stop: the broker sends no new requests, and every [`poll`](Self::poll) returns what
    /// is there without waiting. Does not wait.
    ///
    /// # Errors
    /// [`ServerError::Inherited`]: the server is in the parent of this process.
    pub fn drain(&self) -> Result<(), ServerError> {
        self.service.begin_stop()?;
        self.queue.drain();
        Ok(())
    }

    /// Stops: gives back the requests that nobody has polled, waits for the answers of the others
    /// (within option `rpc_zmq_drain_timeout`), and unregisters. A second call does nothing.
    ///
    /// # Errors
    /// [`ServerError::Unfinished`]: requests were still open at the end of that time.
    /// [`ServerError::Inherited`]: the server is in the parent of this process.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.drain()?;
        self.queue.close();
        self.service.stop()
    }

    /// The server's target, with exchange and server name.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Counts the requests of this server, and those that failed. A request counts when it is
    /// acknowledged or answered.
    #[must_use]
    pub fn counters(&self) -> ServerCounters {
        self.counters.read()
    }

    service_methods!();
}

impl AsFd for PullServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.fd()
    }
}

impl Drop for PullServer {
    fn drop(&mut self) {
        // The service stops, with a warning if requests are still open.
        if self.drain().is_ok() {
            self.queue.close();
        }
    }
}

impl fmt::Debug for PullServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullServer")
            .field("target", &self.target)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
