//! Settings that stay the same for all messages of a client.

use std::fmt;
use std::sync::Arc;

use zmqv2_proto::{Config, MessageId, Target};

use crate::interceptor::chain::Interceptors;
use crate::io::admission::WhenFull;
use crate::outcome::Outcome;

const DEFAULT_MAX_OUTSTANDING: usize = 10_000;
const DEFAULT_MAX_OUTSTANDING_BYTES: usize = 64 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) allowed_remote_modules: Arc<[String]>,
    pub(crate) max_outstanding: usize,
    pub(crate) max_outstanding_bytes: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) observer: Option<Observer>,
    pub(crate) interceptors: Interceptors,
    /// A random number. It makes the pauses of this client differ from those of others.
    pub(crate) retry_jitter: u8,
}

/// A callback for every outcome.
#[derive(Clone)]
pub(crate) struct Observer(pub(crate) Arc<ObserverFn>);

type ObserverFn = dyn Fn(&Target, &Outcome) + Send + Sync;

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config: Config::default(),
            allowed_remote_modules: Arc::default(),
            max_outstanding: DEFAULT_MAX_OUTSTANDING,
            max_outstanding_bytes: DEFAULT_MAX_OUTSTANDING_BYTES,
            when_full: WhenFull::Wait,
            observer: None,
            interceptors: Interceptors::default(),
            retry_jitter: MessageId::random().as_bytes()[0],
        }
    }
}
