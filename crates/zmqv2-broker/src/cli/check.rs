//! `--check-config`: finds what a start would refuse, changes nothing, and contacts nobody.

use std::io;

use zmqv2_proto::Address;
use zmqv2_proto::config::check_ipc_dir;
use zmqv2_proto::transport::{Role, Transport, TransportError};

use super::{Failure, Setup};
use crate::store::FileStore;
use crate::{BrokerError, Settings};

/// Checks every option that a broker uses at its start.
///
/// A port that is in use is no error, because it may be the port of the broker that this
/// configuration belongs to.
pub(super) fn check(setup: &Setup) -> Result<(), Failure> {
    let config = &setup.config;
    // Opening contacts nobody.
    zmqv2_matchmaker::open(config).map_err(Failure::usage)?;
    check_ipc_dir(config).map_err(Failure::usage)?;
    let settings = Settings::new(config, Default::default()).map_err(Failure::usage)?;
    if let Some(path) = &settings.notification_store {
        FileStore::check(path).map_err(Failure::usage)?;
    }
    let mut socket = Transport::new(settings.transport.clone()).socket(Role::Router)?;
    match socket.bind(&Address::Tcp(settings.bind)) {
        Err(TransportError::Bind { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => Ok(()),
        bound => bound.map(drop).map_err(|source| Failure::usage(BrokerError::Bind { source })),
    }
}
