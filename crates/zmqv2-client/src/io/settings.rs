//! Settings of the I/O thread.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::Target;

use crate::delivery::table::Limits;
use crate::io::admission::WhenFull;
use crate::outcome::Outcome;

/// A callback for every outcome.
pub(crate) type Observer = Arc<dyn Fn(&Target, &Outcome) + Send + Sync>;

/// The settings that all messages share.
#[derive(Clone)]
pub(crate) struct IoSettings {
    pub(crate) limits: Limits,
    pub(crate) when_full: WhenFull,
    pub(crate) observer: Option<Observer>,
    pub(crate) max_links: usize,
    /// How long the thread polls before it sleeps.
    pub(crate) busy_poll: Duration,
    pub(crate) adaptive_poll: Duration,
}

impl fmt::Debug for IoSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoSettings")
            .field("limits", &self.limits)
            .field("when_full", &self.when_full)
            .field("observer", &self.observer.is_some())
            .field("max_links", &self.max_links)
            .field("busy_poll", &self.busy_poll)
            .field("adaptive_poll", &self.adaptive_poll)
            .finish()
    }
}
