//! The part of a request that the engine reads.

use std::time::Instant;

use zmqv2_proto::{Flags, HeaderView, Kind, Ttl};

use crate::engine::{Arrival, Pattern};

/// The memory of a waiting request besides its frames: return path, table slot and queue entries.
/// It counts for the byte limit, so that requests with empty bodies are bounded as well.
const REQUEST_OVERHEAD: usize = 512;

/// Copies of the names in a header. Reusing it for the next header saves the allocations.
#[derive(Debug, Default)]
pub(crate) struct Names {
    key: String,
    server: String,
}

impl Names {
    /// Describes a request with frames of `bytes` that arrived at `now` with this time left. The
    /// time to live in its header is longer if the request was long on the way.
    pub(crate) fn arrival(&mut self, view: &HeaderView<'_>, left: Ttl, bytes: usize, now: Instant) -> Arrival<'_> {
        view.key().clone_into(&mut self.key);
        view.server().clone_into(&mut self.server);
        let flags = view.flags();
        Arrival {
            pattern: match view.kind() {
                Kind::Fanout => Pattern::Fanout,
                Kind::Notify => Pattern::Notify,
                _ => Pattern::One,
            },
            is_call: view.kind() == Kind::Call,
            server: &self.server,
            wait_for_ready: flags.contains(Flags::WAIT_FOR_READY),
            answer_stored: view.kind() == Kind::Notify && flags.contains(Flags::ANSWER_STORED),
            monitored: flags.contains(Flags::MONITORED),
            ..Arrival::new(view.id(), &self.key, left.deadline(now), bytes + REQUEST_OVERHEAD)
        }
    }
}
