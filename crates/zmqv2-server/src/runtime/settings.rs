//! The settings and methods that both kinds of servers have.

use std::path::PathBuf;

use zmqv2_proto::Config;
use zmqv2_proto::control::{MAX_PLACES, MAX_WORKERS};
use zmqv2_proto::transport::Transport;

use crate::error::ServerError;
use crate::interceptor::chain::Interceptors;

#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) workers: Option<usize>,
    pub(crate) config: Config,
    pub(crate) ipc_dir: Option<PathBuf>,
    pub(crate) transport: Option<Transport>,
    pub(crate) interceptors: Interceptors,
}

impl Settings {
    /// The number of workers: the one that was asked for, or else `default`.
    pub(crate) fn workers_or(&self, default: usize) -> Result<u16, ServerError> {
        let count = self.workers.unwrap_or(default);
        let workers = u16::try_from(count).ok().filter(|count| (1..=MAX_WORKERS).contains(count));
        workers.ok_or(ServerError::Workers(count))
    }

    /// The number of places: the one that was asked for, or else `default`.
    pub(crate) fn places_or(&self, default: usize) -> Result<u16, ServerError> {
        let count = self.workers.unwrap_or(default);
        let places = u16::try_from(count).ok().filter(|count| (1..=MAX_PLACES).contains(count));
        places.ok_or(ServerError::Places(count))
    }
}

/// The setters that both builders have, for a field `settings`. Takes the documentation of
/// `workers`.
macro_rules! settings_setters {
    ($(#[doc = $workers:literal])+) => {
        $(#[doc = $workers])+
        #[must_use]
        pub fn workers(mut self, workers: usize) -> Self {
            self.settings.workers = Some(workers);
            self
        }

        $crate::runtime::settings::common_setters!();
        $crate::runtime::settings::interceptor_setter!();
    };
}

/// The setters that all builders have, for a field `settings`.
macro_rules! common_setters {
    () => {
        /// The configuration. Default: [`Config::default`].
        #[must_use]
        pub fn config(mut self, config: Config) -> Self {
            self.settings.config = config;
            self
        }

        /// The socket directory of the node's broker. Default: the configured one.
        #[must_use]
        pub fn ipc_dir(mut self, dir: impl Into<PathBuf>) -> Self {
            self.settings.ipc_dir = Some(dir.into());
            self
        }

        /// Shares a transport, and so one libzmq context, with clients of the same process.
        #[must_use]
        pub fn transport(mut self, transport: Transport) -> Self {
            self.settings.transport = Some(transport);
            self
        }
    };
}

/// The setter of builders of servers that run handlers, for a field `settings`.
macro_rules! interceptor_setter {
    () => {
        /// Adds an [`Interceptor`](crate::Interceptor), which sees everything that arrives before its
        /// handler runs, and after it has ended. Default: none.
        #[must_use]
        pub fn interceptor(mut self, interceptor: impl crate::Interceptor) -> Self {
            self.settings.interceptors.add(interceptor);
            self
        }
    };
}

/// The methods that both kinds of running servers have, for a field `service`.
macro_rules! service_methods {
    () => {
        /// The id of this run.
        #[must_use]
        pub fn instance(&self) -> InstanceId {
            self.service.instance
        }

        /// Whether the broker has accepted the registration. It is `false` again while the broker
        /// is away.
        #[must_use]
        pub fn is_ready(&self) -> bool {
            self.service.is_ready()
        }

        /// Waits until the broker has accepted the registration. From then on work can come.
        ///
        /// # Errors
        /// [`ServerError::NotReady`] after `timeout`. The server goes on trying.
        pub fn wait_ready(&self, timeout: Duration) -> Result<(), ServerError> {
            self.service.wait_ready(timeout)
        }
    };
}

pub(crate) use {common_setters, interceptor_setter, service_methods, settings_setters};

#[cfg(test)]
#[path = "tests/settings.rs"]
mod tests;
