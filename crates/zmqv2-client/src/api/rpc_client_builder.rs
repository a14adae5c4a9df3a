//! Making a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, Target, Version};

use crate::api::rpc_client::RpcClient;
use crate::api::setup::{ClientError, Setup, setup_setters};
use crate::delivery::request::CallOptions;
use crate::io::admission::WhenFull;
use crate::outcome::Outcome;

/// Builds an [`RpcClient`]. Everything but the target has a default.
#[derive(Debug, Clone)]
#[must_use = "call `build` to make the client"]
pub struct RpcClientBuilder {
    setup: Setup,
    options: CallOptions,
}

/// The setters that [`RpcClient`] and [`RpcClientBuilder`] share. Both have a field `options`.
macro_rules! call_setters {
    () => {
        /// Sends no message with a version above `cap` or with another major version. Use this in a
        /// rolling upgrade, while old servers still run. Default: no cap.
        pub fn version_cap(mut self, cap: Version) -> Self {
            self.options.version_cap = Some(cap);
            self
        }

        /// Sets how often a message that may be lost is sent again, with the same id: after its
        /// connection broke, after its server was lost, and after each `timeout / (retries + 1)`
        /// without an answer. Default: 0. Attempts do not become shorter than 50 ms, and the
        /// distances between repetitions grow, so not all of many retries happen.
        ///
        /// A server that still lives runs a repeated message once. *Another* server does not know
        /// what the first one ran, so use this for methods that may run twice. With retries, a cast
        /// also waits for a connection until its timeout, not only for `rpc_zmq_connect_timeout`.
        pub fn retry(mut self, retries: u32) -> Self {
            self.options.retries = retries;
            self
        }

        /// Sets whether a message waits, within its timeout, until its target has a server. If none
        /// comes, the message is refused with `Expired` and never runs. Default: no, it is refused
        /// at once with `NoRoute`.
        pub fn wait_for_ready(mut self, wait: bool) -> Self {
            self.options.wait_for_ready = wait;
            self
        }

        /// Monitors calls, so that the caller of a long call learns early when it is lost. Every
        /// half of `timeout`, the client asks the broker whether it still has the call. Default:
        /// calls are not monitored.
        ///
        /// - If the broker does not have the call any more, the call ends as
        ///   [`Refused`](crate::CallError::Refused) with the reason `ServerLost`.
        /// - If the process of the server that has the call gives no sign of life for `timeout`, but
        ///   for 2 s at least, the call ends as [`Refused`](crate::CallError::Refused) with the
        ///   reason `ServerLost`. A handler that takes long in a process that lives is no reason.
        /// - If the broker does not answer within `timeout`, the call ends as
        ///   [`Timeout`](crate::CallError::Timeout), with an `after` below the timeout of the call.
        ///
        /// With [`retry`](Self::retry), the call is sent again in all these cases. The
        /// [`timeout`](Self::timeout) of the call still holds.
        ///
        /// The minimum is 100 ms. Choose much more than the time that your largest request needs to
        /// cross the network, because a broker does not know a request that has not arrived. A
        /// blocking call is not monitored after [`close`](crate::RpcClient::close).
        ///
        /// ```no_run
        /// # use std::time::Duration;
        /// # use zmqv2_client::{Reason, RequestContext, RpcClient, Target};
        /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// let client = RpcClient::builder(Target::topic("backup")?)
        ///     .timeout(Duration::from_secs(6 * 3600))
        ///     .call_monitor_timeout(Duration::from_secs(30))
        ///     .build()?;
        /// match client.call::<u64>(&RequestContext::new(), "run", &()) {
        ///     Ok(bytes) => println!("{bytes} saved"),
        ///     Err(lost) if lost.reason() == Some(Reason::ServerLost) => println!("lost: {lost}"),
        ///     Err(error) => println!("{error}"),
        /// }
        /// # Ok(())
        /// # }
        /// ```
        pub fn call_monitor_timeout(mut self, timeout: Duration) -> Self {
            self.options.monitor = Some(timeout);
            self
        }
    };
}
pub(crate) use call_setters;

impl RpcClientBuilder {
    pub(crate) fn new(target: Target) -> Self {
        Self { setup: Setup::default(), options: CallOptions::new(target) }
    }

    call_setters!();
    setup_setters!();

    /// Sets how long a call may take. Default: the option `rpc_response_timeout` (60 s). The
    /// minimum is 1 ms, the maximum is 49 days.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Sets how long a cast or a fanout waits for its outcome. Default: the option
    /// `rpc_cast_timeout` (30 s). Minimum and maximum are those of [`timeout`](Self::timeout).
    pub fn cast_timeout(mut self, timeout: Duration) -> Self {
        self.options.cast_timeout = Some(timeout);
        self
    }

    /// Allows remote errors of these modules to keep their class, as those of the built-in modules
    /// do ([`RemoteError`](crate::RemoteError)). Default: none.
    pub fn allowed_remote_modules<M: Into<String>>(mut self, modules: impl IntoIterator<Item = M>) -> Self {
        self.setup.settings.allowed_remote_modules = modules.into_iter().map(Into::into).collect();
        self
    }

    /// Makes the client. No connection is opened, so the broker may start later.
    ///
    /// # Errors
    /// [`ClientError`] if settings are missing or do not fit together.
    pub fn build(self) -> Result<RpcClient, ClientError> {
        let Self { setup, mut options } = self;
        let target =
            Arc::unwrap_or_clone(options.target).with_default_exchange(&setup.settings.config.control_exchange);
        options.caller = Some(setup.settings.config.host.clone());
        (options.key, options.target) = (target.key(), Arc::new(target));
        Ok(RpcClient::new(Arc::new(setup.build()?), options))
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_proto::config::MatchmakerKind;

    use super::*;

    fn builder(change: impl FnOnce(&mut Config)) -> RpcClientBuilder {
        let mut config = Config::default();
        change(&mut config);
        RpcClient::builder(Target::topic("t").unwrap()).config(config)
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let missing = builder(|config| {
            config.matchmaker = MatchmakerKind::Ring;
            config.ring_file = "/nowhere/ring.json".into();
        });
        let error = missing.build().unwrap_err().to_string();
        assert!(error.contains("/nowhere/ring.json"), "{error}");
        let deep = builder(|_| {}).ipc_dir("/".repeat(200)).build().unwrap_err();
        assert!(deep.to_string().contains("rpc_zmq_ipc_dir"), "{deep}");
    }

    #[test]
    fn the_configured_exchange_is_used_unless_the_target_names_one() {
        let target_of = |target: Target| {
            let mut config = Config::default();
            config.control_exchange = "nova".parse().unwrap();
            RpcClient::builder(target).config(config).build().unwrap().target().key().to_string()
        };
        assert_eq!(target_of(Target::topic("t").unwrap()), "nova/t");
        assert_eq!(target_of(Target::topic("t").unwrap().with_exchange("openstack").unwrap()), "openstack/t");
    }

    #[test]
    fn the_default_timeout_is_that_of_responses_rg29() {
        let client = builder(|config| {
            config.response_timeout = Duration::from_secs(7);
            config.cast_timeout = Duration::from_secs(3);
            config.connect_timeout = Duration::from_secs(2);
        });
        assert_eq!(client.build().unwrap().prepare().call_timeout(), Duration::from_secs(7));
    }
}
