//! Making a notifier with connections of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, Exchange, Target};

use crate::api::notifier::{Notifier, NotifyOptions, notify_setters};
use crate::api::setup::{ClientError, Setup, setup_setters};
use crate::io::admission::WhenFull;
use crate::outcome::Outcome;

/// Builds a [`Notifier`] with connections of its own. Everything but the publisher has a default.
#[derive(Debug, Clone)]
#[must_use = "call `build` to make the notifier"]
pub struct NotifierBuilder {
    setup: Setup,
    options: NotifyOptions,
}

impl NotifierBuilder {
    pub(crate) fn new(publisher_id: String) -> Self {
        Self { setup: Setup::default(), options: NotifyOptions::new(publisher_id) }
    }

    notify_setters!();
    setup_setters!();

    /// Makes the notifier. No connection is opened, so the broker may start later.
    ///
    /// # Errors
    /// [`ClientError`] if settings are missing or do not fit together.
    pub fn build(self) -> Result<Notifier, ClientError> {
        Ok(Notifier::new(Arc::new(self.setup.build()?), self.options))
    }
}
