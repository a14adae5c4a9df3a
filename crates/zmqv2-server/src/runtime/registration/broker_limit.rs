//! The largest body that the broker takes.

use std::sync::atomic::{AtomicUsize, Ordering};

use zmqv2_proto::control::Registered;

/// The broker says it when it accepts the registration. The workers ask before they answer.
#[derive(Debug)]
pub(crate) struct BrokerLimit(AtomicUsize);

impl Default for BrokerLimit {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl BrokerLimit {
    /// Reads the answer to a registration. A broker of an earlier version says nothing.
    pub(super) fn set(&self, registered: &[u8]) {
        let registered = serde_json::from_slice::<Registered>(registered).ok();
        let limit = registered.and_then(|registered| registered.max_message_bytes);
        let limit = limit.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        self.0.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
