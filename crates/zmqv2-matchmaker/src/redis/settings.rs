//! The settings of the Redis directory.

use std::fmt;
use std::path::PathBuf;

use zmqv2_proto::config::Secret;
use zmqv2_proto::{Config, TcpAddress};

use super::connection::{RedisFailure, client, remedy};
use crate::api::MatchmakerError;

/// Where Redis is and how to connect to it: the options of `[matchmaker_redis]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisSettings {
    /// Where the primary is.
    pub location: RedisLocation,
    /// The number of the database.
    pub database: u16,
    /// The user. Redis before version 6 has only a password.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The files of TLS. `None`: connections are not encrypted.
    pub tls: Option<RedisTls>,
}

/// Where the primary is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisLocation {
    /// At this address.
    Server(TcpAddress),
    /// These Sentinels know the address.
    Sentinel {
        /// Their addresses.
        sentinels: Vec<TcpAddress>,
        /// The name of the group of servers.
        group: String,
        /// The password of the Sentinels.
        password: Option<Secret>,
    },
}

/// PEM files of TLS.
///
/// The first TLS connection makes `ring` the default crypto provider of `rustls` for the process,
/// unless the program has chosen one before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RedisTls {
    /// The authorities that may sign the server's certificate. `None`: those that the system
    /// trusts.
    pub ca_file: Option<PathBuf>,
    /// This side's certificate.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate.
    pub key_file: Option<PathBuf>,
}

impl RedisSettings {
    /// The settings of `config`.
    ///
    /// # Errors
    /// [`MatchmakerError::Misconfigured`] when the host is not an address, or a user has no
    /// password.
    pub fn new(config: &Config) -> Result<Self, MatchmakerError> {
        let misconfigured = |problem, remedy| {
            let directory = "redis".to_owned();
            MatchmakerError::Misconfigured { directory, problem, remedy }
        };
        if let (Some(user), None) = (&config.redis_user, &config.redis_password) {
            // Redis identifies a user only together with a password.
            let remedy = format!("{}; any text will do for a user that needs none", remedy("user or password"));
            return Err(misconfigured(format!("the user {user:?} has no password"), remedy));
        }
        let location = if config.redis_sentinel_hosts.is_empty() {
            let address = TcpAddress::new(&config.redis_host, config.redis_port);
            RedisLocation::Server(address.map_err(|error| misconfigured(error.to_string(), remedy("host")))?)
        } else {
            RedisLocation::Sentinel {
                sentinels: config.redis_sentinel_hosts.clone(),
                group: config.redis_sentinel_group.clone(),
                password: config.redis_sentinel_password.clone(),
            }
        };
        let tls = config.redis_tls.then(|| RedisTls {
            ca_file: config.redis_tls_ca_file.clone(),
            cert_file: config.redis_tls_cert_file.clone(),
            key_file: config.redis_tls_key_file.clone(),
        });
        let (user, password) = (config.redis_user.clone(), config.redis_password.clone());
        Ok(Self { location, database: config.redis_database, user, password, tls })
    }
}

impl RedisSettings {
    /// Finds what cannot work whatever Redis does. Does not connect.
    pub(super) fn check(&self) -> Result<(), RedisFailure> {
        let address = match &self.location {
            RedisLocation::Server(address) => Some(address),
            RedisLocation::Sentinel { sentinels, .. } => sentinels.first(),
        };
        address.map_or(Ok(()), |address| client(address, self.tls.as_ref()).map(drop))
    }
}

impl fmt::Display for RedisLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(address) => write!(f, "{address}"),
            Self::Sentinel { sentinels, group, .. } => {
                let sentinels: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
                write!(f, "{group:?} of Sentinel {}", sentinels.join(","))
            }
        }
    }
}
