//! Listeners and notifiers inside the test's process.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use zmqv2_client::{Notifier, NotifyHandle, NotifyReport};
use zmqv2_proto::{Config, RequestContext};
use zmqv2_server::{NotificationListener, NotificationListenerBuilder};

use crate::{Node, PATIENCE, eventually};

/// A log of what handlers received, in order. Clones share it.
pub struct NotificationLog<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for NotificationLog<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for NotificationLog<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + fmt::Debug> NotificationLog<T> {
    pub fn add(&self, what: T) {
        self.0.lock().expect("no panic in here").push(what);
    }

    pub fn all(&self) -> Vec<T> {
        self.0.lock().expect("no panic in here").clone()
    }

    pub fn len(&self) -> usize {
        self.all().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for at least `count` entries, and returns all.
    pub fn wait(&self, count: usize) -> Vec<T> {
        eventually(&format!("{count} notifications are heard"), || self.len() >= count);
        self.all()
    }
}

impl Node {
    /// A builder for a listener of this topic and pool at this node, without endpoints yet.
    pub fn listener_builder(&self, topic: &str, pool: &str) -> NotificationListenerBuilder {
        let builder = NotificationListener::builder().topic(topic).expect("a topic").pool(pool).expect("a pool");
        builder.config(self.config()).ipc_dir(&self.ipc_dir)
    }

    /// Waits until listeners have handled all notifications that the node's broker keeps. Fails the
    /// test if there is a dead letter.
    pub fn wait_all_handled(&self) {
        eventually("every notification is handled", || self.status().notifications == 0);
        assert_eq!(self.status().dead_letters, []);
    }

    pub fn notifier(&self, topics: &[&str]) -> Notifier {
        self.notifier_with(topics, |_| {})
    }

    pub fn notifier_with(&self, topics: &[&str], change: impl FnOnce(&mut Config)) -> Notifier {
        let mut config = self.config();
        change(&mut config);
        let directory = zmqv2_matchmaker::open(&config).expect("a directory");
        let builder = Notifier::builder("tests").topics(topics).expect("topics").matchmaker(directory);
        builder.config(config).ipc_dir(Path::new(&self.ipc_dir)).build().expect("a notifier")
    }
}

/// Starts a listener and waits until it is registered.
pub fn started(builder: NotificationListenerBuilder) -> NotificationListener {
    let listener = builder.start().expect("a listener");
    listener.wait_ready(PATIENCE).expect("a registered listener");
    listener
}

/// Sends `number` with priority info.
pub fn send_number(notifier: &Notifier, number: u64) -> NotifyHandle {
    notifier.info(&RequestContext::new(), "said", &number).expect("it is sent")
}

/// Waits for the report of a notification.
pub fn report_of(handle: &NotifyHandle) -> NotifyReport {
    handle.wait(PATIENCE).expect("a report")
}
