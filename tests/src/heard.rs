//! Listeners inside the test's process, which note what they hear, and what their notifiers are told.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use zmqv2_client::{Notifier, NotifyHandle, NotifyReport};
use zmqv2_proto::{Config, RequestContext};
use zmqv2_server::{NotificationListener, NotificationListenerBuilder};

use crate::{Node, PATIENCE, eventually};

/// What listeners have heard, in order; `T` is what is noted of each notification.
pub struct Heard<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Heard<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Heard<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + fmt::Debug> Heard<T> {
    /// Notes one more.
    ///
    /// # Panics
    /// When another thread has panicked while it noted.
    pub fn note(&self, what: T) {
        self.0.lock().expect("no panic in here").push(what);
    }

    /// All so far.
    ///
    /// # Panics
    /// When another thread has panicked while it noted.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.0.lock().expect("no panic in here").clone()
    }

    /// How many so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there is none so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there are at least so many, and returns all.
    ///
    /// # Panics
    /// When they do not come.
    pub fn wait(&self, count: usize) -> Vec<T> {
        eventually(&format!("{count} notifications are heard"), || self.len() >= count);
        self.all()
    }
}

impl Node {
    /// A listener of this topic and pool at this node, without endpoints yet.
    ///
    /// # Panics
    /// When these are no names.
    #[must_use]
    pub fn listening(&self, topic: &str, pool: &str) -> NotificationListenerBuilder {
        let builder = NotificationListener::builder().topic(topic).expect("a topic").pool(pool).expect("a pool");
        builder.config(self.config()).ipc_dir(&self.ipc_dir)
    }

    /// A notifier of this node.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn notifier(&self, topics: &[&str]) -> Notifier {
        self.notifier_with(topics, |_| {})
    }

    /// The same with other options.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn notifier_with(&self, topics: &[&str], change: impl FnOnce(&mut Config)) -> Notifier {
        let mut config = self.config();
        change(&mut config);
        let directory = zmqv2_matchmaker::open(&config).expect("a directory");
        let builder = Notifier::builder("tests").topics(topics).expect("topics").matchmaker(directory);
        builder.config(config).ipc_dir(Path::new(&self.ipc_dir)).build().expect("a notifier")
    }
}

/// Starts a listener and waits until notifications can come.
///
/// # Panics
/// When they cannot.
#[must_use]
pub fn started(builder: NotificationListenerBuilder) -> NotificationListener {
    let listener = builder.start().expect("a listener");
    listener.wait_ready(PATIENCE).expect("a registered listener");
    listener
}

/// Says `number` with priority info.
///
/// # Panics
/// When it is not sent.
pub fn say(notifier: &Notifier, number: u64) -> NotifyHandle {
    notifier.info(&RequestContext::new(), "said", &number).expect("it is sent")
}

/// Waits for what becomes of a notification.
///
/// # Panics
/// When that is not known in time.
#[must_use]
pub fn told(handle: &NotifyHandle) -> NotifyReport {
    handle.wait(PATIENCE).expect("a report")
}
