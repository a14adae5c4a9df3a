//! The servers that have registered: how to reach them, and how large a body may be for them.

use std::collections::HashMap;

use zmqv2_proto::InstanceId;
use zmqv2_proto::control::ServerRegistration;

use crate::message::origin::Origin;

/// A server leaves when it withdraws or is lost. Above this number, those are forgotten that could
/// never be connected: then a server without workers is not told of it, and no limit is known.
const MOST: usize = 10_000;

#[derive(Debug)]
struct Registrant {
    /// The sender of its last registration.
    origin: Origin,
    max_message_bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Registrants(HashMap<InstanceId, Registrant>);

impl Registrants {
    pub(super) fn add(&mut self, registration: &ServerRegistration, origin: Origin) {
        if self.0.len() >= MOST && !self.0.contains_key(&registration.instance) {
            self.0.clear();
        }
        let limit = registration.max_message_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let registrant = Registrant { origin, max_message_bytes: limit.unwrap_or(usize::MAX) };
        self.0.insert(registration.instance, registrant);
    }

    /// Forgets a server. Returns the sender of its last registration.
    pub(super) fn remove(&mut self, instance: InstanceId) -> Option<Origin> {
        self.0.remove(&instance).map(|registrant| registrant.origin)
    }

    /// The largest body for the workers of a server, as far as it has said.
    pub(super) fn max_message_bytes(&self, instance: InstanceId) -> usize {
        self.0.get(&instance).map_or(usize::MAX, |registrant| registrant.max_message_bytes)
    }
}
