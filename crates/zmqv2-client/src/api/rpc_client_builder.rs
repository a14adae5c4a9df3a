//! Making a client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, Target, Version};

use crate::api::rpc_client::RpcClient;
use crate::api::setup::{ClientError, Setup};
use crate::delivery::request::CallOptions;
use crate::io::admission::WhenFull;
use crate::outcome::Outcome;

/// Settings of a client to be. Everything but the target has a default.
#[derive(Clone)]
#[must_use = "a builder makes no client before `build`"]
pub struct RpcClientBuilder {
    target: Target,
    setup: Setup,
    timeout: Option<Duration>,
    version_cap: Option<Version>,
    cast_timeout: Option<Duration>,
    retries: u32,
    wait_for_ready: bool,
    monitor: Option<Duration>,
}

impl fmt::Debug for RpcClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClientBuilder").field("target", &self.target).finish_non_exhaustive()
    }
}

impl RpcClientBuilder {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            setup: Setup::default(),
            timeout: None,
            version_cap: None,
            cast_timeout: None,
            retries: 0,
            wait_for_ready: false,
            monitor: None,
        }
    }

    /// The options. Default: [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.setup.config = config;
        self
    }

    /// The directory that says which nodes host a topic; share one per process. Default: a new one, of the kind that
    /// the configuration names (`rpc_zmq_matchmaker`).
    pub fn matchmaker(mut self, matchmaker: Arc<dyn Matchmaker>) -> Self {
        self.setup.matchmaker = Some(matchmaker);
        self
    }

    /// The directory of this node's local sockets: the way to the broker of this node (`rpc_zmq_host`). Default: the
    /// one that the configuration leads to.
    pub fn ipc_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.setup.ipc_dir = Some(dir.into());
        self
    }

    /// How long a call may take, from the call to its return. Default: `rpc_response_timeout` (60 s). Less than 1 ms
    /// counts as 1 ms, more than [`Ttl::MAX`](zmqv2_proto::Ttl::MAX) (49 days) as that.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Send no message of a version above this, nor of another major version: for rolling upgrades, while old servers
    /// still run. Default: no cap.
    pub fn version_cap(mut self, cap: Version) -> Self {
        self.version_cap = Some(cap);
        self
    }

    /// Modules whose remote errors come back as themselves, besides the built-in ones; see
    /// [`RemoteError`](crate::RemoteError). Default: none.
    pub fn allowed_remote_modules<M: Into<String>>(mut self, modules: impl IntoIterator<Item = M>) -> Self {
        self.setup.allowed_remote_modules = modules.into_iter().map(Into::into).collect();
        self
    }

    /// Shares a libzmq context with others. Default: a context of its own, with the configuration's options.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.setup.transport = Some(transport);
        self
    }

    /// Watches over calls, so that one may take hours and its caller still learns soon that it is lost: every half of
    /// `timeout`, the broker that has the call is asked whether it is still waiting or running there. Default: calls are
    /// not monitored.
    ///
    /// A broker that does not know the call (it was lost, or the broker has restarted) ends it with
    /// [`Refused`](crate::CallError::Refused) and the reason `ServerLost`; one that does not answer within `timeout`, with
    /// [`Timeout`](crate::CallError::Timeout), whose `after` is then less than the call's own timeout. With
    /// [`retry`](Self::retry), the call is sent again in both cases. The call's [`timeout`](Self::timeout) holds as well.
    ///
    /// Less than 100 ms counts as 100 ms. Choose it well above the time that the largest request needs to cross the network: a
    /// call that has not arrived is not known. It is for `call` and `call_async`; a call that blocks is not monitored after
    /// [`close`](RpcClient::close).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use zmqv2_client::{CallError, Reason, RpcClient};
    /// # use zmqv2_proto::{RequestContext, Target};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = RpcClient::builder(Target::topic("backup")?)
    ///     .timeout(Duration::from_secs(6 * 3600))
    ///     .call_monitor_timeout(Duration::from_secs(30))
    ///     .build()?;
    /// match client.call::<u64>(&RequestContext::new(), "run", &()) {
    ///     Ok(bytes) => println!("{bytes} saved"),
    ///     Err(error) if error.reason() == Some(Reason::ServerLost) => println!("it was lost: {error}"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn call_monitor_timeout(mut self, timeout: Duration) -> Self {
        self.monitor = Some(timeout);
        self
    }

    /// How long a cast waits for its acknowledgement, from the cast on. Default: `rpc_cast_timeout` (30 s). The same bounds
    /// as for [`timeout`](Self::timeout).
    pub fn cast_timeout(mut self, timeout: Duration) -> Self {
        self.cast_timeout = Some(timeout);
        self
    }

    /// How often a message that may have been lost is sent again, with the same id: after its connection broke, after its
    /// server was lost, and when its timeout divided by `retries + 1` has passed without an answer. Default: 0, never.
    ///
    /// A server that still lives runs a repeated message once; *another* server does not know what the first one ran. So
    /// use this for methods that may run twice. With retries, a cast also waits for a connection until its timeout, not
    /// only for `rpc_zmq_connect_timeout`.
    pub fn retry(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Whether a message waits, within its timeout, until a server of its target is there. Default: no; it is refused at
    /// once (`NoRoute`). One that has waited in vain is refused with `Expired`, and never runs.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }

    /// How many casts and calls that do not block may be without an outcome. Default: 10,000; at least 1, at most
    /// 1,048,576. See [`when_full`](Self::when_full) for what happens then. A fanout counts once for each node; it is taken over
    /// whole as soon as there is room for one, so that the bound is exceeded by at most the nodes of one fanout.
    pub fn max_outstanding(mut self, messages: usize) -> Self {
        self.setup.max_outstanding = messages;
        self
    }

    /// How many bytes these messages may have together. Default: 64 MiB. A single message above this is sent when
    /// nothing else is outstanding. What is on its way through libzmq comes on top, at most the same again.
    pub fn max_outstanding_bytes(mut self, bytes: usize) -> Self {
        self.setup.max_outstanding_bytes = bytes;
        self
    }

    /// What becomes of a sender when one of these bounds is reached. Default: it waits.
    pub fn when_full(mut self, what: WhenFull) -> Self {
        self.setup.when_full = what;
        self
    }

    /// Is told the outcome of every cast, also of those whose handle was dropped. It runs on the client's I/O thread:
    /// be brief, and never block.
    ///
    /// ```no_run
    /// # use zmqv2_client::RpcClient;
    /// # use zmqv2_proto::Target;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = RpcClient::builder(Target::topic("mailer")?)
    ///     .observer(|target, outcome| println!("{target}: {outcome}"))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn observer(mut self, observer: impl Fn(&Target, &Outcome) + Send + Sync + 'static) -> Self {
        self.setup.observer = Some(Arc::new(observer));
        self
    }

    /// Makes the client. Opens nothing: a broker that is not there yet is no error.
    ///
    /// # Errors
    /// [`ClientError`] when settings are missing or contradict each other.
    pub fn build(self) -> Result<RpcClient, ClientError> {
        let target = self.target.with_default_exchange(&self.setup.config.control_exchange);
        let options = CallOptions {
            key: target.key(),
            target: Arc::new(target),
            timeout: self.timeout.unwrap_or(self.setup.config.response_timeout),
            cast_timeout: self.cast_timeout.unwrap_or(self.setup.config.cast_timeout),
            version_cap: self.version_cap,
            retries: self.retries,
            wait_for_ready: self.wait_for_ready,
            monitor: self.monitor,
        };
        Ok(RpcClient::new(Arc::new(self.setup.build()?), options))
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
        let shown = format!("{:?}", client.build().unwrap().prepare());
        assert!(shown.contains("timeout: 7s"), "{shown}");
    }
}
