//! Making a notifier.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, Exchange, InvalidName, Target, Topic};

use crate::api::connections::Connections;
use crate::api::notifier::{Notifier, NotifierOptions};
use crate::api::setup::{ClientError, Setup};
use crate::io::admission::WhenFull;
use crate::outcome::Outcome;

/// The topic of a notifier that names none, as in oslo.messaging.
const DEFAULT_TOPIC: &str = "notifications";
/// How long a broker may keep a notification that nobody takes, unless its notifier says otherwise.
pub const DEFAULT_TIME_TO_LIVE: Duration = Duration::from_secs(3600);

/// Settings of a notifier to be, made by [`Notifier::builder`] or [`RpcClient::notifier`](crate::RpcClient::notifier).
/// Everything but the publisher has a default.
#[derive(Clone)]
#[must_use = "a builder makes no notifier before `build`"]
pub struct NotifierBuilder {
    publisher_id: String,
    topics: Option<Vec<Topic>>,
    exchange: Option<Exchange>,
    timeout: Option<Duration>,
    time_to_live: Duration,
    retries: u32,
    source: Source,
}

/// What the notifier sends through.
#[derive(Clone)]
enum Source {
    Own(Box<Setup>),
    Shared(Arc<Connections>),
}

impl fmt::Debug for NotifierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifierBuilder").field("publisher_id", &self.publisher_id).finish_non_exhaustive()
    }
}

impl NotifierBuilder {
    pub(crate) fn new(publisher_id: String) -> Self {
        Self::with(publisher_id, Source::Own(Box::default()))
    }

    pub(crate) fn through(connections: Arc<Connections>, publisher_id: String) -> Self {
        Self::with(publisher_id, Source::Shared(connections))
    }

    fn with(publisher_id: String, source: Source) -> Self {
        Self {
            publisher_id,
            topics: None,
            exchange: None,
            timeout: None,
            time_to_live: DEFAULT_TIME_TO_LIVE,
            retries: 0,
            source,
        }
    }

    /// Where to notify: every topic gets every notification, under `<topic>.<priority>`. Default: `notifications`.
    ///
    /// # Errors
    /// [`InvalidName`] when one of them is not a topic.
    pub fn topics<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Result<Self, InvalidName> {
        let mut names: Vec<Topic> = Vec::new();
        for topic in topics {
            let topic = Topic::new(topic)?;
            if !names.contains(&topic) {
                names.push(topic);
            }
        }
        self.topics = Some(names);
        Ok(self)
    }

    /// The exchange of the topics. Default: the one that is configured (`control_exchange`).
    pub fn exchange(mut self, exchange: Exchange) -> Self {
        self.exchange = Some(exchange);
        self
    }

    /// How long a notification waits for the word that somebody has taken it over. Default: `rpc_cast_timeout` (30 s). Less
    /// than 1 ms counts as 1 ms, more than the time to live as that.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long a broker may keep a notification until a listener has taken it; then it is dropped. Default:
    /// [`DEFAULT_TIME_TO_LIVE`] (1 hour). Less than 1 ms counts as 1 ms, more than [`Ttl::MAX`](zmqv2_proto::Ttl::MAX)
    /// (49 days) as that.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// How often a notification that may have been lost is sent again, with the same id
    /// ([`RpcClientBuilder::retry`](crate::RpcClientBuilder::retry)). Default: never. A listener drops what it has handled
    /// before; another listener of the pool may get it a second time.
    pub fn retry(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The options. Default: [`Config::default`].
    ///
    /// This and the following settings are about what the notifier sends through. One that sends
    /// [through a client](crate::RpcClient::notifier) has the client's, and these are not regarded.
    pub fn config(self, config: Config) -> Self {
        self.own(|setup| setup.config = config)
    }

    /// As [`RpcClientBuilder::matchmaker`](crate::RpcClientBuilder::matchmaker).
    pub fn matchmaker(self, matchmaker: Arc<dyn Matchmaker>) -> Self {
        self.own(|setup| setup.matchmaker = Some(matchmaker))
    }

    /// As [`RpcClientBuilder::ipc_dir`](crate::RpcClientBuilder::ipc_dir).
    pub fn ipc_dir(self, dir: impl Into<PathBuf>) -> Self {
        self.own(|setup| setup.ipc_dir = Some(dir.into()))
    }

    /// As [`RpcClientBuilder::transport`](crate::RpcClientBuilder::transport).
    pub fn transport(self, transport: Transport) -> Self {
        self.own(|setup| setup.transport = Some(transport))
    }

    /// As [`RpcClientBuilder::max_outstanding`](crate::RpcClientBuilder::max_outstanding). What a broker keeps is not
    /// outstanding any more.
    pub fn max_outstanding(self, messages: usize) -> Self {
        self.own(|setup| setup.max_outstanding = messages)
    }

    /// As [`RpcClientBuilder::max_outstanding_bytes`](crate::RpcClientBuilder::max_outstanding_bytes).
    pub fn max_outstanding_bytes(self, bytes: usize) -> Self {
        self.own(|setup| setup.max_outstanding_bytes = bytes)
    }

    /// As [`RpcClientBuilder::when_full`](crate::RpcClientBuilder::when_full).
    pub fn when_full(self, what: WhenFull) -> Self {
        self.own(|setup| setup.when_full = what)
    }

    /// As [`RpcClientBuilder::observer`](crate::RpcClientBuilder::observer). The target's topic is `<topic>.<priority>`, its
    /// server the pool.
    pub fn observer(self, observer: impl Fn(&Target, &Outcome) + Send + Sync + 'static) -> Self {
        self.own(|setup| setup.observer = Some(Arc::new(observer)))
    }

    fn own(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        if let Source::Own(setup) = &mut self.source {
            change(setup);
        }
        self
    }

    /// Makes the notifier. Opens nothing: a broker that is not there yet is no error.
    ///
    /// # Errors
    /// [`ClientError`] when settings are missing or contradict each other.
    pub fn build(self) -> Result<Notifier, ClientError> {
        let topics = match self.topics {
            Some(topics) => topics,
            None => Topic::new(DEFAULT_TOPIC).into_iter().collect(),
        };
        if topics.is_empty() {
            return Err(ClientError::NoTopic);
        }
        let connections = match self.source {
            Source::Own(setup) => Arc::new(setup.build()?),
            Source::Shared(connections) => connections,
        };
        let options = NotifierOptions {
            publisher_id: self.publisher_id,
            exchange: self.exchange.unwrap_or_else(|| connections.settings.exchange.clone()),
            topics,
            timeout: self.timeout.unwrap_or(connections.settings.cast_timeout),
            time_to_live: self.time_to_live,
            retries: self.retries,
        };
        Ok(Notifier::new(connections, options))
    }
}
