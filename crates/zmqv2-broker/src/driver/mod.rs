//! The event loop. One thread owns every socket, feeds the engine, and carries out its actions.
//!
//! The thread waits with epoll on the notification descriptors of the sockets. libzmq reports a
//! change on such a descriptor only once, so a socket stays on the ready list, and is read without
//! waiting, until it has nothing left. A send can consume a notification as well, so a socket that
//! was sent to goes back on the list. The loop sleeps only when the list is empty. A quiet broker
//! with 500 links costs nothing, and a busy one does not look at its idle links.

mod actions;
mod clients;
mod inbox;
mod links;
mod log_limiter;
mod open;
mod opening;
mod outbox;
mod ready_list;
mod restore;
mod shutdown;
mod sockets;
mod status;
mod unread;

use std::io;
use std::time::Duration;

use mio::Events;
use zmqv2_proto::TcpAddress;
use zmqv2_proto::control::BROKER_SOCKET;
use zmqv2_proto::transport::AdaptivePoll;

use crate::error::BrokerError;
use crate::message::origin::Ingress;
use crate::settings::Settings;
use crate::startup::lock::Lock;
use crate::threads::now;
use actions::Routing;
use inbox::Inbox;
use ready_list::Source;
use shutdown::Shutdown;

pub use shutdown::Stopper;

/// The loop looks at its deadlines at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// A broker with bound sockets. [`run`](Self::run) makes it work.
///
/// `Send`, not `Sync`: it belongs to the thread that runs it. A [`Stopper`] stops the broker.
pub struct Broker {
    settings: Settings,
    address: TcpAddress,
    routing: Routing,
    inbox: Inbox,
    shutdown: Shutdown,
    pace: AdaptivePoll,
    // The last field: the lock is released when every socket is closed.
    _lock: Lock,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { settings, address, .. } = self;
        f.debug_struct("Broker").field("settings", settings).field("address", address).finish_non_exhaustive()
    }
}

impl Broker {
    /// The TCP address, with the chosen port if the settings have port 0.
    #[must_use]
    pub fn address(&self) -> &TcpAddress {
        &self.address
    }

    /// A handle that stops this broker.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.shutdown.stopper()
    }

    /// Works until it is stopped.
    ///
    /// # Errors
    /// [`BrokerError`] when the operating system reports no more events, or a socket fails.
    pub fn run(mut self) -> Result<(), BrokerError> {
        let mut events = Events::with_capacity(256);
        while !self.shutdown.is_over(&self.routing) || self.answers_late_requests()? {
            match self.wait(&mut events) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(BrokerError::Events(error)),
            }
            for source in self.routing.sockets.take_ready(&events) {
                self.visit(source)?;
                self.routing.flush_if_full();
            }
            self.routing.do_link_work();
            self.routing.expire_due();
            self.routing.flush();
            self.routing.log_refused_connections();
        }
        // libzmq leaves the file behind. No other broker can have bound it: the lock is still held.
        let _ = std::fs::remove_file(self.settings.ipc_dir.join(BROKER_SOCKET));
        let lost = self.routing.engine().notifications();
        if lost > 0 && !self.routing.store.is_durable() {
            log::warn!("{lost} notifications in memory are lost: rpc_zmq_notification_store is not set");
        }
        log::info!("stopped");
        Ok(())
    }

    /// Waits for events. If messages come quickly, or an option asks for it, this polls for a while
    /// before it sleeps.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let has_link_work = self.routing.has_link_work();
        let sockets = &mut self.routing.sockets;
        if !sockets.ready.is_empty() || has_link_work {
            return sockets.poll(events, Some(Duration::ZERO));
        }
        let deadlines = [self.routing.engine().next_deadline(), self.shutdown.ends_at(&self.routing)];
        let timeout = deadlines.into_iter().flatten().min();
        // epoll takes milliseconds as an i32, so a long sleep has a bound.
        let timeout = timeout.map(|at| at.saturating_duration_since(now()).min(LONGEST_SLEEP));
        if timeout == Some(Duration::ZERO) {
            return self.routing.sockets.poll(events, timeout);
        }
        let (received, busy_poll) = (self.inbox.take_received(), self.settings.transport.busy_poll);
        let (found, timeout) = self.pace.look(received, busy_poll, timeout, || {
            self.routing.sockets.poll(events, Some(Duration::ZERO)).map(|()| !events.is_empty())
        })?;
        if found { Ok(()) } else { self.routing.sockets.poll(events, timeout) }
    }

    /// Answers requests that came just before the end. Returns whether there were any. On a busy
    /// machine this loop may have slept longer than it asked for.
    fn answers_late_requests(&mut self) -> Result<bool, BrokerError> {
        if !self.shutdown.may_linger(&self.routing) {
            return Ok(false);
        }
        let before = self.routing.last_answer_at;
        for ingress in [Ingress::Network, Ingress::Local] {
            self.visit(Source::Ingress(ingress))?;
        }
        self.routing.flush();
        Ok(self.routing.last_answer_at > before)
    }

    /// Reads a source. It stays on the ready list while it may have more.
    fn visit(&mut self, source: Source) -> Result<(), BrokerError> {
        let may_have_more = match source {
            Source::Waker => {
                self.routing.take_store_results();
                self.shutdown.begin_if_requested(&mut self.routing);
                false
            }
            Source::Ingress(ingress) => self.inbox.read_ingress(&mut self.routing, ingress)?,
            Source::Link(worker) => self.inbox.read_link(&mut self.routing, worker)?,
        };
        if may_have_more {
            self.routing.sockets.ready.add(source);
        }
        Ok(())
    }
}
