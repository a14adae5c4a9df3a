//! Starts a broker. This is a separate file, so that `mod.rs` holds the loop alone.

use std::sync::Arc;

use mio::Poll;
use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::transport::{AdaptivePoll, LEAST_FOR_BROKER, open_file_limit};

use super::Broker;
use super::actions::Routing;
use super::inbox::Inbox;
use super::ready_list::Source;
use super::restore::restore;
use super::shutdown::Shutdown;
use super::sockets::Sockets;
use super::status::StatusReporter;
use super::unread::UnreadAnswers;
use crate::directory::registrar::Registrar;
use crate::error::BrokerError;
use crate::settings::Settings;
use crate::startup::lock::Lock;
use crate::startup::socket_sweeper;
use crate::store::writer::StoreWriter;

impl Broker {
    /// Locks the socket directory, removes the sockets of crashed servers, and binds.
    ///
    /// # Errors
    /// [`BrokerError`] names the cause and the option to change.
    pub fn open(settings: Settings, directory: Arc<dyn Matchmaker>) -> Result<Self, BrokerError> {
        let limit = open_file_limit();
        if limit < LEAST_FOR_BROKER {
            return Err(BrokerError::OpenFiles { limit });
        }
        let settings = settings.bounded();
        let mut lock = Lock::take(&settings.ipc_dir)?;
        let poll = Poll::new().map_err(BrokerError::Events)?;
        let waker = mio::Waker::new(poll.registry(), Source::Waker.into()).map_err(BrokerError::Events)?;
        let waker = Arc::new(waker);
        let (store, contents) = StoreWriter::open(settings.notification_store.as_deref(), Arc::clone(&waker))?;
        socket_sweeper::sweep_now(&settings.ipc_dir);
        let (sockets, address) = Sockets::bind(&settings, poll)?;
        lock.describe(&format!("process {} at tcp://{address}", std::process::id()));
        let node = settings.node_at(&address);
        let registrar = Registrar::start(directory, node, settings.renew_every, settings.lease);
        let registrar = registrar.map_err(BrokerError::Events)?;
        let unread = UnreadAnswers::new(settings.unread_bytes);
        let (node, largest) = (settings.node.clone(), settings.max_message_bytes);
        let mut routing = Routing::new(settings.limits, sockets, unread, node, largest, registrar, store);
        restore(&mut routing, contents);
        Ok(Self {
            inbox: Inbox::new(settings.max_message_bytes, StatusReporter::new(&settings, &address)),
            shutdown: Shutdown::new(waker, settings.drain_timeout),
            pace: AdaptivePoll::new(settings.transport.adaptive_poll),
            settings,
            address,
            routing,
            _lock: lock,
        })
    }
}
